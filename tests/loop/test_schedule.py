"""The schedule language: every verb leaves results as they are, and refuses with the reason."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_cases import CONV, NESTS, chain, check, padded_chain, program, random_steps, results

from intaglio.loop.ir import For, walk
from intaglio.loop.schedule import Reorder, Schedule, Split, parse_record, parse_records, print_records
from intaglio.loop.schedule.program import schedule_of, schedule_program
from intaglio.loop.text import print_program
from intaglio.shared.errors import ArgumentError, ParseError, UnsupportedError

LEGAL = [
    ("matmul", "split(i, 4) -> i0, i1", "for i0 in range(3)"),
    ("matmul", "split(i, 5, rest) -> i0, i1", "for i1 in range(min("),
    ("matmul", "split(i, 5, balanced) -> i0, i1", "for i0 in range(3)\n        for i1 in range(4)"),
    ("elementwise", "split(j, 5, balanced) -> j0, j1", "for j1 in range(4)"),
    ("elementwise", "split(j, 4, rest) -> a, b\nspecialise(a, last=1)", "y[i, 12]"),
    ("matmul", "tile(i, j, 4, 16) -> i0, j0, i1, j1", "for j0 in range(2)\n            for i1"),
    ("conv", "reorder(i, j, o)", "for i in range(9)\n        for j in range(8)\n            for o"),
    ("turn", "tile(i, j, 4, 4) -> i0, j0, i1, j1\nunroll(i1)\nunroll(j1)", "for j1 in range(4) unroll"),
    ("elementwise", "fuse(i, j) -> f\nparallel(f)", "for f in range(78) parallel"),
    ("conv", "fuse(r, s) -> t", "f32"),
    ("rows", "vectorize(j)", "max top[()]"),
    ("rows", "split(j[1], 8) -> a, b\nvectorize(b)", "for b in range(8) vector"),
    ("rows", "parallel(i)", "parallel"),
    ("direct", "cache_write(y, j) -> acc", "y[i] = acc[()]"),
    ("direct", "cache_write(y, j) -> acc\nsplit(i, 4) -> i0, i1\ncache_write(acc, i1, stack)", "f32[4]"),
    ("matmul", "cache_write(acc, j)", "alloc acc: f32[32] register"),
    ("conv", "reorder(i, o)\npad(x, i) -> xp", "alloc xp: f32[3, 3, 10] stack"),
    ("conv", "pad(x) -> xp\ncache_write(acc, j)\nvectorize(j)", "xp: f32[3, 11, 10]"),
    ("conv", "specialise(i, first=1, last=1)\nspecialise(j, first=1, last=1)", "x[c, i + r, j + s]"),
    ("matmul", "cache_read(x, i) -> row", "alloc row: f32[1, 20] stack"),
    ("matmul", "cache_read(w) -> all\nlayout(all, [1, 0])", "all: f32[32, 20]"),
    ("matmul", "pack(w, [1 // 16, 0, 1 % 16]) -> panels", "panels: f32[2, 20, 16]"),
    ("matmul", "pack(x, [0 // 5, 1, 0 % 5]) -> blocks", "blocks: f32[3, 20, 5]"),
    ("matmul", "pack(x, [1, 0]) -> turned", "turned[turned0, turned1] = x[turned1, turned0]"),
    ("conv", "pack(w, [0 // 4, 1, 2, 3, 0 % 4]) -> blocks", "constant blocks: f32[1, 3, 3, 3, 4]"),
    ("matmul", "prefetch(w, k, 4)", "prefetch w[min(k + 4, 19), j]"),
    ("matmul", "prefetch(x, i, 1)\nvectorize(j)", "prefetch x[min(i + 1, 11), 16 * ahead1]"),
    (
        "matmul",
        "tile(i, j, 4, 16) -> a, b, c, d\nsplit(d, 8) -> e, v\ncache_write(acc, c)\n"
        "tensorize(c, outer_product)",
        "# outer_product: acc[i, j, v] += a[i] * b[j, v]",
    ),
    ("direct", "cache_write(y, j) -> acc\nvectorize(j)", "for j in range(8) vector"),
    ("rows", "layout(e, [0 % 4, 0 // 4])", "alloc e: f32[4, 4] stack"),
]  # fmt: skip


@pytest.mark.parametrize(("nest", "steps", "shown"), LEGAL, ids=[f"{n}-{s[:34]}" for n, s, _ in LEGAL])
def test_results_stay_as_they_are(nest, steps, shown):
    made = check(NESTS[nest], steps)
    assert shown in print_program(made)
    assert made.kernels[0].schedule == tuple(steps.split("\n"))


ILLEGAL = [
    ("scan", "reorder(j, i)", "share y: f32"),
    ("scan", "parallel(i)", "may touch the same element of y"),
    ("scan", "parallel(j)", "not outermost"),
    ("scan", "cache_read(y, i) -> z", "is written"),
    ("elementwise", "split(j, 4) -> a, b", "no multiple of 4"),
    ("elementwise", "split(j, 4) -> i, b", "has the name i already"),
    ("elementwise", "vectorize(j)", "no power of two"),
    ("elementwise", "split(q, 4) -> a, b", "has no loop q"),
    ("elementwise", "split(j[1], 4) -> a, b", r"has no loop j\[1\]"),
    ("elementwise", "fuse(j, i) -> f", "not the loop directly inside"),
    ("elementwise", "pad(x) -> z", "behind a guard"),
    ("elementwise", "cache_write(x, j) -> z", "writes no outer array x"),
    ("elementwise", "cache_write(y, j) -> z", "several elements"),
    ("elementwise", "specialise(i, first=6)", "has 6 iterations"),
    ("elementwise", "layout(x, [1, 0])", "others use"),
    ("elementwise", "pack(y, [1, 0]) -> z", "is no operand"),
    ("elementwise", "pack(x, [0, 1 // 4]) -> z", "axis 1 is not there once"),
    ("matmul", "reorder(k, j)", "no perfect nest"),
    ("matmul", "cache_write(acc, k)", "declares nothing"),
    ("matmul", "split(i, 5, rest) -> a, b\nreorder(b, a)", "bounds of the loop over b use a"),
    ("turn", "vectorize(j)", "lie 12 apart"),
    ("conv", "vectorize(j)", "a guard on lanes"),
    ("rows", "reorder(i, j)", "no perfect nest"),
    ("rows", "prefetch(e, i, 1)", "is local"),
    ("conv", "prefetch(x, i, 1)", "leaves x"),
    ("turn", "tensorize(j, copy)", "x moves by 12 along j"),
    ("rows", "tensorize(j, copy)", "holds other statements"),
    ("rows", "tensorize(j, no_such)", "no such intrinsic"),
    ("matmul", "tensorize(k, dot_product)", "w moves by 32 along k"),
    ("conv", "compute_at(x, i)", "array of the program"),
]  # fmt: skip


@pytest.mark.parametrize(("nest", "steps", "reason"), ILLEGAL, ids=[f"{n}-{s[:34]}" for n, s, _ in ILLEGAL])
def test_what_is_not_legal_is_refused_with_the_reason(nest, steps, reason):
    *before, last = parse_records(steps)
    made = schedule_of(program(NESTS[nest]), "k").apply(*before)
    kernel = made.kernel
    with pytest.raises(UnsupportedError, match=reason):
        made.apply(last)
    assert made.kernel.body is kernel.body


@pytest.mark.parametrize(("stride", "taps"), [(1, 3), (2, 3), (2, 2), (3, 2), (1, 1), (1, 5)])
@pytest.mark.parametrize("fold", ["", ", fold"])
def test_a_chain_runs_in_a_window_or_a_ring(stride, taps, fold):
    made = check(chain(stride, taps), f"compute_at(h, i_1{fold})", "first+second")
    assert [k.name for k in made.kernels] == ["first_second"]
    assert f"alloc h: f32[{taps}, 6] stack" in print_program(made)
    assert made.scratch == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("h[i, j] = x[i, j] * 2.0", "h[i, j] = h[i - 1, j] + x[i, j]", "follows i_1"),
        ("h[i, j] = x[i, j] * 2.0", "h[i, j] = x[i, j]\n            y[0, j] = 0.0", "makes y"),
        ("y[i, j] = acc[()]", "y[i, j] = acc[()] + h[19 - i, j]", "follows i_1"),
    ],
)
def test_chains_that_do_not_move_are_refused(old, new, reason):
    text = chain(1, 3).replace(old, new)
    if "y[0, j]" in new:
        text = text.replace("first(x: f32[20, 6], h", "first(x: f32[20, 6], y: f32[18, 6], h")
        text = text.replace("writes h", "writes h, y").replace("first(x, h)", "first(x, y, h)")
    if "i - 1" in new:
        text = text.replace("for i in range(20)", "for i in range(1, 20)")
    with pytest.raises(UnsupportedError, match=reason):
        schedule_program(program(text), {"first+second": "compute_at(h, i_1, fold)"})


def test_a_ring_computes_every_row_once():
    made = check(chain(1, 3), "compute_at(h, i_1, fold)\nspecialise(i_1, last=1)", "first+second")
    text = print_program(made)
    assert text.count("h[") == text.count("= x[") + 2
    assert "for i in range(2)" in text
    assert "(i_1 + 2) % 3" in text


@pytest.mark.parametrize("taps", [3, 5, 7])
@pytest.mark.parametrize("edges", ["", "\nspecialise(i_1, first=2, last=3)"])
@pytest.mark.parametrize("fold", ["", ", fold"])
def test_windows_reach_over_the_border(taps, edges, fold):
    made = check(padded_chain(taps), f"compute_at(h, i_1{fold}){edges}", "first+second")
    assert made.scratch == []


def test_padded_convolutions_in_a_row_share_a_ring():
    first = CONV.replace("output y: f32[4, 9, 8]", "scratch h: f32[4, 9, 8]\noutput z: f32[4, 9, 8]")
    first = first.replace("constant w:", "constant v: f32[4, 4, 3, 3]\nconstant w:")
    second = CONV[CONV.index("kernel") : CONV.index("phase")].replace("kernel k(", "kernel l(")
    second = second.replace("f32[3, 9, 8]", "f32[4, 9, 8]").replace("f32[4, 3, 3, 3]", "f32[4, 4, 3, 3]")
    text = first.replace("phase forward\n", second.replace("range(3)", "range(4)", 1) + "phase forward\n")
    text = text.replace("    k(x, w, y)", "    k(x, w, h)\n    l(h, v, z)")
    steps = "reorder(i, o)\nreorder(i_1, o_1)\ncompute_at(y, i_1, fold)\nspecialise(i_1, first=1, last=1)"
    made = check(text, steps, "k+l")
    wide = (
        text.replace("9, 8]", "9, 1024]")
        .replace("index(8)", "index(1024)")
        .replace("range(8)", "range(1024)")
    )
    large = schedule_program(program(wide), {"k+l": steps})
    assert [str(b) for b in large.scratch] == ["y: f32[4, 3, 1024]"]
    assert "alloc y: f32[4, 3, 8] stack" in print_program(made)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(NESTS)), st.data())
def test_random_legal_schedules_keep_results(nest, data):
    made = random_steps(NESTS[nest], lambda options: data.draw(st.sampled_from(options)))
    check(NESTS[nest], str(made))


def test_random_schedules_are_not_all_refused():
    rng = random.Random(0)
    counts = [len(random_steps(NESTS[name], rng.choice).records) for name in sorted(NESTS) * 4]
    assert sum(counts) > 1.5 * len(counts)


def test_records_print_and_read_back():
    for _, steps, _ in [*LEGAL, *ILLEGAL]:
        records = parse_records(steps)
        assert print_records(records) == steps + "\n"
        assert parse_records(print_records(records)) == records
    assert parse_record("split(i, 8, rest) -> a, b") == Split("i", 8, rest=True, into=("a", "b"))
    assert parse_records("# nothing\n\nreorder(i, j)  # why\n") == [Reorder(("i", "j"))]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unroll(i)\nshuffle(i)", "line 2: there is no verb 'shuffle'"),
        ("split(i, 4)", "line 1: split"),
        ("split(i) -> a, b", "do not fit"),
        ("split(i, x) -> a, b", "size is 'x'"),
        ("split i by 4", "no step of a schedule"),
        ("unroll(i, first=2)", "do not fit"),
        ("cache_read(x, i) -> 2b", "identifiers"),
    ],
)
def test_texts_that_are_no_schedule(text, reason):
    with pytest.raises(ParseError, match=reason):
        parse_records(text)


def test_verbs_are_methods_and_a_trace_shows_each_step():
    made = Schedule(program(NESTS["matmul"]).kernels[0])
    made.split("i", 4, into=("i0", "i1")).cache_write("acc", "j").unroll("i1")
    assert str(made) == "split(i, 4) -> i0, i1\ncache_write(acc, j)\nunroll(i1)\n"
    trace = made.trace()
    assert trace.count("kernel k(") == 4
    assert "# cache_write(acc, j)\nkernel k(" in trace
    assert made.steps[1].before == made.steps[0].after
    with pytest.raises(AttributeError, match="no verb 'shuffle'"):
        made.shuffle("i")


def test_a_changed_order_of_a_sum_is_said():
    def reassociates(nest: str, *steps: str) -> bool:
        return schedule_of(program(NESTS[nest]), "k").apply(*steps).reassociates

    assert not reassociates("matmul", "tile(i, j, 4, 16) -> a, b, c, d", "cache_write(acc, c)")
    assert reassociates("conv", "reorder(s, r)")
    assert reassociates("rows", "vectorize(j)")


def test_kernels_are_named():
    with pytest.raises(ArgumentError, match="no kernel nothing"):
        schedule_program(program(NESTS["matmul"]), {"nothing": ""})
    with pytest.raises(UnsupportedError, match="not called in a row"):
        schedule_program(program(chain(1, 3)), {"second+first": ""})
    with pytest.raises(UnsupportedError, match=r"schedule of k: kernel k has no loop z"):
        schedule_program(program(NESTS["matmul"]), {"k": "unroll(z)"})


def test_packed_constants_keep_their_values():
    made = schedule_program(program(NESTS["matmul"]), {"k": "pack(w, [1 // 16, 0, 1 % 16]) -> panels"})
    (panels,) = made.constants
    before = program(NESTS["matmul"]).constants[0].data
    assert before is not None
    np.testing.assert_array_equal(panels.data[1, 3], before[3, 16:])
    assert all(s.kind == "serial" for s in walk(made.kernels[0].body) if isinstance(s, For))
    assert results(made)["y"].shape == (12, 32)
