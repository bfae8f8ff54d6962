"""What a call of a compiled program takes and gives, and how any Python values are made to fit it.

The loaders accept arrays that fit at once on a fast path; everything else comes here, where it is
either converted (lists, non-contiguous, byte-swapped or overlapping arrays) or refused in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intaglio.loop.ir import Buffer, Call, Program, walk
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, DTypeError, IntaglioError, ShapeError, UnsupportedError
from intaglio.shared.index import Index, IndexLike, Var, interval, product, substitute, upper
from intaglio.shared.types import TensorType

Array = np.ndarray[Any, Any]

LONG_CALL = 200_000
"""Work (FLOPs + bytes) above which a call is worth giving other Python threads a turn: about 10 us."""

_KINDS = {"b": 0, "u": 1, "i": 1, "f": 2}


@dataclass(frozen=True, slots=True)
class CallSpec:
    """Inputs, outputs, states and constants of an entry point, in the order of its pointers.

    `states` and `constants` hold initial contents; `symbols` are the dimensions found in the inputs'
    shapes at each call; `sizes` are those that the program finds and writes to the last outputs, one
    each; `work` is FLOPs plus bytes of one call.
    """

    name: str
    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[tuple[str, TensorType], ...]
    states: tuple[Array, ...] = ()
    constants: tuple[Array, ...] = ()
    symbols: tuple[Var, ...] = ()
    arena_bytes: int = 0
    work: int = 0
    state_names: tuple[str, ...] = field(default=())
    sizes: tuple[Var, ...] = ()

    @classmethod
    def of(cls, program: Program) -> CallSpec:
        """The call of a program whose memory is planned. Raises UnsupportedError for a symbol of no input."""
        if program.arena_bytes is None:
            raise UnsupportedError(f"{program.name}: memory is not planned yet")
        used = frozenset[Var]().union(*(_variables(b.shape) for b in program.inputs))
        for symbol in program.symbols:
            if symbol not in used:
                raise UnsupportedError(
                    f"{program.name}: dimension {symbol} is in no input's shape",
                    hint="make it an axis of an input, or give it a fixed size",
                )
        return cls(
            name=program.name,
            inputs=tuple((b.name, TensorType(b.dtype, b.shape)) for b in program.inputs),
            outputs=tuple((b.name, TensorType(b.dtype, b.shape)) for b in program.outputs),
            states=tuple(_content(b) for b in program.states),
            constants=tuple(_content(b) for b in program.constants),
            symbols=tuple(program.symbols),
            arena_bytes=program.arena_bytes,
            work=_work(program),
            state_names=tuple(b.name for b in program.states),
            sizes=given_sizes(program),
        )

    @property
    def releases_gil(self) -> bool:
        """Whether other Python threads run during a call."""
        return self.work >= LONG_CALL

    def __str__(self) -> str:
        takes = ", ".join(f"{name}: {type_}" for name, type_ in self.inputs)
        return f"{self.name}({takes})"


def _variables(shape: Iterable[IndexLike]) -> frozenset[Var]:
    return frozenset[Var]().union(*(dim.variables for dim in shape if isinstance(dim, Index)))


def _content(buffer: Buffer) -> Array:
    if buffer.data is None:
        raise UnsupportedError(f"{buffer.role} {buffer!r} has no content")
    return buffer.data


def given_sizes(program: Program) -> tuple[Var, ...]:
    """The sizes that the last outputs hold, in their order."""
    holds = {buffer: var for var, buffer in program.sizes.items() if buffer is not None}
    return tuple(holds[buffer] for buffer in program.outputs if buffer in holds)


def _work(program: Program) -> int:
    calls = [s.kernel for phase in program.phases.values() for s in walk(phase) if isinstance(s, Call)]
    return sum(kernel.flops + kernel.bytes for kernel in calls)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Arrays that fit a call: contiguous inputs, new outputs, the values of its symbols."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    symbols: tuple[int, ...]


Range = tuple[int, int]


def address(array: Array) -> int:
    """Where the first element of an array lies."""
    data: tuple[int, bool] = array.__array_interface__["data"]
    return data[0]


def memory_ranges(arrays: Iterable[Array]) -> list[Range]:
    """First address and one past the last, of each array."""
    return [(address(array), address(array) + array.nbytes) for array in arrays]


def prepare(spec: CallSpec, arguments: Sequence[Any], written: Sequence[Range] = ()) -> Prepared:
    """Convert arguments and allocate outputs; inputs in memory that the program writes are copied.

    Raises ArgumentError, ShapeError or DTypeError naming the input, what it must be and what it is.
    """
    if len(arguments) != len(spec.inputs):
        raise ArgumentError(f"{spec} takes {_count(len(spec.inputs))} but was called with {len(arguments)}")
    arrays = []
    for (name, type_), value in zip(spec.inputs, arguments, strict=True):
        array = conform(name, type_, value)
        if written:
            begin = address(array)
            end = begin + array.nbytes
            if any(begin < stop and end > start for start, stop in written):
                array = array.copy()
        arrays.append(array)
    env = _bind_symbols(spec, arrays)
    outputs = tuple(np.empty(_room(type_, env), type_.dtype.numpy) for _, type_ in spec.outputs)
    return Prepared(tuple(arrays), outputs, tuple(_size(env[s], {}) for s in spec.symbols))


def _room(type_: TensorType, env: Mapping[Var, IndexLike]) -> list[int]:
    """The shape of a new output; one with a size that the program finds is flat, of the largest size."""
    shape = [substitute(dim, env) for dim in type_.shape]
    if all(isinstance(dim, int) for dim in shape):
        return shape  # type: ignore[return-value]
    room = upper(product(tuple(shape)))
    assert room is not None
    return [room]


def trimmed(spec: CallSpec, arguments: Sequence[Any], results: Sequence[Array]) -> Any:
    """What a call gives: the results with the sizes that were found, one alone or a tuple."""
    count = len(results) - len(spec.sizes)
    env = dict(_bind_symbols(spec, [np.asarray(a) for a in arguments])) if spec.symbols else {}
    env.update({var: int(size) for var, size in zip(spec.sizes, results[count:], strict=True)})
    shaped = []
    for (_, type_), array in zip(spec.outputs, results[:count], strict=False):
        shape = tuple(_size(dim, env) for dim in type_.shape)
        shaped.append(array if array.shape == shape else array[: math.prod(shape)].reshape(shape))
    return shaped[0] if len(shaped) == 1 else tuple(shaped)


def _count(n: int) -> str:
    return "1 argument" if n == 1 else f"{n} arguments"


def conform(name: str, type_: TensorType, value: Any) -> Array:
    """`value` as an aligned row-major array of the type's dtype and rank; sizes are the caller's to check."""
    if type(value) is np.ndarray and value.dtype == type_.dtype.numpy and value.ndim == type_.rank:
        flags = value.flags
        if flags.c_contiguous and flags.aligned:
            return value
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError(
            f"input {name}: a masked array has no value where it is masked", hint="pass x.filled(value)"
        )
    try:
        array = np.asarray(value)
    except Exception as error:
        raise ArgumentError(
            f"input {name}: expected {type_} but {type(value).__name__} does not become an array: {error}",
            hint="pass a NumPy array (of a PyTorch tensor: tensor.detach().cpu().numpy())",
        ) from error
    if hasattr(value, "dtype") or isinstance(value, (memoryview, bytes, bytearray)):
        array = _same_dtype(name, type_, array)
    else:
        array = _from_numbers(name, type_, array)
    if array.ndim != type_.rank:
        raise ShapeError(
            f"input {name}: expected {type_} of rank {type_.rank} but got shape {array.shape} "
            f"of rank {array.ndim}"
        )
    array = np.array(array, order="C", copy=None)
    return array if array.flags.aligned else array.copy()


def _same_dtype(name: str, type_: TensorType, array: Array) -> Array:
    wanted = type_.dtype.numpy
    if array.dtype == wanted:
        return array
    if array.dtype.newbyteorder("=") == wanted:
        return array.astype(wanted)
    hint = f"convert it: {name}.astype({_numpy_name(type_.dtype)})"
    got = next((d.name for d in dtypes.ALL if d.numpy == array.dtype.newbyteorder("=")), str(array.dtype))
    raise DTypeError(f"input {name}: expected {type_} but got an array of {got}", hint=hint)


def _numpy_name(dtype: DType) -> str:
    return "ml_dtypes.bfloat16" if dtype.name == "bf16" else f"np.{dtype.numpy.name}"


def _from_numbers(name: str, type_: TensorType, array: Array) -> Array:
    """Python numbers and lists of them have no width yet: they take the wanted one if they fit in."""
    wanted = type_.dtype
    kind = _KINDS.get(array.dtype.kind)
    rank = {"bool": 0, "uint": 1, "int": 1, "float": 2}[wanted.kind]
    if array.size == 0:
        return array.astype(wanted.numpy)
    if kind is None or kind > rank:
        raise DTypeError(f"input {name}: expected {type_} but got Python values of type {array.dtype}")
    if wanted.is_integer and kind == 1:
        lo, hi = (0, 2 ** (8 * wanted.size)) if wanted.kind == "uint" else _signed_range(wanted)
        if int(array.min()) < lo or int(array.max()) >= hi:
            raise DTypeError(f"input {name}: a value is outside of what {wanted} holds, {lo} to {hi - 1}")
    return array.astype(wanted.numpy)


def _signed_range(dtype: DType) -> tuple[int, int]:
    half: int = 2 ** (8 * dtype.size - 1)
    return -half, half


def _bind_symbols(spec: CallSpec, arrays: Sequence[Array]) -> dict[Var, IndexLike]:
    """The value of every symbol, from the first axis that is just it; then every axis is checked."""
    env: dict[Var, IndexLike] = {}
    if all(type_.shape == array.shape for (_, type_), array in zip(spec.inputs, arrays, strict=True)):
        return env
    for (_, type_), array in zip(spec.inputs, arrays, strict=True):
        for dim, size in zip(type_.shape, array.shape, strict=True):
            symbol = symbol_of(dim)
            if symbol is not None:
                env.setdefault(symbol, int(size))
    for symbol in spec.symbols:
        if symbol not in env:
            raise UnsupportedError(f"{spec}: no axis of an input is just {symbol}")
    for (name, type_), array in zip(spec.inputs, arrays, strict=True):
        for axis, (dim, size) in enumerate(zip(type_.shape, array.shape, strict=True)):
            expected = _size(dim, env)
            if expected != size:
                where = f"axis {axis} is {size}, not {expected}"
                because = "" if isinstance(dim, int) else f" ({dim} is {expected} by another axis)"
                raise ShapeError(
                    f"input {name}: expected {type_} but got shape {array.shape}: {where}{because}"
                )
    for symbol, value in env.items():
        lo, hi = symbol.lo, symbol.hi
        if _size(value, {}) < lo or (hi is not None and _size(value, {}) > hi):
            bounds = f"{lo} to {hi}" if hi is not None else f"at least {lo}"
            raise ShapeError(f"{spec}: dimension {symbol} is {value} but must be {bounds}")
    return env


def symbol_of(dim: IndexLike) -> Var | None:
    """The symbol that a dimension is, None for a number or a longer expression."""
    if isinstance(dim, Index) and dim.is_atom and isinstance(dim.terms[0][0], Var):
        return dim.terms[0][0]
    return None


def _size(dim: IndexLike, env: dict[Var, IndexLike]) -> int:
    if isinstance(dim, int):
        return dim
    lo, hi = interval(substitute(dim, env))
    assert lo is not None
    assert lo == hi
    return lo


def check_state(spec: CallSpec, position: int, array: Array, like: Array) -> None:
    """Whether `array` can be the memory of a state. Raises ArgumentError, DTypeError or ShapeError."""
    if not 0 <= position < len(spec.states):
        raise ArgumentError(f"{spec} has {len(spec.states)} states; there is no number {position}")
    name = spec.state_names[position] if spec.state_names else str(position)
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"state {name}: expected a NumPy array but got {type(array).__name__}")
    if array.dtype != like.dtype:
        raise DTypeError(f"state {name}: expected {like.dtype} but got {array.dtype}")
    if array.shape != like.shape:
        raise ShapeError(f"state {name}: expected shape {like.shape} but got {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
        raise ArgumentError(
            f"state {name}: its memory must be row-major, aligned and writable", hint="pass array.copy()"
        )


def failed(spec: CallSpec, code: int) -> IntaglioError:
    """The error of a program that returned `code`, not 0."""
    return IntaglioError(f"{spec} ended with code {code}")
