"""Loops of the driver: where carries live, what is done once before them, and which way their steps read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio import nn
from intaglio.array.control import cond, scan, while_loop
from intaglio.compile import Settings, capture, lower_graph
from intaglio.graph.eval import evaluate
from intaglio.loop.alternate import alternate_loops
from intaglio.loop.eval import evaluate as run_loops
from intaglio.loop.ir import Block, Call, For, Program, Stmt, While, walk
from intaglio.loop.peel import peel_loops
from intaglio.loop.spec import verify
from intaglio.loop.text import parse_program, print_program
from intaglio.ops.compositions.indexing import embedding
from intaglio.shared.target import GENERIC

RNG = np.random.default_rng(0)
SMALL = {"generic": "generic", "v3": "x86-64-v3", "v4": "x86-64-v4"}


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def lowered(function: Callable[..., Any], arrays: list[np.ndarray], **settings: Any) -> Program:
    """The program of a function; its loops give what the graph's interpreter gives."""
    graph = capture(function, arrays)
    program = lower_graph(graph, Settings(**{"target": "generic", **settings})).program
    check(program, arrays, evaluate(graph, arrays)[0])
    return program


def check(program: Program, arrays: list[np.ndarray], expected: Any) -> None:
    given = {b.name: a for b, a in zip(program.inputs, arrays, strict=True)}
    made = {b.name: np.zeros(b.shape, b.dtype.numpy) for b in program.outputs}
    run_loops(program, {**given, **made})
    for y, wanted in zip(made.values(), expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-5)


def loops(program: Program) -> list[For]:
    return [s for body in program.phases.values() for s in walk(body) if isinstance(s, For)]


def calls(statements: Block | Iterator[Stmt]) -> list[str]:
    return [s.kernel.name for s in statements if isinstance(s, Call)]


# Carries that are kept for all steps


def mixed(c: Any, row: Any) -> Any:
    return (c * 0.5 + row).tanh()


def after(c: Any, row: Any) -> Any:
    new = mixed(c, row)
    return new, new


def before(c: Any, row: Any) -> Any:
    return mixed(c, row), c


def both(c: Any, row: Any) -> Any:
    new = mixed(c, row)
    return new, (c, new, new * row)


def shifted(carry: Any, row: Any) -> Any:
    a, b = carry
    return (mixed(a, row) + b, a), (a, b)


def twins(carry: Any, row: Any) -> Any:
    a, b = carry
    new = mixed(a, row) - b
    return (new, new), new


def given(c: Any, row: Any) -> Any:
    return row, (c, row)


ONE_CALL = {"after": after, "before": before, "both": both}
STEPS = {**ONE_CALL, "shifted": shifted, "twins": twins, "given": given}


@pytest.mark.parametrize("direct", [False, True], ids=["used", "returned"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reverse"])
@pytest.mark.parametrize("name", STEPS)
def test_carries_that_are_kept(name: str, reverse: bool, direct: bool) -> None:
    pair = name in ("shifted", "twins")

    def model(x: Any, start: Any) -> Any:
        final, rows = scan(STEPS[name], (start, start * 2) if pair else start, x, reverse=reverse)
        results = [*(final if pair else [final]), *(rows if isinstance(rows, tuple) else [rows])]
        return tuple(results) if direct else tuple(r * 2 + 1 for r in results)

    for steps in (1, 4):
        program = lowered(model, [array(steps, 3, 5), array(3, 5)])
        if name in ONE_CALL and not direct:
            (loop,) = loops(program)
            assert len(calls(loop.body)) == 1, "no copies beside the step itself"


# What is done once before a loop

WEIGHTS = array(64, 64) * np.float32(0.1)


def product(h: Any, w: Any) -> Any:
    return (h @ w.T).tanh()


@pytest.mark.parametrize("target", SMALL.values(), ids=SMALL)
def test_operands_that_stay_the_same_are_packed_before_the_loop(target: str) -> None:
    def model(x: Any, w: Any) -> Any:
        return scan(lambda h, row: (product(h, w) + row, h), x[0], x)[1] + 1

    program = lowered(model, [array(6, 8, 64), WEIGHTS], target=target)
    (loop,) = loops(program)
    packs = [name for name in calls(program.phases["forward"]) if name.endswith("_pack")]
    assert len(packs) == 1
    written = {b.name for call in loop.body if isinstance(call, Call) for b in call.kernel.written}
    assert not any(name.startswith("panel") for name in written)
    assert any("before the loop" in note for kernel in program.kernels for note in kernel.schedule)


def nested(changing: bool) -> Callable[..., Any]:
    """Loops in a loop; the weights change with every step of the outer one, or never."""

    def model(x: Any, w: Any) -> Any:
        def outer(carry: Any, row: Any) -> Any:
            h, own = carry
            weights = own if changing else w
            h, _ = scan(lambda h, r: (product(h, weights) + r, None), h, row)
            return (h, own * 0.5), None

        (h, own), _ = scan(outer, (x[0, 0], w), x)
        return h + 1, own

    return model


@pytest.mark.parametrize("changing", [False, True], ids=["same", "changing"])
def test_packing_goes_before_the_outermost_loop_in_which_nothing_changes(changing: bool) -> None:
    program = lowered(nested(changing), [array(3, 4, 8, 64), WEIGHTS], target="x86-64-v3")
    outer = next(s for s in program.phases["forward"] if isinstance(s, For))
    outside = any(name.endswith("_pack") for name in calls(program.phases["forward"]))
    inside = any(name.endswith("_pack") for name in calls(outer.body))
    assert (outside, inside) == (not changing, changing)


def test_nothing_is_packed_for_a_branch_that_may_not_run() -> None:
    def model(x: Any, w: Any) -> Any:
        def step(h: Any, row: Any) -> Any:
            return cond(row.sum() > 0, lambda h, w: product(h, w), lambda h, w: h, h, w), None

        return scan(step, x[0], x)[0] + 1

    program = lowered(model, [array(5, 8, 64), WEIGHTS], target="x86-64-v3")
    assert not any(kernel.name.endswith("_pack") for kernel in program.kernels)


def test_packing_before_a_loop_of_unknown_length() -> None:
    def model(x: Any, w: Any) -> Any:
        return while_loop(lambda h: h.abs().sum() > 1.0, lambda h: product(h, w) * 0.3, x) + 1

    program = lowered(model, [array(8, 64), WEIGHTS], target="x86-64-v3")
    statements = program.phases["forward"].statements
    packed = next(k for k, s in enumerate(statements) if isinstance(s, Call) and "_pack" in s.kernel.name)
    assert packed < next(k for k, s in enumerate(statements) if isinstance(s, While))


def test_weights_that_a_carry_starts_from() -> None:
    def model(x: Any, w: Any) -> Any:
        (h, c), _ = scan(lambda s, row: ((product(s[0], w) + row, s[1] * 0.5), None), (x[0], w), x)
        return h + 1, c

    lowered(model, [array(5, 8, 64), WEIGHTS], target="x86-64-v3")


# The first and the last step


def products(program: Program, name: str) -> int:
    """How many calls of a phase's own, outside of loops, are of kernels with a product."""
    own = [s for s in program.phases[name] if isinstance(s, Call)]
    return sum("dot: " in call.kernel.doc[0] for call in own)


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reverse"])
def test_the_first_step_has_no_product_with_zeros(reverse: bool) -> None:
    def model(start: np.ndarray | None) -> Callable[..., Any]:
        def run(x: Any) -> Any:
            h = x[0] * 0.0 if start is None else start
            final, rows = scan(lambda h, r: ((h @ WEIGHTS + r).tanh(), h), h, x, reverse=reverse)
            return final + 1, rows * 2

        return run

    x = array(5, 3, 64)
    (loop,) = loops(lowered(model(np.zeros((3, 64), np.float32)), [x]))
    assert loop.stop == 4
    for start in (None, array(3, 64)):
        (loop,) = loops(lowered(model(start), [x]))
        assert loop.stop == 5, "what is not known to be zero is multiplied"


@pytest.mark.parametrize("layer", ["LSTM(6, 16)", "GRU(6, 16)", "RNN(6, 16)"])
def test_layers_begin_without_their_recurrent_product(layer: str) -> None:
    module = eval(f"nn.{layer}", {"nn": nn})
    program = lowered(lambda x: module(x)[0] + 1, [array(4, 2, 6)])
    (loop,) = loops(program)
    assert loop.stop == 3
    assert products(program, "forward") == 1


def test_the_first_step_reads_the_constants_of_the_others() -> None:
    table = array(200, 64)

    def model(rows: Any) -> Any:
        start = np.zeros(64, np.float32)
        return scan(lambda h, r: ((WEIGHTS @ h + embedding(r, table)).tanh(), None), start, rows)[0]

    program = lowered(model, [np.array([3, 150, 9])])
    (loop,) = loops(program)
    assert loop.stop == 2
    assert sum(b.shape == table.shape for b in program.constants) == 1


def test_products_with_infinite_weights_stay() -> None:
    weights = WEIGHTS.copy()
    weights[3, 5] = np.inf
    x = array(3, 2, 64)

    def model(x: Any) -> Any:
        return scan(lambda h, r: (h @ weights + r, h), np.zeros((2, 64), np.float32), x)[0]

    graph = capture(model, [x])
    program = lower_graph(graph, Settings(target="generic")).program
    (loop,) = loops(program)
    assert loop.stop == 3
    y = np.zeros((2, 64), np.float32)
    with np.errstate(invalid="ignore"):
        run_loops(program, {program.inputs[0].name: x, program.outputs[0].name: y})
        expected = evaluate(graph, [x])[0][0]
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


CHAIN = """program p
input x: f32[4, 8]
output y: f32[4, 8]
scratch h: f32[8]
scratch g: f32[8]
kernel take(x: f32[8], h: f32[8], y: f32[8]) writes y
    for i in range(8)
        y[i] = x[i] + h[i]
kernel carry(y: f32[8], g: f32[8]) writes g
    for i in range(8)
        g[i] = y[i] * 0.5
kernel again(g: f32[8], h: f32[8]) writes h
    for i in range(8)
        h[i] = g[i] + 1.0
kernel clear(h: f32[8]) writes h
    for i in range(8)
        h[i] = 0.0
phase forward
    clear(h)
    for t in range(4)
        take(x[8 * t:], h, y[8 * t:])
        carry(y[8 * t:], g)
        again(g, h)
"""


def test_the_last_step_makes_nothing_for_a_next_one() -> None:
    x = array(4, 8)
    expected, h = [], np.zeros(8, np.float32)
    for row in x:
        expected.append(row + h)
        h = expected[-1] * np.float32(0.5) + 1
    program = peel_loops(parse_program(CHAIN))
    verify(program)
    check(program, [x], [np.stack(expected)])
    assert calls(program.phases["forward"]) == ["clear", "take"]
    (loop,) = loops(program)
    assert loop.stop == 3
    assert calls(loop.body) == ["take", "carry", "again"]


@pytest.mark.parametrize("reader", ["again(g, y)", "clear(h)"])
def test_what_is_touched_behind_a_loop_is_made_in_its_last_step(reader: str) -> None:
    program = peel_loops(parse_program(CHAIN + f"    {reader}\n"))
    (loop,) = loops(program)
    last = calls(program.phases["forward"])
    assert last[1:-1] == (["take", "carry"] if reader == "again(g, y)" else [])
    assert loop.stop == (3 if reader == "again(g, y)" else 4)


# Forwards and backwards


@pytest.mark.parametrize("target", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("steps", [5, 6])
@pytest.mark.parametrize("layer", ["LSTM(7, 80)", "GRU(7, 80)", "RNN(7, 100)"])
def test_every_other_step_of_one_sample_goes_backwards(layer: str, steps: int, target: str) -> None:
    intaglio.manual_seed(0)
    module = eval(f"nn.{layer}", {"nn": nn})
    program = lowered(lambda x: module(x)[0] + 1, [array(steps, 1, 7)], target=target)
    (loop,) = loops(program)
    (name,) = (name for name in calls(loop.body) if name.endswith("_back"))
    assert loop.step == 2
    assert calls(loop.body).count(name.removesuffix("_back")) == 1
    assert (name.removesuffix("_back") in calls(program.phases["forward"])) == ((steps - 1) % 2 == 1)
    plain = lowered(
        lambda x: module(x)[0] + 1, [array(steps, 1, 7)], target=target, disabled_passes=("AlternateLoops",)
    )
    assert not any(kernel.name.endswith("_back") for kernel in plain.kernels)


STREAM = """program p
input h: f32[6, 32]
input w: f32[32, 64]
output y: f32[6, 64]
kernel step(h: f32[32], w: f32[32, 64], y: f32[64]) writes y
    for j in range(64)
        alloc acc: f32[] register
        acc[()] = 0.0
        for k in range(32)
            {order}add acc[()] = h[k] * w[k, j]
        y[j] = acc[()]
phase forward
    for t in range(6)
        step(h[32 * t:], w[{offset}:], y[64 * t:])
"""
NEAR = replace(GENERIC, l1=1 << 12, l2=1 << 14)


def stream(order: str = "", offset: str = "0", **target: int) -> Program:
    text = STREAM.format(order=order, offset=offset).replace("w[0:]", "w")
    if offset != "0":
        text = text.replace("input w: f32[32, 64]", "input w: f32[37, 64]")
    return alternate_loops(parse_program(text), replace(NEAR, **target))


def test_backwards_is_the_same_sum() -> None:
    program = stream()
    verify(program)
    assert "h[-k + 31] * w[-k + 31, j]" in print_program(program)
    h, w = array(6, 32), array(32, 64)
    check(program, [h, w], [h @ w])


@pytest.mark.parametrize(
    "program",
    [
        lambda: stream(order="ordered "),
        lambda: stream(offset="64 * t"),
        lambda: stream(l1=1 << 14, l2=1 << 15),
        lambda: stream(l1=1 << 11, l2=1 << 12),
    ],
    ids=["ordered", "another array in each step", "fits the first cache", "beyond the second cache"],
)
def test_loops_that_go_forwards_only(program: Callable[[], Program]) -> None:
    assert [kernel.name for kernel in program().kernels] == ["step"]
