"""Tensors from nothing, and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from intaglio.ops.compositions import random as draws
from intaglio.ops.compositions.basic import dtype_of, shape_of, static
from intaglio.ops.like import iota_like
from intaglio.ops.registry import prim
from intaglio.readers.torch.arrays import dtype_of_torch
from intaglio.readers.torch.registry import FxCall, aten
from intaglio.shared import dtypes
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.types import TensorType

NOBODY_DRAWS = "random numbers inside of a compiled PyTorch program are not supported"
DRAW_OUTSIDE = "call module.eval(), set dropout to 0, or draw outside and pass the tensor in"


@aten("full")
def full(call: FxCall, size: Sequence[Any], value: Any, **named: Any) -> Any:
    return call.full(size, value)


@aten("zeros", "empty", "new_zeros", "new_empty", "ones", "new_ones", "new_full", "empty_strided",
      "new_empty_strided", "empty_permuted")  # fmt: skip
def filled(call: FxCall, *args: Any, **named: Any) -> Any:
    """Memory that is not initialised is zero here."""
    name = call.node.target._opname  # type: ignore[union-attr]
    rest = args[1:] if name.startswith("new_") else args
    number = rest[1] if name == "new_full" else 1 if "ones" in name else 0
    return call.full(rest[0], number)


@aten("full_like", "zeros_like", "ones_like", "empty_like")
def filled_like(call: FxCall, x: Any, value: Any = None, **named: Any) -> Any:
    name = call.node.target._opname  # type: ignore[union-attr]
    number = value if name == "full_like" else 1 if name == "ones_like" else 0
    return call.full(shape_of(x), number)


@aten("fill")
def fill(call: FxCall, x: Any, value: Any) -> Any:
    if hasattr(value, "type"):
        return prim.broadcast(prim.cast(value, dtype=dtype_of(x)), shape=shape_of(x))
    return call.full(shape_of(x), value)


@aten("copy")
def copy(call: FxCall, x: Any, source: Any, non_blocking: bool = False) -> Any:
    cast = prim.cast(source, dtype=dtype_of(x)) if dtype_of(source) != dtype_of(x) else source
    return prim.broadcast(cast, shape=shape_of(x)) if shape_of(cast) != shape_of(x) else cast


@aten("scalar_tensor", "tensor")
def scalar_tensor(call: FxCall, value: Any, **named: Any) -> Any:
    return call.graph.constant(np.asarray(value, call.dtype.numpy))


@aten("arange")
def arange(call: FxCall, *args: Any, **named: Any) -> Any:
    start, end, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    if all(isinstance(v, (int, float)) for v in (start, end, step)):
        return call.graph.constant(np.arange(start, end, step).astype(call.dtype.numpy))
    holder = call.graph.constant(np.zeros((), np.int64))
    count = (end - start + (step - 1)) // step
    places = iota_like(holder, (count,), 0) * step + _number(start)
    return prim.cast(places, dtype=call.dtype) if dtype_of(places) != call.dtype else places


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise UnsupportedError("arange from a symbolic start")
    return value


@aten("linspace")
def linspace(call: FxCall, start: float, end: float, steps: int, **named: Any) -> Any:
    return call.graph.constant(np.linspace(start, end, steps).astype(call.dtype.numpy))


@aten("eye")
def eye(call: FxCall, rows: int, columns: int | None = None, **named: Any) -> Any:
    return call.graph.constant(np.eye(rows, columns, dtype=call.dtype.numpy))


@aten("dropout", "native_dropout")
def dropout(call: FxCall, x: Any, p: float, train: bool | None) -> Any:
    native = call.node.target._opname == "native_dropout"  # type: ignore[union-attr]
    if not train or p == 0:
        return (x, call.full(shape_of(x), True, dtypes.bool_)) if native else x
    kept = _kept(call, shape_of(x), p)
    y = _scaled(x, kept, p)
    return (y, kept) if native else y


def dropped(call: FxCall, x: Any, p: float) -> Any:
    """x after dropout."""
    return _scaled(x, _kept(call, shape_of(x), p), p)


def _scaled(x: Any, kept: Any, p: float) -> Any:
    return prim.where(kept, x * (1 / (1 - p) if p < 1 else 1.0), 0)


def _kept(call: FxCall, shape: Any, p: float) -> Any:
    """Which elements dropout keeps, drawn from the program's own generator, or by PyTorch at every call."""
    if call.importer.draws is not None:
        return prim.ne(_drawn(call, lambda tensor: tensor.bernoulli_(1 - p), shape, torch.float32), 0)
    if call.importer.random is not None:
        return draws.bernoulli(call.importer.random.draw(shape), shape, 1 - p)
    raise UnsupportedError(NOBODY_DRAWS, hint=DRAW_OUTSIDE)


@aten("rrelu_with_noise_functional")
def rrelu(call: FxCall, x: Any, noise: Any, lower: float = 1 / 8, upper: float = 1 / 3, train: bool = False,
          generator: Any = None) -> Any:  # fmt: skip
    """Leaky where x is not positive, with a slope that is drawn for every element; and the slopes."""
    negative = prim.le(x, 0)
    if not train:
        return prim.where(negative, x * ((lower + upper) / 2), x), noise
    if call.importer.draws is None:
        raise UnsupportedError(NOBODY_DRAWS, hint=DRAW_OUTSIDE)
    held = call.node.args[0].meta["val"]  # type: ignore[union-attr]
    shape = call.importer.known_shape(held)
    slope = _drawn(call, lambda tensor: tensor.uniform_(lower, upper), shape, held.dtype)
    return prim.where(negative, x * slope, x), prim.where(negative, slope, 1)


def _drawn(call: FxCall, fill: Callable[[Any], Any], shape: Any = None, dtype: Any = None) -> Any:
    """An input of the graph that PyTorch fills with random numbers at every call."""
    found = call.node.meta["val"]
    wanted = call.importer.known_shape(found) if shape is None else shape
    shape = tuple(static(extent, "random numbers") for extent in wanted)
    dtype = found.dtype if dtype is None else dtype
    draws = call.importer.draws
    assert draws is not None
    value = call.graph.input(TensorType(dtype_of_torch(dtype), shape), f"draw{len(draws)}")
    draws[value] = lambda: fill(torch.empty(shape, dtype=dtype))
    return value


@aten("bernoulli", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm",
      "normal", "normal_functional", "uniform", "exponential", "multinomial")  # fmt: skip
def random(call: FxCall, *args: Any, **named: Any) -> Any:
    """Numbers that PyTorch draws at every call, where it is there; with its seed they are its own."""
    packet, _, overload = str(call.node.target).removeprefix("aten.").partition(".")
    numbers = [a for a in args if isinstance(a, (int, float))]
    if call.importer.draws is None or packet == "multinomial" or named.get("generator") is not None:
        raise UnsupportedError(NOBODY_DRAWS, hint=DRAW_OUTSIDE)
    if packet == "bernoulli" and overload == "default":
        return prim.cast(prim.lt(_drawn(call, lambda tensor: tensor.uniform_()), args[0]), dtype=call.dtype)
    if packet == "normal" and len(numbers) < 2:
        raise UnsupportedError("normal with a tensor of means or deviations", hint="scale torch.randn")
    return _drawn(call, partial(_fill, packet.removesuffix("_like"), [*numbers]))


def _fill(name: str, numbers: Sequence[Any], tensor: Any) -> Any:
    """The tensor filled as PyTorch's operator of that name fills it."""
    if name == "randperm":
        return tensor.copy_(torch.randperm(len(tensor)))
    if name == "randint":
        return tensor.random_(*(numbers if len(numbers) > 1 else (0, numbers[0])))
    method = {"rand": "uniform_", "randn": "normal_", "normal_functional": "normal_"}.get(name, f"{name}_")
    return getattr(tensor, method)(*numbers)
