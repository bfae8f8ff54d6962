"""Tensor's methods, with PyTorch's names: each is a composition or a primitive under its method name."""

from __future__ import annotations

from typing import Any

from intaglio.ops.compositions import activation, basic, functions, indexing, linear, reduction
from intaglio.ops.operators import Operators
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.index import product


def _shape(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes given one by one or as one sequence."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


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

    def __mod__(self, other: Any) -> Any:
        return prim.remainder(self, other)

    def __lshift__(self, other: Any) -> Any:
        return prim.shl(self, other)

    def __rshift__(self, other: Any) -> Any:
        return prim.shr(self, other)

    def __eq__(self, other: object) -> Any:
        return NotImplemented if other is None else prim.eq(self, other)

    def __ne__(self, other: object) -> Any:
        return NotImplemented if other is None else prim.ne(self, other)

    __hash__ = object.__hash__

    # Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def dim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> Any:
        return product(self.shape)

    @property
    def T(self) -> Any:
        return basic.transpose(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Any:
        return self.transpose(-2, -1)

    def reshape(self, *shape: Any) -> Any:
        return basic.reshape(self, _shape(shape))

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        return basic.flatten(self, start_dim, end_dim)

    def squeeze(self, dim: Any = None) -> Any:
        return basic.squeeze(self, dim)

    def unsqueeze(self, dim: int) -> Any:
        return basic.unsqueeze(self, dim)

    def expand(self, *sizes: Any) -> Any:
        return basic.expand(self, _shape(sizes))

    def expand_as(self, other: Any) -> Any:
        return basic.expand(self, other.shape)

    def permute(self, *dims: Any) -> Any:
        return basic.transpose(self, _shape(dims))

    def transpose(self, dim0: int, dim1: int) -> Any:
        order = list(range(self.ndim))
        order[dim0], order[dim1] = order[dim1], order[dim0]
        return basic.transpose(self, order)

    def t(self) -> Any:
        return self.T

    def movedim(self, source: int, destination: int) -> Any:
        return basic.movedim(self, source, destination)

    def repeat(self, *repeats: Any) -> Any:
        return indexing.tile(self, _shape(repeats))

    def split(self, sizes: Any, dim: int = 0) -> Any:
        return indexing.split(self, sizes, dim)

    def chunk(self, chunks: int, dim: int = 0) -> Any:
        return indexing.chunk(self, chunks, dim)

    def unbind(self, dim: int = 0) -> Any:
        return indexing.unbind(self, dim)

    def narrow(self, dim: int, start: int, length: int) -> Any:
        return indexing.narrow(self, dim, start, length)

    def select(self, dim: int, index: int) -> Any:
        return indexing.select(self, dim, index)

    def flip(self, *dims: Any) -> Any:
        return indexing.flip(self, _shape(dims))

    def roll(self, shifts: Any, dims: Any = None) -> Any:
        return indexing.roll(self, shifts, dims)

    def tril(self, diagonal: int = 0) -> Any:
        return indexing.tril(self, diagonal)

    def triu(self, diagonal: int = 0) -> Any:
        return indexing.triu(self, diagonal)

    # Reductions

    def sum(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.sum(self, dim, keepdim)

    def prod(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.prod(self, dim, keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.mean(self, dim, keepdim)

    def var(self, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Any:
        return reduction.var(self, dim, correction, keepdim)

    def std(self, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Any:
        return reduction.std(self, dim, correction, keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return reduction.amax(self) if dim is None else reduction.max(self, dim, keepdim)

    def min(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return reduction.amin(self) if dim is None else reduction.min(self, dim, keepdim)

    def amax(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.amax(self, dim, keepdim)

    def amin(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.amin(self, dim, keepdim)

    def argmax(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.argmax(self, dim, keepdim)

    def argmin(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.argmin(self, dim, keepdim)

    def all(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.all(self, dim, keepdim)

    def any(self, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.any(self, dim, keepdim)

    def cumsum(self, dim: int) -> Any:
        return reduction.cumsum(self, dim)

    def cumprod(self, dim: int) -> Any:
        return reduction.cumprod(self, dim)

    def logsumexp(self, dim: Any, keepdim: bool = False) -> Any:
        return reduction.logsumexp(self, dim, keepdim)

    def norm(self, p: float = 2, dim: Any = None, keepdim: bool = False) -> Any:
        return reduction.norm(self, p, dim, keepdim)

    # Elements

    def abs(self) -> Any:
        return prim.abs(self)

    def neg(self) -> Any:
        return prim.neg(self)

    def sign(self) -> Any:
        return prim.sign(self)

    def exp(self) -> Any:
        return prim.exp(self)

    def expm1(self) -> Any:
        return prim.expm1(self)

    def log(self) -> Any:
        return prim.log(self)

    def log1p(self) -> Any:
        return prim.log1p(self)

    def log2(self) -> Any:
        return functions.log2(self)

    def log10(self) -> Any:
        return functions.log10(self)

    def sqrt(self) -> Any:
        return prim.sqrt(self)

    def rsqrt(self) -> Any:
        return functions.rsqrt(self)

    def square(self) -> Any:
        return functions.square(self)

    def reciprocal(self) -> Any:
        return functions.reciprocal(self)

    def sin(self) -> Any:
        return prim.sin(self)

    def cos(self) -> Any:
        return prim.cos(self)

    def tan(self) -> Any:
        return prim.tan(self)

    def tanh(self) -> Any:
        return prim.tanh(self)

    def erf(self) -> Any:
        return prim.erf(self)

    def sigmoid(self) -> Any:
        return activation.sigmoid(self)

    def relu(self) -> Any:
        return activation.relu(self)

    def softmax(self, dim: int) -> Any:
        return activation.softmax(self, dim)

    def log_softmax(self, dim: int) -> Any:
        return activation.log_softmax(self, dim)

    def floor(self) -> Any:
        return prim.floor(self)

    def ceil(self) -> Any:
        return prim.ceil(self)

    def round(self) -> Any:
        return prim.round(self)

    def trunc(self) -> Any:
        return prim.trunc(self)

    def pow(self, exponent: Any) -> Any:
        return prim.pow(self, exponent)

    def clamp(self, min: Any = None, max: Any = None) -> Any:
        return functions.clamp(self, min, max)

    clip = clamp

    def maximum(self, other: Any) -> Any:
        return prim.max(self, other)

    def minimum(self, other: Any) -> Any:
        return prim.min(self, other)

    def isnan(self) -> Any:
        return functions.isnan(self)

    def isinf(self) -> Any:
        return functions.isinf(self)

    def isfinite(self) -> Any:
        return functions.isfinite(self)

    def where(self, condition: Any, other: Any) -> Any:
        return prim.where(condition, self, other)

    def masked_fill(self, mask: Any, value: Any) -> Any:
        return indexing.masked_fill(self, mask, value)

    # Products and lookups

    def matmul(self, other: Any) -> Any:
        return linear.matmul(self, other)

    mm = bmm = matmul

    def dot(self, other: Any) -> Any:
        return linear.matmul(self, other)

    def outer(self, other: Any) -> Any:
        return linear.outer(self, other)

    def gather(self, dim: int, index: Any) -> Any:
        return indexing.gather(self, dim, index)

    def index_select(self, dim: int, index: Any) -> Any:
        return indexing.index_select(self, dim, index)

    def scatter(self, dim: int, index: Any, src: Any) -> Any:
        return indexing.scatter(self, dim, index, src)

    def scatter_add(self, dim: int, index: Any, src: Any) -> Any:
        return indexing.scatter_add(self, dim, index, src)

    def sort(self, dim: int = -1, descending: bool = False) -> Any:
        return indexing.sort(self, dim, descending)

    def argsort(self, dim: int = -1, descending: bool = False) -> Any:
        return indexing.argsort(self, dim, descending)

    def topk(self, k: int, dim: int = -1, largest: bool = True) -> Any:
        return indexing.topk(self, k, dim, largest)

    # Types

    def to(self, dtype: Any) -> Any:
        """The elements in another type: a DType, its name, or a NumPy dtype."""
        return basic.convert(self, dtypes.parse(dtype))

    def float(self) -> Any:
        return self.to(dtypes.f32)

    def double(self) -> Any:
        return self.to(dtypes.f64)

    def half(self) -> Any:
        return self.to(dtypes.f16)

    def bfloat16(self) -> Any:
        return self.to(dtypes.bf16)

    def long(self) -> Any:
        return self.to(dtypes.i64)

    def int(self) -> Any:
        return self.to(dtypes.i32)

    def bool(self) -> Any:
        return self.to(dtypes.bool_)

    def detach(self) -> Any:
        return prim.detach(self)

    def clone(self) -> Any:
        return prim.reshape(self, shape=self.shape)
