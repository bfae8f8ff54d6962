"""Small nests to schedule, and running a program before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Program
from intaglio.loop.schedule import Schedule
from intaglio.loop.schedule.program import schedule_program
from intaglio.loop.spec import verify
from intaglio.loop.text import parse_program, print_program
from intaglio.shared.errors import UnsupportedError

MATMUL = """program p
input x: f32[12, 20]
constant w: f32[20, 32]
output y: f32[12, 32]
kernel k(x: f32[12, 20], w: f32[20, 32], y: f32[12, 32]) writes y
    for i in range(12)
        for j in range(32)
            alloc acc: f32[] register
            acc[()] = 0.0
            for k in range(20)
                add acc[()] = x[i, k] * w[k, j]
            y[i, j] = max(acc[()], 0.0)
phase forward
    k(x, w, y)
"""
DIRECT = """program p
input x: f32[12, 8]
output y: f32[12]
kernel k(x: f32[12, 8], y: f32[12]) writes y
    for i in range(12)
        y[i] = 0.0
        for j in range(8)
            add y[i] = x[i, j]
phase forward
    k(x, y)
"""
ELEMENTWISE = """program p
input x: f32[6, 13]
output y: f32[6, 13]
kernel k(x: f32[6, 13], y: f32[6, 13]) writes y
    for i in range(6)
        for j in range(13)
            y[i, j] = max(x[i, j], 0.0) + 2.0
phase forward
    k(x, y)
"""
INSIDE = "(index(0) <= index(i + r - 1)) & (index(i + r) <= index(9)) & " \
    "((index(0) <= index(j + s - 1)) & (index(j + s) <= index(8)))"  # fmt: skip
CONV = f"""program p
input x: f32[3, 9, 8]
constant w: f32[4, 3, 3, 3]
output y: f32[4, 9, 8]
kernel k(x: f32[3, 9, 8], w: f32[4, 3, 3, 3], y: f32[4, 9, 8]) writes y
    for o in range(4)
        for i in range(9)
            for j in range(8)
                alloc acc: f32[] register
                acc[()] = 0.0
                for c in range(3)
                    for r in range(3)
                        for s in range(3)
                            add acc[()] = where({INSIDE}, x[c, i + r - 1, j + s - 1], 0.0) * w[o, c, r, s]
                y[o, i, j] = acc[()]
phase forward
    k(x, w, y)
"""
ROWS = """program p
input x: f32[5, 16]
output y: f32[5, 16]
kernel k(x: f32[5, 16], y: f32[5, 16]) writes y
    for i in range(5)
        alloc e: f32[16] stack
        alloc top: f32[] register
        top[()] = f32(ninf)
        for j in range(16)
            max top[()] = x[i, j]
        alloc sum: f32[] register
        sum[()] = 0.0
        for j in range(16)
            e[j] = x[i, j] - top[()]
            add sum[()] = e[j]
        for j in range(16)
            y[i, j] = e[j] * sum[()]
phase forward
    k(x, y)
"""
TURN = """program p
input x: f32[8, 12]
output y: f32[12, 8]
kernel k(x: f32[8, 12], y: f32[12, 8]) writes y
    for i in range(12)
        for j in range(8)
            y[i, j] = x[j, i]
phase forward
    k(x, y)
"""
SCAN = """program p
input x: f32[9, 8]
output y: f32[9, 8]
kernel k(x: f32[9, 8], y: f32[9, 8]) writes y
    for a in range(9)
        for b in range(8)
            y[a, b] = x[a, b]
    for i in range(8)
        for j in range(7)
            y[i + 1, j] = y[i, j + 1] + x[i, j]
phase forward
    k(x, y)
"""
NESTS = {
    "matmul": MATMUL, "direct": DIRECT, "elementwise": ELEMENTWISE, "conv": CONV,
    "rows": ROWS, "turn": TURN, "scan": SCAN,
}  # fmt: skip


def chain(stride: int, taps: int) -> str:
    """Two stencils in a row, in two kernels: `h` is local to them once they run as one."""
    rows = (20 - taps) // stride + 1
    return f"""program p
input x: f32[20, 6]
scratch h: f32[20, 6]
output y: f32[{rows}, 6]
kernel first(x: f32[20, 6], h: f32[20, 6]) writes h
    for i in range(20)
        for j in range(6)
            h[i, j] = x[i, j] * 2.0
kernel second(h: f32[20, 6], y: f32[{rows}, 6]) writes y
    for i in range({rows})
        for j in range(6)
            alloc acc: f32[] register
            acc[()] = 0.0
            for r in range({taps})
                add acc[()] = h[{stride} * i + r, j]
            y[i, j] = acc[()]
phase forward
    first(x, h)
    second(h, y)
"""


def padded_chain(taps: int) -> str:
    """A stencil over the rows of another one, with rows of zeros around them."""
    border = taps // 2
    guard = f"(index({border}) <= index(i + r)) & (index(i + r) < index({7 + border}))"
    return f"""program p
input x: f32[7, 6]
scratch h: f32[7, 6]
output y: f32[7, 6]
kernel first(x: f32[7, 6], h: f32[7, 6]) writes h
    for i in range(7)
        for j in range(6)
            alloc twice: f32[] register
            twice[()] = x[i, j] + x[i, j]
            h[i, j] = twice[()]
kernel second(h: f32[7, 6], y: f32[7, 6]) writes y
    for i in range(7)
        for j in range(6)
            alloc acc: f32[] register
            acc[()] = 0.0
            for r in range({taps})
                add acc[()] = where({guard}, h[i + r - {border}, j], 0.0)
            y[i, j] = acc[()]
phase forward
    first(x, h)
    second(h, y)
"""


def program(text: str) -> Program:
    """The program, its constants filled with small integers: sums of products of them are exact."""
    return parse_program(text, arrays(parse_program(text)))


def arrays(made: Program, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    buffers = [*made.inputs, *made.outputs, *made.constants]
    return {b.name: rng.integers(-4, 5, b.shape).astype(b.dtype.numpy) for b in buffers}


def results(made: Program) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs of the interpreter, for inputs that do not depend on what was scheduled."""
    verify(made)
    rng = np.random.default_rng(1)
    held = {b.name: rng.integers(-4, 5, b.shape).astype(b.dtype.numpy) for b in [*made.inputs, *made.outputs]}
    evaluate(made, held)
    return {b.name: held[b.name] for b in made.outputs}


def check(text: str, steps: str, key: str = "k") -> Program:
    """The scheduled program: valid, the same to the last bit, and its text reads back."""
    want = results(program(text))
    made = schedule_program(program(text), {key: steps})
    for name, got in results(made).items():
        np.testing.assert_array_equal(got, want[name])
    printed = print_program(made)
    assert print_program(parse_program(printed)) == printed
    return made


def random_steps(text: str, pick: Callable[[list[Any]], Any], count: int = 6) -> Schedule:
    """Up to `count` legal steps, chosen by `pick`; illegal ones are refused and left out."""
    from intaglio.loop.schedule.program import schedule_of

    made = schedule_of(program(text), "k")
    for number in range(count):
        step = _random_step(made, pick, number)
        try:
            made.apply(step)
        except UnsupportedError:
            continue
    return made


def _random_step(made: Schedule, pick: Callable[[list[Any]], Any], number: int) -> str:
    from intaglio.loop.ir import Alloc, walk
    from intaglio.loop.schedule.nest import loops_in

    body = made.kernel.body
    loops = list(dict.fromkeys(loop.var.name for loop, _ in loops_in(body)))
    if not loops:
        return "unroll(none)"
    loop, other = pick(loops), pick(loops)
    local = [s.buffer.name for s in walk(body) if isinstance(s, Alloc)]
    array = pick([b.name for b in made.kernel.params] + local)
    a, b, size = f"u{number}", f"v{number}", pick([2, 3, 4, 8])
    return pick(
        [
            f"split({loop}, {size}) -> {a}, {b}",
            f"split({loop}, {size}, rest) -> {a}, {b}",
            f"split({loop}, {size}, balanced) -> {a}, {b}",
            f"reorder({loop}, {other})",
            f"fuse({loop}, {other}) -> {a}",
            f"unroll({loop})",
            f"vectorize({loop})",
            f"parallel({loop})",
            f"specialise({loop}, first={pick([0, 1])}, last={pick([0, 1, 2])})",
            f"cache_write({array}, {loop})",
            f"cache_write({array}, {loop}) -> {a}",
            f"cache_read({array}, {loop}) -> {a}",
            f"pad({array}, {loop}) -> {a}",
            f"pad({array}) -> {a}",
            f"pack({array}, [1 // {size}, 0, 1 % {size}]) -> {a}",
            f"prefetch({array}, {loop}, {size})",
            f"layout({array}, [0 // {size}, 0 % {size}])",
        ]
    )
