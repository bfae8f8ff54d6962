"""PyTorch's tensors and types as NumPy's, without copies where memory allows."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import UnsupportedError

_DTYPES = {
    torch.float64: dtypes.f64,
    torch.float32: dtypes.f32,
    torch.float16: dtypes.f16,
    torch.bfloat16: dtypes.bf16,
    torch.int8: dtypes.i8,
    torch.int16: dtypes.i16,
    torch.int32: dtypes.i32,
    torch.int64: dtypes.i64,
    torch.uint8: dtypes.u8,
    torch.uint16: dtypes.u16,
    torch.uint32: dtypes.u32,
    torch.uint64: dtypes.u64,
    torch.bool: dtypes.bool_,
}
_TORCH = {ours: theirs for theirs, ours in _DTYPES.items()}


def dtype_of_torch(dtype: torch.dtype) -> DType:
    """Our element type. Raises UnsupportedError for complex and quantised ones."""
    if dtype not in _DTYPES:
        raise UnsupportedError(
            f"element type {dtype} is not supported", hint="use real numbers, integers or truth values"
        )
    return _DTYPES[dtype]


def torch_dtype(dtype: DType) -> torch.dtype:
    return _TORCH[dtype]


def array_of(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The tensor's memory as an array, contiguous (then without a copy) or copied to be so.

    Raises:
        UnsupportedError: not a dense tensor in the machine's own memory.
    """
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise UnsupportedError(
            f"a {tensor.layout} or quantised tensor is not supported", hint="make it dense"
        )
    if not tensor.is_cpu:
        raise UnsupportedError(f"a tensor on {tensor.device} is not supported", hint="move it to the CPU")
    plain = tensor if tensor.is_contiguous() else tensor.contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.detach().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    dtype_of_torch(plain.dtype)
    array: np.ndarray[Any, Any] = plain.numpy(force=True)
    return array


def tensor_of(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """An array's memory as a tensor, without a copy."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)
