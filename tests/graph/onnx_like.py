"""Random networks as ONNX files give them: convolutions, batch norms, residuals, products, reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.graph.ir import Graph, Value
from intaglio.ops import prim
from intaglio.ops.compositions.normalization import batch_norm
from intaglio.ops.operators import Operators
from intaglio.shared.dtypes import f32
from intaglio.shared.types import TensorType


class Network:
    """Builds one graph; every step takes some earlier value, so values have several readers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("network")
        self.weights: list[Value] = []
        self.values: list[Value] = []

    def array(self, *shape: int) -> Any:
        return (self.rng.standard_normal(shape) * 0.5).astype(np.float32)

    def weight(self, *shape: int) -> Value:
        """A constant; now and then one that another operator reads, too."""
        same = [w for w in self.weights if w.shape == shape]
        if same and self.rng.random() < 0.3:
            return same[0]
        self.weights.append(self.graph.constant(self.array(*shape)))
        return self.weights[-1]

    def pick(self, rank: int | None = None) -> Value | None:
        found = [v for v in self.values if rank is None or v.type.rank == rank]
        return found[int(self.rng.integers(len(found)))] if found else None

    def build(self, steps: int) -> Graph:
        for k in range(2):
            self.values.append(self.graph.input(TensorType(f32, (1 + k, 4, 5, 5)), f"x{k}"))
        self.values.append(self.graph.input(TensorType(f32, (3, 6)), "m"))
        kinds: list[Callable[[], Any]] = [
            self.convolution, self.convolution, self.norm, self.affine, self.activation, self.residual,
            self.product, self.reduction, self.softmax, self.shape, self.siblings,
        ]  # fmt: skip
        for _ in range(steps):
            made = kinds[int(self.rng.integers(len(kinds)))]()
            self.values += [made] if isinstance(made, Operators) else made or []
        inner = self.values[int(self.rng.integers(len(self.values)))]
        self.graph.set_outputs([self.values[-1], self.values[-2], inner])
        return self.graph

    def convolution(self) -> Value | None:
        x = self.pick(4)
        if x is None:
            return None
        channels = int(x.shape[1])
        groups = int(self.rng.choice([1, channels]))
        k = int(self.rng.choice([1, 3]))
        pad = (int(self.rng.integers(2)) if int(x.shape[2]) >= k else 1, 1)
        w = self.weight(channels * int(self.rng.choice([1, 2])) if channels < 16 else channels,
                        channels // groups, k, k)  # fmt: skip
        return prim.conv(x, w, strides=(1, 1), dilations=(1, 1), padding=(pad, (1, 1)), groups=groups)

    def norm(self) -> Value | None:
        x = self.pick(4)
        if x is None:
            return None
        c = int(x.shape[1])
        mean, weight, bias = (self.graph.constant(self.array(c)) for _ in range(3))
        return batch_norm(x, mean, self.graph.constant(np.abs(self.array(c)) + 0.5), weight, bias)

    def affine(self) -> Value | None:
        """A scale or shift, by channel, by another axis, or by one number."""
        x = self.pick()
        if x is None or x.type.rank == 0:
            return None
        axis = int(self.rng.integers(x.type.rank))
        shape = [int(e) if k == axis else 1 for k, e in enumerate(x.shape)]
        other = self.array(*shape) + 2 if self.rng.random() < 0.7 else np.float32(1.5)
        op = getattr(prim, self.rng.choice(["mul", "add", "sub", "div"]))
        return op(x, other) if self.rng.random() < 0.7 else op(other, x)

    def activation(self) -> Value | None:
        x = self.pick()
        if x is None:
            return None
        name = self.rng.choice(["relu", "neg", "tanh", "sigmoid", "abs"])
        return prim.max(x, 0.0) if name == "relu" else getattr(prim, name)(x)

    def residual(self) -> Value | None:
        x = self.pick()
        same = [v for v in self.values if x is not None and v.shape == x.shape]
        return x + same[int(self.rng.integers(len(same)))] if x is not None else None

    def product(self) -> Value | None:
        x = self.pick(2)
        if x is None:
            return None
        inner = int(x.shape[1])
        if self.rng.random() < 0.7:
            return prim.dot(x, self.weight(inner, int(self.rng.choice([3, 6]))), spec="mk,kn->mn")
        return prim.dot(x, prim.transpose(x, perm=(1, 0)), spec="mk,kn->mn")

    def reduction(self) -> Value | None:
        x = self.pick(4)
        if x is None:
            return None
        op = getattr(prim, self.rng.choice(["sum", "reduce_max"]))
        if self.rng.random() < 0.3:
            return op(op(x, axes=(3,)), axes=(2,))
        return op(x, axes=(2, 3) if self.rng.random() < 0.7 else (1, 2))

    def softmax(self) -> Value | None:
        x = self.pick(2)
        if x is None:
            return None
        rows = int(x.shape[0])
        top = prim.reshape(prim.reduce_max(x, axes=(1,)), shape=(rows, 1))
        e = prim.exp(x - top)
        return e / prim.reshape(prim.sum(e, axes=(1,)), shape=(rows, 1))

    def shape(self) -> Value | None:
        x = self.pick()
        if x is None or x.type.rank == 0:
            return None
        rank, kind = x.type.rank, self.rng.integers(4)
        if kind == 0:
            return prim.transpose(x, perm=tuple(int(k) for k in self.rng.permutation(rank)))
        if kind == 1:
            return prim.reshape(x, shape=(int(x.shape[0]), int(x.type.size) // int(x.shape[0])))
        if kind == 2:
            stop = tuple(max(1, int(e) - 1) for e in x.shape)
            return prim.slice(x, start=(0,) * rank, stop=stop, step=(1,) * rank)
        padding = ((0, 0),) * (rank - 1) + ((1, 1),)
        return prim.pad(x, padding=padding, mode="constant", value=0.0)

    def siblings(self) -> list[Value] | None:
        """Operators over one input, some with biases; one of the results may be read twice."""
        x = self.pick(4) if self.rng.random() < 0.4 else self.pick(2)
        if x is None:
            return None
        if x.type.rank == 4:
            same = {"strides": (1, 1), "dilations": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1}
            return [prim.conv(x, self.weight(n, int(x.shape[1]), 1, 1), **same) for n in (3, 5)]
        made = [prim.dot(x, self.weight(int(x.shape[1]), n), spec="mk,kn->mn") for n in (3, 6)]
        return [y + self.array(int(y.shape[1])) if self.rng.random() < 0.6 else y for y in made]


def random_network(seed: int, steps: int = 14) -> Graph:
    return Network(seed).build(steps)
