"""Factors of integer contractions as the narrow integers that machines multiply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.graph.codes import NARROW
from intaglio.loop import places
from intaglio.loop.codes import code_of
from intaglio.loop.ir import Buffer
from intaglio.loop.recipes.axes import Contraction, Env, Factor
from intaglio.loop.recipes.nests import variable_of
from intaglio.ops.expr import Apply, Const, Expr, Read, cast
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.index import Index

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Form:
    """What is multiplied: groups of so many integers of these types."""

    group: int
    left: DType
    right: DType


BYTES = Form(4, dtypes.u8, dtypes.i8)
PAIRS = Form(2, dtypes.i16, dtypes.i16)


@dataclass(frozen=True)
class Narrow:
    """A factor as integers of `dtype`: what is stored, less `offset`, is the factor.

    `plain` where it lies in memory like that already; `data` are the stored values of a constant.
    """

    dtype: DType
    axes: str
    at: Callable[[Env], Expr]
    offset: Callable[[Env], Expr]
    data: Array | None = None
    plain: bool = False

    def is_centred(self, env: Env) -> bool:
        """Whether nothing is to be taken off."""
        return self.offset(env) == Const(0, dtypes.i32)

    def stride(self, env: Env, axis: str) -> int | None:
        """How far the stored value moves along an axis, at probing values of all."""
        value, index = self.at(env), env[axis]
        if not isinstance(value, Read) or not isinstance(value.source, Buffer) or isinstance(index, int):
            return None
        return places.stride(value.source, value.index, variable_of(index))


def narrowed(contraction: Contraction, factor: Factor, dtype: DType) -> Narrow | None:
    """A factor stored as a type; None where it does not fit, or is no byte less a zero point."""
    if factor.data is not None:
        return _constant(factor, factor.data, dtype)
    found = code_of(factor.at(contraction.variables))
    reduced = {
        variable_of(v) for a, v in contraction.variables.items()
        if isinstance(v, Index) and a not in contraction.out_axes
    }  # fmt: skip
    if found is None or places.variables(found[1]) & reduced:
        return None
    code, zero = found
    if dtype not in NARROW:
        if not _is_byte(zero):
            return None
        return Narrow(dtype, factor.axes, lambda env: cast(factor.at(env), dtype), lambda _: _number(0))
    shift = code.dtype.least - dtype.least

    def at(env: Env) -> Expr:
        code = _parts(factor, env)[0]
        return cast(cast(code, dtypes.i32) - shift, dtype) if shift else code

    def offset(env: Env) -> Expr:
        outside: Env = dict.fromkeys(factor.axes, 0)
        return shifted(_parts(factor, outside | env)[1], -shift)

    return Narrow(dtype, factor.axes, at, offset, plain=not shift and isinstance(code, Read))


def shifted(value: Expr, by: int) -> Expr:
    """A number more than a value."""
    if isinstance(value, Const):
        return _number(int(value.value) + by)
    return value + by if by else value


def _parts(factor: Factor, env: Env) -> tuple[Expr, Expr]:
    parts = code_of(factor.at(env))
    assert parts is not None
    return parts


def _number(value: int) -> Const:
    return Const(value, dtypes.i32)


def _constant(factor: Factor, data: Array, dtype: DType) -> Narrow | None:
    low, high = int(data.min()), int(data.max())
    least, most = dtype.least, dtype.least + 2 ** (8 * dtype.size) - 1
    if high - low > most - least or (dtype not in NARROW and (low < least or high > most)):
        return None
    shift = 0 if least <= low and high <= most else least - low
    return Narrow(
        dtype,
        factor.axes,
        lambda env: cast(factor.at(env) + shift, dtype),
        lambda _: _number(shift),
        (data + shift).astype(dtype.numpy),
    )


def _is_byte(value: Expr) -> bool:
    """Whether a zero point is surely one of a byte, or a number no larger."""
    if isinstance(value, Const):
        return abs(int(value.value)) <= 255
    return isinstance(value, Apply) and value.fn == "cast" and value.args[0].dtype in NARROW
