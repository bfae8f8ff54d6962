"""The verifier of the loop level: one wrong program per rule, and right ones that need a proof."""

from __future__ import annotations

import pytest

from intaglio.loop.independence import disjoint
from intaglio.loop.ir import Block, Buffer, For, Kernel, Program, Store, block
from intaglio.loop.spec import verify, verify_kernel
from intaglio.loop.text import parse_program
from intaglio.ops.expr import Apply, Const, Read
from intaglio.shared.dtypes import f32, f64
from intaglio.shared.errors import VerifyError
from intaglio.shared.index import Var, var_index, variable

HEAD = """program p
symbol n in 1 .. 9
input x: f32[8, 6]
input h: f16[8]
output y: f32[8, 6]
state s: f32[8]

kernel k(x: f32[8, 6], h: f16[8], y: f32[8, 6], s: f32[8]) writes y, s
"""
TAIL = """
phase forward
    k(x, h, y, s)
"""

WRONG = {
    "a place behind the end": ("for i in range(9)\n    s[i] = 0.0", "index i of axis 0 leaves s: f32[8]"),
    "a place before the start": ("for i in range(8)\n    s[i - 1] = 0.0", "index i - 1 of axis 0 leaves"),
    "a read outside": ("for i in range(8)\n    s[i] = x[i, 6]", "index 6 of axis 1 leaves x"),
    "a tile that overhangs": (
        "for i in range(3)\n    for j in range(3)\n        s[3 * i + j] = 0.0",
        "leaves s: f32[8]",
    ),
    "too few indices": ("for i in range(8)\n    s[i] = x[i]", "x: f32[8, 6] is indexed by 1 axes"),
    "a write to an operand": ("for i in range(8)\n    x[i, 0] = 0.0", "x is written but not among"),
    "an f64 value in an f32 buffer": ("s[0] = f64(1.0)", "a f64 value is stored in s: f32[8]"),
    "an f16 read as f64": ("s[0] = cast_f32(read_f64(h[0]))", "reads h: f16[8] as f64"),
    "a parallel loop inside": (
        "for i in range(8)\n    for j in range(6) parallel\n        y[i, j] = 0.0",
        "parallel loop over j is not outermost",
    ),
    "a vector loop of symbolic extent": (
        "for i in range(n) vector\n    y[0, 0] = 0.0",
        "must be counted from 0 to a constant",
    ),
    "a vector loop in a vector loop": (
        "for i in range(8) vector\n    for j in range(6) vector\n        y[i, j] = 0.0",
        "stands inside of another",
    ),
    "a variable twice": (
        "for i in range(8)\n    for i in range(6)\n        y[i, i] = 0.0",
        "hides an outer variable",
    ),
    "bounds too narrow for the loop": (
        "for i in range(8) within 0 .. 3\n    s[i] = 0.0",
        "leaves the bounds of its variable",
    ),
    "a local buffer twice": (
        "alloc t: f32[2] stack\nalloc t: f32[2] stack\nt[0] = 0.0",
        "local buffer t hides another",
    ),
    "threads that share a sum": (
        "for i in range(8) parallel\n    add s[0] = x[i, 0]",
        "may touch the same element of s: f32[8]",
    ),
    "threads that read neighbours": (
        "for i in range(7) parallel\n    s[i] = s[i + 1]",
        "may touch the same element of s",
    ),
    "a condition that is no bool": ("if s[0]\n    s[0] = 0.0", "condition .* is f32, not bool"),
    "where of two types": ("s[0] = where(s[0] < 1.0, s[0], f64(0.0))", r"where\(bool, f32, f64\)"),
}


def program(body: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in body.splitlines()) + TAIL


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_are_refused(name):
    body, message = WRONG[name]
    with pytest.raises(VerifyError, match=message.replace("[", r"\[") if "\\" not in message else message):
        verify(parse_program(program(body)))


RIGHT = {
    "tiles of two sizes": (
        "for i in range(2)\n    for j in range(3)\n        s[3 * i + j] = 0.0\n"
        "for i in range(2)\n    s[i + 6] = 0.0"
    ),
    "rows to threads": "for i in range(8) parallel\n    for j in range(6)\n        y[i, j] = x[i, 5 - j]",
    "merged rows to threads": "for i in range(48) parallel\n    y[i // 6, i % 6] = x[i // 6, i % 6]",
    "blocks of rows to threads": (
        "for i in range(2) parallel\n    for j in range(4)\n        add s[4 * i + j] = s[4 * i]"
    ),
    "private buffers of threads": (
        "for i in range(8) parallel\n    alloc t: f32[1] stack\n    t[0] = x[i, 0]\n    s[i] = t[0]"
    ),
    "a guarded read": "for i in range(8)\n    s[i] = where(index(i) < 7, s[i + 1], 0.0)",
    "a guarded write": "for i in range(9)\n    if index(i) < 8\n        s[i] = 0.0",
    "tiles of a symbol": (
        "for i in range(n // 4)\n    for j in range(4)\n        s[0] = x[0, 0]\n"
        "for i in range(n % 4)\n    s[i] = 0.0"
    ),
    "an f16 read in f32": "s[0] = read_f32(h[0])",
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_programs_are_accepted(name):
    verify(parse_program(program(RIGHT[name])))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("k(x, h, y, s)", "k(x, h, y)", "k takes 4 buffers, got 3"),
        ("k(x, h, y, s)", "k(y, h, x, s)", "writes to a buffer of role input"),
        ("k(x, h, y, s)", "k(x, h, y, s[4:])", "8 elements from 4 on leave s"),
        ("k(x, h, y, s)", "k(x, s, y, s)", "parameter h: f16.* is given s"),
        ("k(x, h, y, s)", "k(y, h, y, s)", "parameters x and y share y, and one of them is written"),
        ("state s: f32[8]", "state s: f32[8]\noutput s: f32[8]", "two buffers are named s"),
        ("writes y, s", "writes y", "s is written but not among"),
    ],
)
def test_wrong_drivers_and_declarations_are_refused(old, new, message):
    text = program("s[0] = 0.0").replace(old, new)
    with pytest.raises(VerifyError, match=message):
        verify(parse_program(text))


def test_a_variable_of_no_loop_and_an_unknown_function_are_refused():
    y, i = Buffer("y", f32, (8,)), variable("i", 8)
    with pytest.raises(VerifyError, match="index i uses i, which no loop"):
        verify_kernel(Kernel("k", (y,), (y,), block(Store(y, (i,), Const(0.0, f32)))))
    strange = Apply("frobnicate", (Const(0.0, f32),), f32)
    with pytest.raises(VerifyError, match="function frobnicate is not known"):
        verify_kernel(Kernel("k", (y,), (y,), block(Store(y, (0,), strange))))
    mistyped = Apply("lt", (Const(0.0, f32), Const(0.0, f32)), f32)
    with pytest.raises(VerifyError, match="is f32 but lt of these arguments is bool"):
        verify_kernel(Kernel("k", (y,), (y,), block(Store(y, (0,), mistyped))))


def test_a_buffer_that_is_not_declared_is_refused():
    y, stray = Buffer("y", f32, (8,)), Buffer("stray", f32, (8,))
    read = Read(stray, (0,), f32)
    with pytest.raises(VerifyError, match="stray is used but not declared here"):
        verify_kernel(Kernel("k", (y,), (y,), block(Store(y, (0,), read))))


def test_loops_must_make_progress_and_roles_must_fit():
    y = Buffer("y", f32, (8,), "output")
    still = For(Var("i", 0, 7), 8, block(), step=0)
    with pytest.raises(VerifyError, match="has step 0"):
        verify_kernel(Kernel("k", (y,), (y,), block(still)))
    with pytest.raises(VerifyError, match="has role output but is one of the program's inputs"):
        verify(Program("p", inputs=[y]))
    outside = Buffer("t", f64, (4,), "scratch", offset=16)
    with pytest.raises(VerifyError, match="ends at byte 48 of an arena of 40"):
        verify(Program("p", scratch=[outside], arena_bytes=40))


def test_places_in_the_last_axes_keep_iterations_apart() -> None:
    """Vectors over the flattened last axes, as convolutions write them, for all of the first axis."""
    image = Buffer("y", f32, (16, 55, 55), "output")
    own, lane, channel = Var("j", 0, 62), variable("lane", 48), variable("o", 16)
    j = var_index(own)
    place = 48 * j + lane
    loop = For(own, 63, Block(()), "parallel")
    assert disjoint(image, [(channel, place // 55, place % 55)], loop)
    touching = 47 * j + lane
    assert not disjoint(image, [(channel, touching // 55, touching % 55)], loop)


def test_places_further_apart_than_a_loop_goes_are_disjoint() -> None:
    own, lane = Var("j0", 0, 3), variable("lane", 32)
    row = var_index(own)
    loop = For(own, 4, Block(()), "parallel")
    line = Buffer("line", f32, (256,))
    assert disjoint(line, [(32 * row + lane,), (32 * row + lane + 128,)], loop)
    assert not disjoint(line, [(32 * row + lane,), (32 * row + lane + 127,)], loop)
    assert not disjoint(line, [(32 * row + lane + 64,), (32 * row + lane,)], loop)
