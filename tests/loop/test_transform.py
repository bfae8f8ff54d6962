"""Loop transforms: the program computes the same before and after, and misuse is refused with its reason."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Block, Call, For, Program, Slice, walk
from intaglio.loop.schedule.inward import inward
from intaglio.loop.schedule.loops import parallelize, split
from intaglio.loop.spec import verify
from intaglio.loop.text import parse_program, print_program
from intaglio.loop.transform import tidy
from intaglio.shared.errors import UnsupportedError

HEAD = """program p
input x: f32[3, 8, 16]
output y: f32[3, 4, 8]
output z: f32[3, 8, 16]

kernel k(x: f32[3, 8, 16], y: f32[3, 4, 8], z: f32[3, 8, 16]) writes y, z
"""
TAIL = "\nphase forward\n    k(x, y, z)\n"

ARGMAX = """    for i in range(3)
        for j in range(4)
            for l in range(8)
                alloc best: f32[] register
                best[()] = f32(ninf)
                alloc place: f32[] register
                place[()] = 0.0
                for m in range(2)
                    for n in range(2)
                        alloc wins: bool[] register
                        wins[()] = best[()] < x[i, 2 * j + m, 2 * l + n]
                        place[()] = where(wins[()], index_f32(2 * m + n), place[()])
                        best[()] = where(wins[()], x[i, 2 * j + m, 2 * l + n], best[()])
                y[i, j, l] = place[()]
"""
DIVIDED = """    for i in range(3)
        for j in range(8)
            for l in range(16)
                z[i, j, l] = x[i, 2 * (l // 4) + j % 2, 4 * (j // 2) + l % 4]
"""


def program(body: str) -> Program:
    made = parse_program(HEAD + body + TAIL)
    verify(made)
    return made


def with_body(before: Program, body: Block) -> Program:
    """The program with another nest in its kernel."""
    kernel = before.kernels[0].with_body(body)
    after = parse_program(print_program(before))
    after.kernels = [kernel]
    params = {b.name: b for b in after.buffers}
    after.phases["forward"] = Block((Call(kernel, tuple(Slice(params[b.name]) for b in kernel.params)),))
    return parse_program(print_program(after))


def results(made: Program) -> dict[str, np.ndarray]:
    verify(made)
    x = np.random.default_rng(0).standard_normal((3, 8, 16)).astype(np.float32)
    arrays = {"x": x, "y": np.zeros((3, 4, 8), np.float32), "z": np.zeros((3, 8, 16), np.float32)}
    evaluate(made, arrays)
    return arrays


def same(before: Program, body: Block) -> Program:
    after = with_body(before, body)
    for name, want in results(before).items():
        np.testing.assert_array_equal(results(after)[name], want)
    return after


def loops(made: Program) -> list[str]:
    return [f"{s.var}:{s.extent}" for s in walk(made.kernels[0].body) if isinstance(s, For)]


def first_loop(made: Program, name: str) -> For:
    return next(s for s in walk(made.kernels[0].body) if isinstance(s, For) and s.var.name == name)


def test_loops_whose_variables_are_divided_are_split():
    before = program(DIVIDED)
    after = same(before, tidy(before.kernels[0].body))
    assert loops(after) == ["i:3", "j0:4", "j1:2", "l0:4", "l1:4"]
    assert "//" not in print_program(after)
    assert "%" not in print_program(after)


def test_a_loop_moves_inside_of_windows_that_choose():
    before = program(ARGMAX)
    after = same(before, tidy(before.kernels[0].body))
    assert loops(after) == ["i:3", "j:4", "l:8", "l:8", "m:2", "n:2", "l:8", "l:8"]
    assert "alloc best: f32[8] stack" in print_program(after)
    assert "alloc wins: bool[] register" in print_program(after)


def test_sums_over_windows_stay_as_they_are():
    body = ARGMAX[: ARGMAX.index("                alloc place")] + (
        "                for m in range(2)\n                    for n in range(2)\n"
        "                        max best[()] = x[i, 2 * j + m, 2 * l + n]\n"
        "                y[i, j, l] = best[()]\n"
    )
    before = program(body)
    assert loops(same(before, tidy(before.kernels[0].body))) == loops(before)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_split(size):
    before = program(DIVIDED)
    loop = first_loop(before, "j")
    outer = first_loop(before, "i")
    after = same(before, Block((For(outer.var, 3, Block((split(loop, size, ("a", "b")),))),)))
    assert loops(after) == ["i:3", f"a:{8 // size}", f"b:{size}", "l:16"]


def test_split_refuses_a_rest():
    with pytest.raises(UnsupportedError, match=r"range\(0, 8, 1\) is no multiple of 3"):
        split(first_loop(program(DIVIDED), "j"), 3, ("a", "b"))


def test_parallelize_proves_independence():
    loop = parallelize(first_loop(program(ARGMAX), "i"))
    assert loop.kind == "parallel"
    shared = program(
        "    for i in range(3)\n        for l in range(8)\n            add y[0, 0, l] = x[i, 0, l]\n"
    )
    with pytest.raises(UnsupportedError, match="may touch the same element of y"):
        parallelize(first_loop(shared, "i"))


@pytest.mark.parametrize(
    ("body", "name", "reason"),
    [
        (
            "    for l in range(8)\n        for m in range(2)\n            add y[0, 0, 0] = x[0, m, l]\n",
            "l",
            "share y",
        ),
        (
            "    for l in range(8)\n        for m in range(l + 1)\n            y[0, 0, l] = x[0, m, l]\n",
            "l",
            "depends on l",
        ),
        ("    for l in range(1, 8)\n        y[0, 0, l] = x[0, 0, l]\n", "l", "no constant extent"),
        (
            "    for l in range(8)\n        if x[0, 0, l] < 1.0\n            y[0, 0, l] = 1.0\n",
            "l",
            "holds a If",
        ),
        (
            "    for l in range(8)\n        alloc t: f32[2] stack\n"
            "        for m in range(2)\n            t[m] = x[0, m, l]\n",
            "l",
            "is an array already",
        ),
    ],
)
def test_inward_refuses(body, name, reason):
    with pytest.raises(UnsupportedError, match=reason):
        inward(first_loop(program(body), name))
