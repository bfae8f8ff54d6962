"""Attention as one kernel: what it computes, where it is made, and why not elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import intaglio
from intaglio.compile import Lowered, Settings, capture, compile_graph, lower_graph
from intaglio.compiled import Compiled
from intaglio.graph.ir import Graph
from intaglio.graph.text import parse_graph
from intaglio.loop.eval import evaluate
from intaglio.loop.ir import For, Program, walk
from intaglio.ops.compositions.attention import scaled_dot_product_attention as attend
from intaglio.shared.dtypes import f32
from intaglio.shared.index import Var, var_index
from intaglio.shared.types import TensorType

RNG = np.random.default_rng(7)
Array = np.ndarray[Any, Any]
OFF = ("FuseAttention",)


def normal(*shape: int, dtype: type = np.float32) -> Array:
    return RNG.standard_normal(shape).astype(dtype)


def oracle(q: Array, k: Array, v: Array, mask: Array | float = 0.0) -> Array:
    """In double precision, with what is fully masked NaN."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]) + mask
    with np.errstate(invalid="ignore"):
        e = np.exp(scores - scores.max(-1, keepdims=True))
        weights: Array = e / e.sum(-1, keepdims=True)
    return weights @ v


def strips(lowered: Lowered | Compiled) -> list[str]:
    """The notes of kernels that are attention."""
    return [n for k in lowered.program.kernels for n in k.schedule if "scores at a time" in n]


def reasons(lowered: Lowered) -> set[str]:
    """Why attention was not made."""
    return {d.because for d in lowered.decisions if not d.fused and d.op == "dot"}


def run(program: Program, arrays: list[Array], shape: tuple[int, ...], dtype: type = np.float32) -> Array:
    """The only result of a program, by the interpreter."""
    held = {b.name: x for b, x in zip(program.inputs, arrays, strict=True)}
    held[program.outputs[0].name] = np.full(shape, np.nan, dtype)
    evaluate(program, held)
    return held[program.outputs[0].name]


def masks(shape: tuple[int, ...]) -> Array:
    """Some left out, one row whole."""
    found = np.where(RNG.random(shape) < 0.3, -np.inf, RNG.standard_normal(shape)).astype(np.float32)
    found[..., 3, :] = -np.inf
    return found


# shapes of query, key and value
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "whole tiles": ((2, 2, 28, 32), (2, 2, 32, 32), (2, 2, 32, 32)),
    "no whole tiles": ((3, 29, 19), (3, 37, 19), (3, 37, 23)),
    "no heads": ((50, 16), (41, 16), (41, 17)),
    "long rows": ((2, 9, 8), (2, 1030, 8), (2, 1030, 9)),
    "broadcast": ((2, 3, 20, 16), (1, 3, 24, 16), (2, 1, 24, 16)),
    "narrow": ((4, 64, 5), (4, 64, 5), (4, 64, 6)),
}


@pytest.mark.parametrize("target", ["generic", "x86-64-v3", "x86-64-v4"])
def test_strips_compute_the_same(target: str) -> None:
    for name, shapes in SHAPES.items():
        arrays = [normal(*shape) for shape in shapes]
        lowered = lower_graph(capture(lambda q, k, v: attend(q, k, v), arrays), Settings(target=target))
        assert len(lowered.program.kernels) == len(strips(lowered)) == 1, name
        want = oracle(*arrays)
        np.testing.assert_allclose(run(lowered.program, arrays, want.shape), want, 1e-5, 1e-5, err_msg=name)


def masked(q: Any, k: Any, v: Any, m: Any) -> Any:
    return attend(q, k, v, m)


# name, function, shapes, mask or None, what the oracle adds
MASKS: list[tuple[str, Callable[..., Any], Array | None, Array]] = [
    ("added", masked, (m := masks((1, 1, 21, 21))), m),
    ("added by head", masked, (h := masks((2, 3, 21, 21))), h),
    ("chosen", masked, np.isfinite(m), np.where(np.isfinite(m), 0, -np.inf)),
    (
        "causal",
        lambda q, k, v: attend(q, k, v, is_causal=True),
        None,
        np.where(np.tri(21, dtype=bool), 0, -np.inf),
    ),
]


def test_masks_in_native_code_and_by_the_interpreter() -> None:
    arrays = [normal(2, 3, 21, 16) for _ in range(3)]
    for name, function, mask, added in MASKS:
        given = arrays if mask is None else [*arrays, mask]
        want = oracle(*arrays, added)
        for target in ("native", "x86-64-v3"):
            lowered = lower_graph(capture(function, given), Settings(target=target))
            assert len(strips(lowered)) == 1, name
            found = run(lowered.program, given, want.shape)
            np.testing.assert_allclose(found, want, 1e-5, 1e-5, err_msg=name)
        compiled = intaglio.compile(function, given, threads=1)
        np.testing.assert_allclose(np.asarray(compiled(*given)), want, 1e-5, 1e-5, err_msg=name)


def test_double_precision_and_fewer_heads_of_keys() -> None:
    arrays = [normal(2, 8, 23, 12, dtype=np.float64), *(normal(2, 2, 25, 12, dtype=np.float64) for _ in "kv")]
    compiled = intaglio.compile(lambda q, k, v: attend(q, k, v, enable_gqa=True), arrays, threads=1)
    assert len(strips(compiled)) == 1
    repeated = [np.repeat(x, 4, axis=1) for x in arrays[1:]]
    np.testing.assert_allclose(np.asarray(compiled(*arrays)), oracle(arrays[0], *repeated), 1e-12, 1e-12)


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    arrays = [normal(2, 4, 65, 24), normal(2, 4, 83, 24), normal(2, 4, 83, 40)]
    want = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, arrays)).numpy()
    compiled = intaglio.compile(lambda q, k, v: attend(q, k, v), arrays)
    np.testing.assert_allclose(np.asarray(compiled(*arrays)), want, 1e-5, 1e-5)


# name, rows and columns, mask, bands
BANDS: list[tuple[str, tuple[int, int], Callable[[int, int], Array], int]] = [
    ("causal", (64, 64), lambda m, n: np.tri(m, n, dtype=bool), 2),
    ("long", (256, 256), lambda m, n: np.tri(m, n, dtype=bool), 4),
    ("with a prefix", (40, 128), lambda m, n: np.tri(m, n, n - m, dtype=bool), 1),
    ("not by the panel", (64, 70), lambda m, n: np.tri(m, n, dtype=bool), 1),
    ("wholly hidden rows", (64, 64), lambda m, n: np.tri(m, n, -5, dtype=bool), 2),
    ("anywhere", (64, 64), lambda m, n: RNG.random((m, n)) < 0.7, 1),
]


@pytest.mark.parametrize("low", [-np.inf, np.finfo(np.float32).min])
@pytest.mark.parametrize(("shape", "mask", "bands"), [b[1:] for b in BANDS], ids=[b[0] for b in BANDS])
def test_rows_end_where_a_mask_does(
    low: float, shape: tuple[int, int], mask: Callable[[int, int], Array], bands: int
) -> None:
    rows, columns = shape
    seen = mask(rows, columns)
    added = np.where(seen, 0, low).astype(np.float32)
    arrays = [normal(8, n, 8) for n in (rows, columns, columns)]
    for given in (added, seen):

        def function(q: Any, k: Any, v: Any, given: Array = given) -> Any:
            return attend(q, k, v, intaglio.Tensor(given))

        lowered = lower_graph(capture(function, arrays), Settings(target="x86-64-v4"))
        apart = lower_graph(capture(function, arrays), Settings(target="x86-64-v4", disabled_passes=OFF))
        notes = [n for kernel in lowered.program.kernels for n in kernel.schedule if "bands" in n]
        found, want = (run(x.program, arrays, (8, rows, 8)) for x in (lowered, apart))
        np.testing.assert_allclose(found, want, 1e-5, 1e-5)
        even = given is added and np.isfinite(low) and not seen.any(-1).all()  # all weights of a row alike
        assert [int(note.split()[0]) for note in notes] == ([bands] if bands > 1 and not even else [])


def test_batches_of_heads_that_are_stored_by_place() -> None:
    """Neither heads nor samples lie side by side: one of the two is spread over threads."""
    arrays = [normal(2, 64, 6, 32) for _ in range(3)]

    def function(*qkv: Any) -> Any:
        return attend(*(x.transpose(1, 2) for x in qkv)).transpose(1, 2)

    compiled = intaglio.compile(function, arrays, threads=2)
    (kernel,) = compiled.program.kernels
    assert any(isinstance(s, For) and s.kind == "parallel" for s in walk(kernel.body))
    want = np.swapaxes(oracle(*(np.swapaxes(x, 1, 2) for x in arrays)), 1, 2)
    np.testing.assert_allclose(np.asarray(compiled(*arrays)), want, 1e-5, 1e-5)


@pytest.mark.parametrize("heads", [1, 3, 12])
def test_results_do_not_depend_on_threads(heads: int) -> None:
    arrays = [normal(heads, 240, 64) for _ in range(3)]
    one, two = (intaglio.compile(lambda q, k, v: attend(q, k, v), arrays, threads=n) for n in (1, 2))
    (kernel,) = one.program.kernels
    assert any(isinstance(s, For) and s.kind == "parallel" for s in walk(kernel.body))
    np.testing.assert_array_equal(np.asarray(one(*arrays)), np.asarray(two(*arrays)))
    np.testing.assert_allclose(np.asarray(one(*arrays)), oracle(*arrays), 1e-5, 1e-5)


def test_scores_take_no_memory() -> None:
    arrays = [normal(8, 200, 16) for _ in range(3)]
    graph = capture(lambda q, k, v: attend(q, k, v), arrays)
    made, apart = (lower_graph(graph, Settings(disabled_passes=off)) for off in ((), OFF))
    assert not strips(apart)
    assert made.program.arena_bytes == 0
    assert (apart.program.arena_bytes or 0) >= 2 * 8 * 200 * 200 * 4


def graph_of(between: str, results: str = "%y as y", keys: str = "%k: f32[2,20,8]") -> Graph:
    return parse_graph(f"""fn main(%q: f32[2,20,8], {keys}, %v: f32[2,20,8]) {{
  %s: f32[2,20,20] = dot(%q, %k, spec="bmk,bnk->bmn")
{between}
  return {results}
}}""")


NORMALISED = """  %e: f32[2,20,20] = exp(%s)
  %t: f32[2,20] = sum(%e, axes=(2,))
  %r: f32[2,20,1] = reshape(%t, shape=(2, 20, 1))
  %b: f32[2,20,20] = broadcast(%r, shape=(2, 20, 20))
  %p: f32[2,20,20] = div(%e, %b)
"""
SECOND = """  %y: f32[2,20,8] = dot(%p, %v, spec="bmn,bnk->bmk")"""


def test_other_operators_on_rows() -> None:
    """Not softmax: rows over their sums, and twice what they are."""
    twice = """  %d: f32[2,20,20] = add(%p, %p)
  %y: f32[2,20,8] = dot(%d, %v, spec="bmn,bnk->bmk")"""
    q, k, v = (0.2 * normal(2, 20, 8) for _ in range(3))
    e = np.exp(q.astype(np.float64) @ np.swapaxes(k, 1, 2))
    want = e / e.sum(-1, keepdims=True) @ v
    for factor, second in ((1, SECOND), (2, twice)):
        lowered = lower_graph(graph_of(NORMALISED + second), Settings(target="x86-64-v4"))
        assert len(strips(lowered)) == 1
        found = run(lowered.program, [q, k, v], want.shape)
        np.testing.assert_allclose(found, factor * want, 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (graph_of(NORMALISED + SECOND, "%y as y, %p as p"), "what becomes of the scores is needed elsewhere"),
        (graph_of(NORMALISED + SECOND, "%y as y, %s as s"), "the scores are needed elsewhere too"),
        (
            graph_of(NORMALISED + """  %y: f32[2,20,8] = dot(%p, %v, spec="bmn,bmk->bnk")"""),
            "the second product does not go along rows",
        ),
    ],
)
def test_refusals_say_why(graph: Graph, reason: str) -> None:
    lowered = lower_graph(graph, Settings(target="x86-64-v4"))
    assert not strips(lowered)
    assert any(found.startswith(reason) for found in reasons(lowered)), reasons(lowered)


def test_few_or_endless_rows_stay_apart() -> None:
    for shapes, reason in (
        (((2, 1, 16), (2, 40, 16), (2, 40, 16)), "too few rows"),
        (((1, 8, 4), (1, 40000, 4), (1, 40000, 4)), "4 rows of 40000 scores do not stay in a cache"),
    ):
        graph = capture(lambda q, k, v: attend(q, k, v), [normal(*shape) for shape in shapes])
        lowered = lower_graph(graph, Settings(target="x86-64-v4"))
        assert not strips(lowered)
        assert any(found.startswith(reason) for found in reasons(lowered)), reasons(lowered)


def test_a_training_step_keeps_its_weights() -> None:
    q, k, v = (intaglio.Tensor(normal(2, 20, 8), requires_grad=True) for _ in range(3))

    @intaglio.jit
    def loss(q: Any, k: Any, v: Any) -> Any:
        return intaglio.grad(lambda q, k, v: (attend(q, k, v) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)

    found = loss(q, k, v)
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(np.asarray(x), requires_grad=True) for x in (q, k, v)]
    (torch.nn.functional.scaled_dot_product_attention(*leaves) ** 2).sum().backward()
    for got, leaf in zip(found, leaves, strict=True):
        np.testing.assert_allclose(np.asarray(got), leaf.grad.numpy(), 1e-4, 1e-5)


def test_sizes_known_at_run_time() -> None:
    """A symbol around rows is a loop; rows of a length that is not known are stored."""
    n = var_index(Var("n", 1, 30))
    for shape, sizes, made in (((n, 21, 8), (3, 21, 8), 1), ((2, n, 8), (2, 17, 8), 0)):
        graph = Graph("g")
        q, k, v = (graph.input(TensorType(f32, shape), name) for name in "qkv")
        graph.set_outputs([attend(q, k, v)], ["y"])
        arrays = [normal(*sizes) for _ in range(3)]
        compiled = compile_graph(graph, threads=1)
        assert len(strips(compiled)) == made
        np.testing.assert_allclose(np.asarray(compiled(*arrays)), oracle(*arrays), 1e-5, 1e-5)
    assert any(d.because == "the length of rows is known only at run time" for d in compiled.decisions)
