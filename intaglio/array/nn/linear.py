"""Linear maps and lookup tables, with PyTorch's parameters and initialisation."""

from __future__ import annotations

import math
from typing import Any

from intaglio.array import functional as F
from intaglio.array.nn import init
from intaglio.array.nn.module import Module, Parameter


class Linear(Module):
    """`x @ weight.T + bias` on the last axis; weight is [out_features, in_features]."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "f32") -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.weight = Parameter(init.uniform((out_features, in_features), bound, dtype))
        self.register_parameter(
            "bias", Parameter(init.uniform((out_features,), bound, dtype)) if bias else None
        )

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Bilinear(Module):
    """`x1 @ weight[k] @ x2 + bias[k]` for every output `k`, on the last axes."""

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, dtype: Any = "f32"
    ) -> None:
        super().__init__()
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        bound = 1 / math.sqrt(in1_features)
        self.weight = Parameter(init.uniform((out_features, in1_features, in2_features), bound, dtype))
        self.register_parameter(
            "bias", Parameter(init.uniform((out_features,), bound, dtype)) if bias else None
        )

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Embedding(Module):
    """Rows of `weight` [num_embeddings, embedding_dim] by index; the row `padding_idx` gets no gradient."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = "f32"
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else range(num_embeddings)[padding_idx]
        weight = init.normal((num_embeddings, embedding_dim), 1.0, dtype)
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        self.weight = Parameter(weight)

    def forward(self, indices: Any) -> Any:
        return F.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
