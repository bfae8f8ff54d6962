"""Reductions, scans, sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from intaglio.ops.compositions import activation, indexing, reduction
from intaglio.ops.compositions.basic import dtype_of, floating, rank_of, reshape, shape_of, squeeze, unsqueeze
from intaglio.ops.registry import prim
from intaglio.readers.torch.registry import FxCall, aten, direct
from intaglio.shared.errors import UnsupportedError

Dims = int | Sequence[int] | None


def _dims(dim: Dims) -> Dims:
    """PyTorch's empty list means all dimensions."""
    return None if isinstance(dim, (list, tuple)) and not dim else dim


def _typed(call: FxCall, x: Any) -> Any:
    """The operand in the result's element type, in which PyTorch accumulates."""
    return prim.cast(x, dtype=call.dtype) if dtype_of(x) != call.dtype else x


@aten("sum", "nansum")
def sum_(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if "nansum" in str(call.node.target):
        x = prim.where(prim.ne(x, x), 0, x)
    return reduction.sum(_typed(call, x), _dims(dim), keepdim)


@aten("mean")
def mean(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return reduction.mean(_typed(call, x), _dims(dim), keepdim)


@aten("prod")
def prod(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    return reduction.prod(_typed(call, x), _dims(dim), keepdim)


@aten("amax", "amin")
def extreme(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    function = reduction.amax if "amax" in str(call.node.target) else reduction.amin
    return function(x, _dims(dim), keepdim)


@aten("max", "min")
def max_min(call: FxCall, x: Any, other: Any = None, keepdim: bool = False, **named: Any) -> Any:
    """All elements, one dimension with places, or two tensors."""
    largest = "aten.max" in str(call.node.target)
    other = named.get("dim", other)
    if other is None:
        return (reduction.amax if largest else reduction.amin)(x)
    if isinstance(other, int):
        if rank_of(x) == 0:
            return x, reduction.argmax(reshape(x, (1,)), 0)
        return (reduction.max if largest else reduction.min)(x, other, keepdim)
    return (prim.max if largest else prim.min)(x, other)


@aten("argmax", "argmin")
def argument(call: FxCall, x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    function = reduction.argmax if "argmax" in str(call.node.target) else reduction.argmin
    if dim is None and keepdim:
        return reshape(function(x, None), (1,) * rank_of(x))
    if rank_of(x) == 0:
        return reshape(function(reshape(x, (1,)), 0), ())
    return function(x, dim, keepdim)


@aten("aminmax")
def aminmax(call: FxCall, x: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
    return reduction.amin(x, dim, keepdim), reduction.amax(x, dim, keepdim)


def _variance(call: FxCall, x: Any, dim: Dims, keepdim: bool, correction: float) -> tuple[Any, Any]:
    return reduction.var_mean(x, _dims(dim), correction=correction, keepdim=keepdim)


def _correction(named: dict[str, Any]) -> float:
    if named.get("unbiased") is False:
        return 0
    correction = named.get("correction")
    return 1 if correction is None else correction


@aten("var", "var_mean", "std", "std_mean")
def variance(call: FxCall, x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False,
             **named: Any) -> Any:  # fmt: skip
    """`dim` may be a truth value: the overload without dimensions takes `unbiased` there."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if isinstance(unbiased, bool):
        named["unbiased"] = unbiased
    spread, average = _variance(call, x, dim, named.get("keepdim", keepdim), _correction(named))
    name = call.node.target._opname  # type: ignore[union-attr]
    spread = prim.sqrt(spread) if name.startswith("std") else spread
    return (spread, average) if name.endswith("_mean") else spread


@aten("all", "any")
def all_any(call: FxCall, x: Any, dim: Dims = None, keepdim: bool = False) -> Any:
    function = reduction.all if "aten.all" in str(call.node.target) else reduction.any
    return function(x, _dims(dim), keepdim)


@aten("logsumexp")
def logsumexp(call: FxCall, x: Any, dim: Dims, keepdim: bool = False) -> Any:
    return reduction.logsumexp(floating(x), _dims(dim), keepdim)


@aten("norm", "linalg_vector_norm")
def norm(call: FxCall, x: Any, p: Any = 2, dim: Dims = None, keepdim: bool = False, **named: Any) -> Any:
    p = named.get("ord", p)
    return reduction.norm(_typed(call, x), 2 if p is None else p, _dims(dim), keepdim)


def _scan(function: Callable[[Any, int], Any]) -> Callable[..., Any]:
    def handler(call: FxCall, x: Any, dim: int, *, dtype: Any = None) -> Any:
        x = _typed(call, x)
        return function(x, dim) if rank_of(x) else x

    return handler


aten("cumsum")(_scan(reduction.cumsum))
aten("cumprod")(_scan(reduction.cumprod))


@aten("_softmax", "softmax")
def softmax(call: FxCall, x: Any, dim: int, half_to_float: Any = False, **named: Any) -> Any:
    return _over(activation.softmax, _typed(call, x), dim)


@aten("_log_softmax", "log_softmax")
def log_softmax(call: FxCall, x: Any, dim: int, half_to_float: Any = False, **named: Any) -> Any:
    return _over(activation.log_softmax, _typed(call, x), dim)


def _over(function: Callable[..., Any], x: Any, dim: int) -> Any:
    """The function along a dimension; a single number counts as a vector of one."""
    return function(x, dim) if rank_of(x) else squeeze(function(unsqueeze(x, 0), 0))


@aten("sort")
def sort(call: FxCall, x: Any, dim: int = -1, descending: bool = False, **named: Any) -> Any:
    dim, descending = named.get("dim", dim), named.get("descending", descending)
    if rank_of(x) == 0:
        raise UnsupportedError("sort of a single number")
    return indexing.sort(x, dim, descending)


@aten("topk")
def topk(call: FxCall, x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    if rank_of(x) == 0:
        return x, reduction.argmax(reshape(x, (1,)), 0)
    return indexing.topk(x, k, dim, largest)


direct({"argsort": indexing.argsort})


@aten("median", "mode", "kthvalue")
def order_statistic(call: FxCall, x: Any, *args: Any, **named: Any) -> Any:
    """The k-th smallest along a dimension; only `median.dim` and `kthvalue`."""
    name = str(call.node.target)
    if "median.dim" not in name and "kthvalue" not in name:
        raise UnsupportedError("only along one dimension, and not mode", hint="use median(dim=...)")
    values = list(args)
    extent = shape_of(x)[
        values[-2] if "kthvalue" in name and len(values) > 1 else values[0] if values else -1
    ]
    k = values.pop(0) if "kthvalue" in name else None
    dim = values[0] if values else named.get("dim", -1)
    keepdim = values[1] if len(values) > 1 else named.get("keepdim", False)
    if not isinstance(extent, int):
        raise UnsupportedError("along a symbolic size")
    place = (extent - 1) // 2 if k is None else k - 1
    ordered, places = indexing.sort(x, dim)
    taken = [indexing.select(part, dim, place) for part in (ordered, places)]
    return tuple(unsqueeze(t, dim) if keepdim else t for t in taken)
