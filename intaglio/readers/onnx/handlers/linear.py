"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.dispatch import type_of
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.handlers.elementwise import apply
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared.errors import ShapeError


@onnx_op("MatMul")
def matmul(_: OnnxCall, a: Operand, b: Operand) -> Any:
    return matrix_product(a, b)


def matrix_product(a: Operand, b: Operand) -> Any:
    """NumPy's `matmul` by `dot`: leading axes broadcast."""
    left, right = a.shape, b.shape
    if not left or not right:
        raise ShapeError(f"MatMul: {type_of(a)} and {type_of(b)} must have axes")
    letters = "abcdefgh"
    rank = max(len(left), len(right)) - 2
    batch = letters[: max(rank, 0)]
    own_a = batch[len(batch) - max(len(left) - 2, 0) :]
    own_b = batch[len(batch) - max(len(right) - 2, 0) :]
    sizes_a = dict(zip(own_a, left, strict=False))
    sizes_b = dict(zip(own_b, right, strict=False))
    drop_a = "".join(k for k in own_a if sizes_a[k] == 1 and sizes_b.get(k, 1) != 1)
    drop_b = "".join(k for k in own_b if sizes_b[k] == 1 and sizes_a.get(k, 1) != 1)
    a, own_a = _without(a, own_a, drop_a)
    b, own_b = _without(b, own_b, drop_b)
    rows = "m" if len(left) > 1 else ""
    columns = "n" if len(right) > 1 else ""
    spec = f"{own_a}{rows}k,{own_b}k{columns}->{batch}{rows}{columns}"
    return lookup("dot")(a, b, spec=spec)


def _without(x: Operand, axes: str, dropped: str) -> tuple[Operand, str]:
    """Remove axes of extent 1 that the other operand stretches."""
    if not dropped:
        return x, axes
    kept = tuple(e for k, e in enumerate(x.shape) if k >= len(axes) or axes[k] not in dropped)
    return lookup("reshape")(x, shape=kept), "".join(k for k in axes if k not in dropped)


@onnx_op("Gemm")
def gemm(call: OnnxCall, a: Operand, b: Operand, c: Operand | None = None) -> Any:
    left = "km" if call.attr("transA", 0) else "mk"
    right = "nk" if call.attr("transB", 0) else "kn"
    product = lookup("dot")(a, b, spec=f"{left},{right}->mn")
    dtype = type_of(product).dtype.numpy
    product = _scaled(product, call.attr("alpha", 1.0), dtype)
    return product if c is None else apply("add", product, _scaled(c, call.attr("beta", 1.0), dtype))


def _scaled(x: Operand, factor: float, dtype: Any) -> Any:
    return x if factor == 1.0 else apply("mul", x, np.asarray(factor, dtype))
