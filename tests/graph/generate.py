"""Random graphs for testing passes: every kind of operator, awkward numbers, repetitions, dead code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.graph.eval import evaluate
from intaglio.graph.ir import Graph, Value
from intaglio.ops import prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.regions import region
from intaglio.shared.types import TensorType

AWKWARD = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, float("inf"), float("-inf"), float("nan"), 1e-40, 3e38]
UNARY = ("neg", "abs", "exp", "tanh", "sigmoid", "floor", "sqrt", "detach")
BINARY = ("add", "sub", "mul", "div", "max", "min")
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.25, 3.0)


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, *, awkward: bool) -> Any:
    """Ordinary numbers, with awkward ones strewn in when asked for."""
    if dtype == dtypes.bool_:
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        return rng.integers(0 if dtype.kind == "uint" else -4, 5, shape).astype(dtype.numpy)
    array = rng.standard_normal(shape)
    if awkward:
        array = np.where(rng.random(shape) < 0.3, rng.choice(AWKWARD, shape), array)
    with np.errstate(all="ignore"):
        return np.asarray(array, dtype.numpy)


class Generator:
    """Builds one graph; `values` are what later operators may read."""

    def __init__(self, seed: int, dtype: DType = dtypes.f32) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.graph = Graph("random")
        self.values: list[Value] = []

    def pick(self, condition: Callable[[Value], bool] = lambda value: True) -> Value:
        found = [v for v in self.values if v.dtype == self.dtype and condition(v)]
        return found[int(self.rng.integers(len(found)))] if found else self.values[0]

    def shape(self) -> tuple[int, ...]:
        return tuple(int(k) for k in self.rng.choice([1, 2, 3], int(self.rng.integers(1, 4))))

    def build(self, steps: int) -> Graph:
        for k in range(3):
            self.values.append(self.graph.input(TensorType(self.dtype, self.shape()), f"x{k}"))
        for _ in range(3):
            self.values.append(
                self.graph.constant(random_array(self.rng, self.shape(), self.dtype, awkward=True))
            )
        state = self.graph.state(random_array(self.rng, (2, 3), self.dtype, awkward=False), "s")
        self.values.append(state)
        kinds = [
            self.unary,
            self.binary,
            self.number,
            self.view,
            self.reduce,
            self.dot,
            self.select,
            self.repeat,
        ]
        for _ in range(steps):
            with region("block"):
                kinds[int(self.rng.integers(len(kinds)))]()
        results = [self.pick() for _ in range(3)] + [self.values[-1]]
        self.graph.set_outputs(results)
        self.graph.update(
            state, self.pick(lambda v: v.shape == (2, 3)) if self.rng.random() < 0.5 else state * 0.5
        )
        return self.graph

    def unary(self) -> None:
        self.values.append(getattr(prim, self.rng.choice(UNARY))(self.pick()))

    def binary(self) -> None:
        a = self.pick()
        b = self.pick(lambda v: v.shape == a.shape)
        if b.shape == a.shape:
            self.values.append(getattr(prim, self.rng.choice(BINARY))(a, b))

    def number(self) -> None:
        a, number = self.pick(), float(self.rng.choice(NUMBERS))
        op = getattr(prim, self.rng.choice([*BINARY, "pow"]))
        self.values.append(op(a, number) if self.rng.random() < 0.7 else op(number, a))

    def view(self) -> None:
        a = self.pick()
        kind = self.rng.choice(["reshape", "transpose", "broadcast", "slice", "pad", "concat", "cast"])
        rank = a.type.rank
        if kind == "reshape":
            shape = tuple(int(k) for k in self.rng.permutation([*a.shape, 1]))
            b = prim.reshape(a, shape=shape)
        elif kind == "transpose":
            b = prim.transpose(a, perm=tuple(int(k) for k in self.rng.permutation(rank)))
        elif kind == "broadcast":
            b = prim.broadcast(
                a, shape=((2,) if rank < 4 else ()) + tuple(3 if k == 1 else k for k in a.shape)
            )
        elif kind == "slice":
            b = prim.slice(
                a, start=(0,) * rank, stop=tuple(max(1, int(k) - 1) for k in a.shape), step=(1,) * rank
            )
        elif kind == "pad":
            padding = tuple((int(self.rng.integers(2)), int(self.rng.integers(2))) for _ in range(rank))
            b = prim.pad(a, padding=padding, mode="constant", value=0.0)
        elif kind == "concat":
            b = prim.concat(a, a, axis=0) if rank else a
        else:
            b = prim.cast(prim.cast(a, dtype=dtypes.f64), dtype=self.dtype)
        if b.type.rank <= 5 and int(b.type.size) <= 4096:
            self.values.append(b)

    def reduce(self) -> None:
        a = self.pick(lambda v: v.type.rank > 0)
        axes = tuple(k for k in range(a.type.rank) if self.rng.random() < 0.5)
        op = self.rng.choice(["sum", "reduce_max", "reduce_min", "prod"])
        if axes or op == "sum":
            self.values.append(getattr(prim, op)(a, axes=axes))

    def dot(self) -> None:
        a = self.pick(lambda v: v.type.rank == 2)
        if a.type.rank != 2:
            return
        b = self.pick(lambda v: v.type.rank == 2 and v.shape[0] == a.shape[1])
        if b.type.rank == 2 and b.shape[0] == a.shape[1]:
            self.values.append(prim.dot(a, b, spec="mk,kn->mn"))
        self.values.append(prim.dot(a, prim.transpose(a, perm=(1, 0)), spec="mk,kn->mn"))

    def select(self) -> None:
        a = self.pick()
        b = self.pick(lambda v: v.shape == a.shape)
        if a.shape == b.shape:
            self.values.append(prim.where(prim.lt(a, b), a, b * 2.0))

    def repeat(self) -> None:
        """The same operator again, for common subexpressions."""
        node = self.graph.nodes[int(self.rng.integers(len(self.graph.nodes)))] if self.graph.nodes else None
        if node is not None and node.outputs[0].dtype == self.dtype:
            self.values.append(self.graph.append(node.op, node.inputs, node.attrs)[0])


def random_graph(seed: int, steps: int = 30, dtype: DType = dtypes.f32) -> Graph:
    return Generator(seed, dtype).build(steps)


def random_inputs(graph: Graph, seed: int, *, awkward: bool) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [random_array(rng, tuple(map(int, v.shape)), v.dtype, awkward=awkward) for v in graph.inputs]


def assert_same(before: Graph, after: Graph, inputs: list[Any], *, ulps: float = 64) -> None:
    """Both graphs give the same: NaN and infinities at the same places, numbers within some ULPs."""
    for side_a, side_b in zip(evaluate(before, inputs), evaluate(after, inputs), strict=True):
        for a, b in zip(side_a, side_b, strict=True):
            assert_close(a, b, ulps=ulps)


def assert_close(a: Any, b: Any, *, ulps: float) -> None:
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    if a.dtype.kind not in "f":
        np.testing.assert_array_equal(a, b)
    elif ulps == 0:
        both = np.isnan(a) & np.isnan(b)
        assert np.array_equal(
            np.where(both, 0, a).view(f"u{a.dtype.itemsize}"),
            np.where(both, 0, b).view(f"u{a.dtype.itemsize}"),
        ), f"\n{a}\n{b}"
    else:
        np.testing.assert_allclose(a, b, rtol=ulps * float(np.finfo(a.dtype).eps), atol=1e-37)
