"""Tensor's methods, with PyTorch's names: each is a primitive or a composition under its method name.

A method whose name ends in `_` changes the tensor in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from intaglio.ops.compositions import activation, basic, functions, indexing, linear, reduction
from intaglio.ops.operators import Operators, power
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ShapeError
from intaglio.shared.index import product


class Extremes(NamedTuple):
    """The result of `x.max(dim)`, `x.sort()`, `x.topk(k)`: elements, and where along `dim` they were."""

    values: Any
    indices: Any


def sizes(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes given one by one or as one sequence."""
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list)) else given


def _method(function: Any) -> Callable[..., Any]:
    """A function of a tensor as a method."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__doc__ = getattr(function, "doc", function.__doc__)
    return method


def _changing(function: Any) -> Callable[..., Any]:
    """A function of a tensor as a method that changes it in place."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._in_place(function(self, *args, **kwargs))

    method.__doc__ = getattr(function, "doc", function.__doc__)
    return method


def _add(x: Any, other: Any, *, alpha: float = 1) -> Any:
    """x + alpha * other."""
    return prim.add(x, other if alpha == 1 else prim.mul(other, alpha))


def _sub(x: Any, other: Any, *, alpha: float = 1) -> Any:
    """x - alpha * other."""
    return prim.sub(x, other if alpha == 1 else prim.mul(other, alpha))


def _div(x: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """x / other; rounded by `floor` or `trunc` if asked for."""
    if rounding_mode == "floor":
        return prim.floor_div(x, other)
    quotient = prim.div(x, other)
    return prim.trunc(quotient) if rounding_mode == "trunc" else quotient


def _lerp(x: Any, end: Any, weight: Any) -> Any:
    return functions.lerp(x, end, weight)


def _addcmul(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    """x + value * a * b."""
    return _add(x, a * b, alpha=value)


def _addcdiv(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    """x + value * a / b."""
    return _add(x, a / b, alpha=value)


def _other(x: Any, other: Any) -> Any:
    return other


def _filled(x: Any, value: float) -> Any:
    """Every element replaced by a number."""
    return basic.full_like(x, value)


def _zeroed(x: Any) -> Any:
    """Every element replaced by 0."""
    return basic.full_like(x, 0)


def _extremes(along: Callable[..., Any], whole: Callable[..., Any], pair: Any) -> Callable[..., Any]:
    """`max` and `min`: over everything, along a dimension with indices, or of two tensors."""

    def method(self: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            return whole(self)
        if hasattr(dim, "__intaglio_apply__"):
            return pair(self, dim)
        return Extremes(*along(self, dim, keepdim))

    return method


class Methods(Operators):
    """Everything a tensor can do that needs no storage of its own."""

    __slots__ = ()

    shape: tuple[Any, ...]

    def __matmul__(self, other: Any) -> Any:
        return linear.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return linear.matmul(other, self)

    def __floordiv__(self, other: Any) -> Any:
        return prim.floor_div(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return prim.floor_div(other, self)

    def __mod__(self, other: Any) -> Any:
        return prim.remainder(self, other)

    def __rmod__(self, other: Any) -> Any:
        return prim.remainder(other, self)

    def __lshift__(self, other: Any) -> Any:
        return prim.shl(self, other)

    def __rshift__(self, other: Any) -> Any:
        return prim.shr(self, other)

    def __rand__(self, other: Any) -> Any:
        return prim.and_(other, self)

    def __ror__(self, other: Any) -> Any:
        return prim.or_(other, self)

    def __rxor__(self, other: Any) -> Any:
        return prim.xor(other, self)

    def __pos__(self) -> Any:
        return self

    def __eq__(self, other: object) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else prim.eq(self, other)

    def __ne__(self, other: object) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else prim.ne(self, other)

    __hash__ = object.__hash__

    __iadd__ = add_ = _changing(_add)
    __isub__ = sub_ = _changing(_sub)
    __imul__ = mul_ = _changing(prim.mul)
    __itruediv__ = div_ = _changing(_div)
    __ifloordiv__ = floor_divide_ = _changing(prim.floor_div)
    __imod__ = remainder_ = _changing(prim.remainder)
    __ipow__ = pow_ = _changing(power)
    __iand__ = _changing(prim.and_)
    __ior__ = _changing(prim.or_)
    __ixor__ = _changing(prim.xor)
    copy_ = _changing(_other)
    fill_ = _changing(_filled)
    zero_ = _changing(_zeroed)
    neg_, abs_, exp_, log_ = map(_changing, (prim.neg, prim.abs, prim.exp, prim.log))
    sqrt_, tanh_, sin_, cos_ = map(_changing, (prim.sqrt, prim.tanh, prim.sin, prim.cos))
    floor_, ceil_, round_, trunc_ = map(_changing, (prim.floor, prim.ceil, prim.round, prim.trunc))
    sigmoid_, relu_ = map(_changing, (activation.sigmoid, activation.relu))
    square_, reciprocal_, rsqrt_ = map(_changing, (functions.square, functions.reciprocal, functions.rsqrt))
    clamp_ = clip_ = _changing(functions.clamp)
    lerp_, addcmul_, addcdiv_ = map(_changing, (_lerp, _addcmul, _addcdiv))
    masked_fill_ = _changing(indexing.masked_fill)
    scatter_, scatter_add_ = map(_changing, (indexing.scatter, indexing.scatter_add))
    index_add_, index_copy_ = map(_changing, (indexing.index_add, indexing.index_copy))

    # Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def dim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one extent of it."""
        return self.shape if dim is None else self.shape[basic.axis_of(dim, self.ndim)]

    def numel(self) -> Any:
        """Number of elements."""
        return product(self.shape)

    @property
    def T(self) -> Any:
        return basic.transpose(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Any:
        return self.transpose(-2, -1)

    def t(self) -> Any:
        if self.ndim > 2:
            raise ShapeError(
                f"t: {list(self.shape)} has more than 2 dimensions", hint="use transpose or permute"
            )
        return self.T

    def reshape(self, *shape: Any) -> Any:
        return basic.reshape(self, sizes(shape))

    view = reshape

    def view_as(self, other: Any) -> Any:
        return basic.reshape(self, other.shape)

    reshape_as = view_as

    def expand(self, *shape: Any) -> Any:
        """Repeat along dimensions of extent 1 and new leading ones; -1 keeps an extent."""
        wanted, own = sizes(shape), self.shape
        spare = len(wanted) - len(own)
        kept = [own[k - spare] if e == -1 and k >= spare else e for k, e in enumerate(wanted)]
        return basic.expand(self, kept)

    def expand_as(self, other: Any) -> Any:
        return basic.expand(self, other.shape)

    broadcast_to = expand

    def permute(self, *dims: Any) -> Any:
        order = [basic.axis_of(d, self.ndim) for d in sizes(dims)]
        return (
            prim.transpose(self, perm=tuple(order))
            if len(order) != self.ndim
            else basic.transpose(self, order)
        )

    def transpose(self, dim0: int, dim1: int) -> Any:
        order = list(range(self.ndim))
        a, b = basic.axis_of(dim0, self.ndim), basic.axis_of(dim1, self.ndim)
        if order:
            order[a], order[b] = order[b], order[a]
        return basic.transpose(self, order)

    swapaxes = transpose

    flatten, squeeze, unsqueeze = map(_method, (basic.flatten, basic.squeeze, basic.unsqueeze))
    movedim = _method(basic.movedim)

    def unflatten(self, dim: int, sizes: Any) -> Any:
        """One dimension as several."""
        axis = basic.axis_of(dim, self.ndim)
        known = product(tuple(e for e in sizes if e != -1))
        whole = [self.shape[axis] // known if e == -1 else e for e in sizes]
        return basic.reshape(self, (*self.shape[:axis], *whole, *self.shape[axis + 1 :]))

    def repeat(self, *repeats: Any) -> Any:
        return indexing.tile(self, sizes(repeats))

    def tile(self, *repeats: Any) -> Any:
        return indexing.tile(self, sizes(repeats))

    def repeat_interleave(self, repeats: int, dim: int | None = None) -> Any:
        x = basic.flatten(self) if dim is None else self
        return indexing.repeat_interleave(x, repeats, dim or 0)

    def flip(self, *dims: Any) -> Any:
        return indexing.flip(self, sizes(dims))

    split, chunk, unbind = map(_method, (indexing.split, indexing.chunk, indexing.unbind))
    narrow, select, roll = map(_method, (indexing.narrow, indexing.select, indexing.roll))
    tril, triu = map(_method, (indexing.tril, indexing.triu))

    def diagonal(self) -> Any:
        """The diagonals of the last two dimensions, as a last dimension."""
        return indexing.diagonal(self)

    # Reductions

    sum, prod, mean = map(_method, (reduction.sum, reduction.prod, reduction.mean))

    def var(
        self, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
    ) -> Any:
        return reduction.var(self, dim, int(unbiased) if correction is None else correction, keepdim)

    def std(
        self, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
    ) -> Any:
        return reduction.std(self, dim, int(unbiased) if correction is None else correction, keepdim)

    max = _extremes(reduction.max, reduction.amax, prim.max)
    min = _extremes(reduction.min, reduction.amin, prim.min)
    amax, amin = _method(reduction.amax), _method(reduction.amin)
    argmax, argmin = _method(reduction.argmax), _method(reduction.argmin)
    all, any = _method(reduction.all), _method(reduction.any)
    cumsum, cumprod = _method(reduction.cumsum), _method(reduction.cumprod)
    logsumexp, norm = _method(reduction.logsumexp), _method(reduction.norm)

    def count_nonzero(self, dim: Any = None) -> Any:
        return reduction.sum(functions.truth(self), dim)

    # Elements

    add, sub, mul, div = map(_method, (_add, _sub, prim.mul, _div))
    subtract, multiply, divide, true_divide = sub, mul, div, div
    neg, abs, sign, pow = map(_method, (prim.neg, prim.abs, prim.sign, power))
    floor_divide, remainder, fmod = map(_method, (prim.floor_div, prim.remainder, prim.fmod))
    eq, ne, lt, le = map(_method, (prim.eq, prim.ne, prim.lt, prim.le))
    gt, ge = map(_method, (functions.gt, functions.ge))
    exp, expm1, exp2, log, log1p = map(_method, (prim.exp, prim.expm1, functions.exp2, prim.log, prim.log1p))
    log2, log10, logaddexp = map(_method, (functions.log2, functions.log10, functions.logaddexp))
    sqrt, rsqrt, square = map(_method, (prim.sqrt, functions.rsqrt, functions.square))
    reciprocal, hypot = map(_method, (functions.reciprocal, functions.hypot))
    sin, cos, tan, asin, acos, atan = map(
        _method, (prim.sin, prim.cos, prim.tan, prim.asin, prim.acos, prim.atan)
    )
    sinh, cosh, tanh, asinh, acosh, atanh = map(
        _method, (prim.sinh, prim.cosh, prim.tanh, prim.asinh, prim.acosh, prim.atanh)
    )
    atan2 = arctan2 = _method(prim.atan2)
    erf, erfc, sigmoid, relu = map(_method, (prim.erf, functions.erfc, activation.sigmoid, activation.relu))
    floor, ceil, round, trunc = map(_method, (prim.floor, prim.ceil, prim.round, prim.trunc))
    maximum, minimum = map(_method, (prim.max, prim.min))
    clamp = clip = _method(functions.clamp)
    isnan, isinf, isfinite = map(_method, (functions.isnan, functions.isinf, functions.isfinite))
    nan_to_num, lerp = map(_method, (functions.nan_to_num, _lerp))
    addcmul, addcdiv = map(_method, (_addcmul, _addcdiv))
    logical_and, logical_or = map(_method, (functions.logical_and, functions.logical_or))
    logical_xor, logical_not = map(_method, (functions.logical_xor, functions.logical_not))
    bitwise_and, bitwise_or, bitwise_xor, bitwise_not = map(
        _method, (prim.and_, prim.or_, prim.xor, prim.not_)
    )
    masked_fill = _method(indexing.masked_fill)
    softmax, log_softmax = map(_method, (activation.softmax, activation.log_softmax))

    def where(self, condition: Any, other: Any) -> Any:
        return prim.where(condition, self, other)

    # Products and lookups

    matmul = _method(linear.matmul)
    mm = bmm = mv = dot = inner = matmul
    outer = _method(linear.outer)
    gather, index_select = map(_method, (indexing.gather, indexing.index_select))
    scatter, scatter_add = map(_method, (indexing.scatter, indexing.scatter_add))
    index_add, index_copy = map(_method, (indexing.index_add, indexing.index_copy))
    argsort = _method(indexing.argsort)

    def take_along_dim(self, indices: Any, dim: int) -> Any:
        return indexing.take_along_dim(self, indices, dim)

    def masked_select(self, mask: Any) -> Any:
        return self[mask.expand(self.shape)]  # type: ignore[index]

    def sort(self, dim: int = -1, descending: bool = False) -> Any:
        return Extremes(*indexing.sort(self, dim, descending))

    def topk(self, k: int, dim: int = -1, largest: bool = True) -> Any:
        return Extremes(*indexing.topk(self, k, dim, largest))

    # Types

    def to(self, dtype: Any) -> Any:
        """The elements in another type: a DType, its name, a NumPy dtype, or a Tensor's."""
        wanted = dtype.dtype if isinstance(dtype, Methods) else dtype  # type: ignore[attr-defined]
        return basic.convert(self, dtypes.parse(wanted))

    def type_as(self, other: Any) -> Any:
        return self.to(other)

    def _to(dtype: DType) -> Callable[[Any], Any]:  # type: ignore[misc]
        return lambda self: basic.convert(self, dtype)

    double, float, half, bfloat16 = map(_to, (dtypes.f64, dtypes.f32, dtypes.f16, dtypes.bf16))
    long, int, short, char = map(_to, (dtypes.i64, dtypes.i32, dtypes.i16, dtypes.i8))
    byte, bool = _to(dtypes.u8), _to(dtypes.bool_)
    del _to

    def is_floating_point(self) -> Any:
        return basic.dtype_of(self).is_float

    def clone(self) -> Any:
        """The same elements in memory of their own; derivatives go through."""
        return prim.reshape(self, shape=self.shape)

    def contiguous(self) -> Any:
        return self
