"""Element types: their names, NumPy types, arithmetic types and promotion (PyTorch's rules)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import ml_dtypes
import numpy as np

from intaglio.shared.errors import DTypeError

Kind = Literal["bool", "uint", "int", "float"]
_KIND_ORDER: dict[str, int] = {"bool": 0, "uint": 1, "int": 1, "float": 2}


@dataclass(frozen=True, slots=True)
class DType:
    """One element type; `size` in bytes. f16 and bf16 are stored so and computed in f32."""

    name: str
    kind: Kind
    size: int

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return _NUMPY[self.name]

    @property
    def least(self) -> int:
        """The least number of an integer type."""
        return -(2 ** (8 * self.size - 1)) if self.kind == "int" else 0

    @property
    def largest(self) -> float:
        """The greatest finite number of a float type."""
        return float(ml_dtypes.finfo(self.numpy).max)  # type: ignore[no-untyped-call]

    @property
    def epsilon(self) -> float:
        """The step from 1 to the next number of a float type."""
        return float(ml_dtypes.finfo(self.numpy).eps)  # type: ignore[no-untyped-call]

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def arithmetic(self) -> DType:
        """The type in which values of this type are computed."""
        return f32 if self.name in ("f16", "bf16") else self


f64, f32 = DType("f64", "float", 8), DType("f32", "float", 4)
f16, bf16 = DType("f16", "float", 2), DType("bf16", "float", 2)
i8, i16, i32, i64 = (DType(f"i{n}", "int", n // 8) for n in (8, 16, 32, 64))
u8, u16, u32, u64 = (DType(f"u{n}", "uint", n // 8) for n in (8, 16, 32, 64))
bool_ = DType("bool", "bool", 1)

ALL: tuple[DType, ...] = (f64, f32, f16, bf16, i8, i16, i32, i64, u8, u16, u32, u64, bool_)
BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in ALL}

_NUMPY: dict[str, np.dtype[np.generic]] = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "bool": np.dtype(np.bool_),
    **{f"{kind}{n}": np.dtype(f"{kind}{n // 8}") for kind in "iu" for n in (8, 16, 32, 64)},
}
_FROM_NUMPY: dict[np.dtype[np.generic], DType] = {_NUMPY[d.name]: d for d in ALL}


def from_numpy(dtype: object) -> DType:
    """The element type of a NumPy dtype (or anything `np.dtype` takes), in native byte order."""
    if isinstance(dtype, np.dtype) and dtype in _FROM_NUMPY:
        return _FROM_NUMPY[dtype]
    try:
        key = np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
        return _FROM_NUMPY[key]
    except (KeyError, TypeError):
        known = ", ".join(d.name for d in ALL)
        raise DTypeError(f"element type {dtype} is not supported", hint=f"use one of {known}") from None


def parse(name: object) -> DType:
    """An element type from a DType, its name (`f32`, `float32`) or a NumPy dtype."""
    if isinstance(name, DType):
        return name
    if isinstance(name, str) and name in BY_NAME:
        return BY_NAME[name]
    return from_numpy(name)


def is_higher(a: DType, b: DType) -> bool:
    """Whether `a` is of a higher kind than `b`: truth values, then integers, then floats."""
    return _KIND_ORDER[a.kind] > _KIND_ORDER[b.kind]


@cache
def promote(a: DType, b: DType) -> DType:
    """The common type of two tensors, as PyTorch has it: kinds first, then the wider."""
    if a == b:
        return a
    if _KIND_ORDER[a.kind] != _KIND_ORDER[b.kind]:
        return a if _KIND_ORDER[a.kind] > _KIND_ORDER[b.kind] else b
    if a.kind == b.kind:
        if {a.name, b.name} == {"f16", "bf16"}:
            return f32
        return a if a.size >= b.size else b
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    if signed.size > unsigned.size:
        return signed
    if unsigned.size == 8:
        raise DTypeError(f"{a} and {b} have no common type", hint="cast one of them")
    return BY_NAME[f"i{16 * unsigned.size}"]
