"""Contraction recipes against NumPy, by the interpreter: forms, edges, merged axes, epilogues, symbols."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_cases import AVX2, AVX512, program_of, run, types_of

from intaglio.loop.ir import Buffer, For, Program, walk
from intaglio.loop.ir import Store as StoreTo
from intaglio.loop.places import is_even
from intaglio.loop.recipes.tiles import best_tile
from intaglio.ops.expr import Apply, Const, Read
from intaglio.shared.dtypes import f32
from intaglio.shared.index import floordiv, variable
from intaglio.shared.types import TensorType

RNG = np.random.default_rng(0)


def operands(spec: str, extents: dict[str, int], dtype=np.float32) -> tuple[np.ndarray, np.ndarray]:
    left, right = spec.split("->")[0].split(",")
    made = (
        RNG.integers(-4, 5, [extents[x] for x in axes])
        if np.dtype(dtype).kind == "i"
        else RNG.standard_normal([extents[x] for x in axes])
        for axes in (left, right)
    )
    a, b = (array.astype(dtype) for array in made)
    return a, b


def check(spec: str, extents: dict[str, int], target=AVX512, dtype=np.float32, atol=2e-6) -> Program | None:
    a, b = operands(spec, extents, dtype)
    program = program_of("dot", types_of(a, b), {"spec": spec}, target)
    if program is not None:
        want = np.einsum(spec, a.astype(np.float64), b.astype(np.float64))
        scale = max(1.0, np.abs(want).max())
        np.testing.assert_allclose(run(program, [a, b]) / scale, want / scale, atol=atol)
    return program


SPECS = ["mk,kn->mn", "mk,nk->mn", "km,kn->mn", "km,nk->mn", "mk,kn->nm", "nk,mk->mn"]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("target", [AVX512, AVX2], ids=lambda t: t.name)
@pytest.mark.parametrize("sizes", [(128, 40, 10), (1, 300, 128), (33, 7, 65), (9, 64, 200), (8, 130, 16)])
def test_matrix_products(spec, target, sizes):
    assert check(spec, dict(zip("mkn", sizes, strict=True)), target) is not None


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [
        ("bmk,bkn->bmn", (3, 14, 9, 20)),
        ("bhmk,bhnk->bhmn", (2, 3, 14, 32, 20)),
        ("bmhk,bnhk->bhmn", (2, 14, 3, 32, 20)),
        ("bhmn,bnhk->bmhk", (2, 3, 14, 20, 32)),
        ("btk,kn->btn", (4, 5, 16, 32)),
        ("btk,nk->btn", (4, 5, 16, 32)),
        ("btk,btn->kn", (4, 5, 16, 32)),
        ("m,n->mn", (33, 70)),
        ("k,kn->n", (33, 70)),
        ("mk,k->m", (33, 70)),
        ("abk,cdk->abcd", (3, 4, 18, 5, 6)),
        ("akb,kc->abc", (3, 11, 4, 40)),
    ],
)
def test_batches_and_many_axes(spec, sizes):
    letters = dict.fromkeys(spec.split("->")[0].replace(",", ""))
    assert check(spec, dict(zip(letters, sizes, strict=True))) is not None


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
def test_other_element_types(dtype):
    program = check("mk,kn->mn", {"m": 13, "k": 21, "n": 27}, dtype=dtype)
    assert program is not None


def test_rows_far_apart_are_packed():
    program = check("mk,kn->mn", {"m": 40, "k": 12, "n": 1024})
    assert program is not None
    assert program.scratch
    assert any("pack" in note for note in program.kernels[0].schedule)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("sizes", [(70, 1024, 90), (66, 8193, 70), (257, 40, 90), (400, 24, 1024)])
def test_products_in_blocks(spec, sizes):
    program = check(spec, dict(zip("mkn", sizes, strict=True)), atol=8e-6)
    assert program is not None
    if spec == "mk,kn->mn" and sizes[0] == 70:
        assert "with partial sums" in "; ".join(program.kernels[0].schedule)


def test_blocks_are_packed_where_they_are_read():
    def notes(spec: str, **extents: int) -> str:
        program = check(spec, extents)
        assert program is not None
        assert not program.scratch
        return "; ".join(program.kernels[0].schedule)

    assert "each before it is read" in notes("mk,nk->mn", m=60, k=48, n=300)
    assert "pack rows" in notes("km,kn->mn", k=24, m=1024, n=70)
    assert "pack rows" in notes("bkm,bkn->bmn", b=2, k=24, m=1024, n=70)


def test_results_across_their_lanes_are_turned_where_operands_need_no_packing():
    program = check("btk,btn->nk", {"b": 4, "t": 6, "k": 28, "n": 512})
    assert program is not None
    assert not program.scratch


def test_a_long_reduction_with_an_epilogue_stores_once():
    bias = Buffer("bias", f32, (70,), "input")

    def finish(y, index, acc):
        total = acc + Read(bias, index[1:], f32)
        return [StoreTo(y, index, Apply("max", (total, Const(0.0, f32)), f32))]

    a, b = operands("mk,kn->mn", {"m": 128, "k": 1024, "n": 70})
    program = program_of("dot", types_of(a, b), {"spec": "mk,kn->mn"}, AVX512, finish, (bias,))
    assert program is not None
    c = RNG.standard_normal(70).astype(np.float32)
    np.testing.assert_allclose(run(program, [a, b, c]), np.maximum(a @ b + c, 0), rtol=1e-4, atol=1e-4)
    assert "parallel" in {s.kind for s in walk(program.kernels[0].body) if isinstance(s, For)}


def test_two_threads_share_panels_evenly() -> None:
    """Five panels of two vectors would do as well as twice two of three and two, for one thread."""
    assert best_tile(49, 160, 960, 16, AVX512)[1] == 3
    assert best_tile(49, 192, 960, 16, AVX512)[1] in (2, 3)


def test_few_rows_are_open_where_they_displace_each_other() -> None:
    assert best_tile(64, 96, 1024, 16, AVX512)[0] == 9
    assert best_tile(64, 96, 1024, 16, AVX512, room=5)[0] == 6


def test_products_of_few_steps_write_long_pieces_of_rows() -> None:
    assert best_tile(128, 512, 1, 16, AVX512)[1] >= 4
    assert best_tile(2, 512, 512, 16, AVX512)[:2] == (2, 8)


@pytest.mark.parametrize(
    ("sizes", "form"), [((64, 4096, 1024), "rows m"), ((64, 1024, 4096), "rows n")], ids=["tall", "wide"]
)
def test_far_operands_are_read_in_place(sizes: tuple[int, int, int], form: str) -> None:
    """A tall right operand is read along its rows; turned tiles would wait for each step of theirs."""
    m, k, n = sizes
    arrays = [np.zeros(shape, np.float32) for shape in ((m, k), (k, n))]
    program = program_of("dot", types_of(*arrays), {"spec": "mk,kn->mn"}, AVX512)
    assert program is not None
    assert form in program.kernels[0].schedule[0]


def test_large_products_use_threads_and_small_ones_do_not():
    def kinds(m: int) -> set[str]:
        program = program_of(
            "dot", [TensorType(f32, (m, 64)), TensorType(f32, (64, 64))], {"spec": "mk,kn->mn"}, AVX512
        )
        assert program is not None
        return {s.kind for s in walk(program.kernels[0].body) if isinstance(s, For)}

    assert "parallel" in kinds(2048)
    assert "parallel" not in kinds(8)


def test_tiny_products_are_left_to_plain_loops():
    assert (
        program_of("dot", [TensorType(f32, (2, 3)), TensorType(f32, (3, 4))], {"spec": "mk,kn->mn"}, AVX512)
        is None
    )


@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn"])
def test_epilogue_with_bias_and_relu(spec):
    a, b = operands(spec, {"m": 21, "k": 48, "n": 37})
    bias, other = Buffer("bias", f32, (37,), "input"), Buffer("other", f32, (21, 37), "input")

    def finish(y, index, acc):
        total = acc + Read(bias, index[1:], f32)
        return [StoreTo(y, index, Apply("mul", (total, Read(other, index, f32) + Const(1.0, f32)), f32))]

    program = program_of("dot", types_of(a, b), {"spec": spec}, AVX512, finish, (bias, other))
    assert program is not None
    extra = [RNG.standard_normal(37).astype(np.float32), RNG.standard_normal((21, 37)).astype(np.float32)]
    want = (np.einsum(spec, a, b) + extra[0]) * (extra[1] + 1)
    np.testing.assert_allclose(run(program, [a, b, *extra]), want, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 5, 14, 40])
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn"])
def test_symbolic_rows(spec, batch):
    n = variable("batch", 64, lo=1)
    a, b = operands(spec, {"m": batch, "k": 20, "n": 32})
    program = program_of("dot", [TensorType(f32, (n, 20)), types_of(b)[0]], {"spec": spec}, AVX512)
    assert program is not None
    np.testing.assert_allclose(run(program, [a, b], {"batch": batch}), np.einsum(spec, a, b), atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "symbolic"),
    [
        ("bmk,kn->bmn", "m"),
        ("bmk,nk->bmn", "bm"),
        ("bmk,bnk->bmn", "mn"),
        ("bmk,bkn->bmn", "mk"),
        ("bkm,bkn->bmn", "bk"),
        ("mbk,nbk->bnm", "m"),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 30])
def test_strides_made_of_symbols(spec, symbolic, size):
    """Products of sequences: what lies before a symbolic axis is further apart the longer the sequence."""
    n = variable("size", 32, lo=1)
    extents = {"b": 3, "m": 18, "n": 40, "k": 24} | dict.fromkeys(symbolic, size)
    a, b = operands(spec, extents)
    shapes = [
        tuple(n if x in symbolic else extents[x] for x in axes) for axes in spec.split("->")[0].split(",")
    ]
    program = program_of("dot", [TensorType(f32, shape) for shape in shapes], {"spec": spec}, AVX512)
    assert program is not None
    np.testing.assert_allclose(run(program, [a, b], {"size": size}), np.einsum(spec, a, b), atol=1e-4)


def test_a_view_of_a_symbolic_array_is_no_stride():
    n, i = variable("n", 32, lo=1), variable("i", 8)
    (var,) = i.variables
    assert is_even(i * n * 4 + i + 1, var)
    assert is_even(n * n, var)
    for index in (i * i, floordiv(i, 2) * n, floordiv(i + n, 4), i * floordiv(i, n)):
        assert not is_even(index, var)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SPECS),
    st.integers(1, 45),
    st.integers(1, 45),
    st.integers(1, 70),
    st.sampled_from([AVX512, AVX2]),
)
def test_any_size(spec, m, k, n, target):
    check(spec, {"m": m, "k": k, "n": n}, target)
