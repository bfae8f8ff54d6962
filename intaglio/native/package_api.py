"""What an exported program shows to the outside: names, sizes, and the functions over one instance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from intaglio.loop.ir import Block, Buffer, Call, For, If, Program, Reduce, Store, While
from intaglio.loop.memory import touched
from intaglio.shared.dtypes import DType
from intaglio.shared.index import IndexLike, Var, upper

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Field:
    """A buffer of the program under its C name."""

    name: str
    buffer: Buffer

    @property
    def dtype(self) -> DType:
        return self.buffer.dtype

    @property
    def shape(self) -> tuple[IndexLike, ...]:
        return self.buffer.shape

    @property
    def is_symbolic(self) -> bool:
        return not all(isinstance(dim, int) for dim in self.shape)

    @property
    def size(self) -> int | None:
        """Elements, in the worst case of symbolic dimensions; None when there is no bound."""
        return upper(self.buffer.size)

    @property
    def padded_bytes(self) -> int:
        """Bytes it takes in an instance's memory."""
        size = self.size
        assert size is not None
        return -(-max(1, size) * self.dtype.size // ALIGNMENT) * ALIGNMENT

    @property
    def dims(self) -> str:
        """`[128][784]`; `[1]` for a single number."""
        return "".join(f"[{dim}]" for dim in self.shape) or "[1]"


@dataclass(frozen=True, slots=True)
class Phase:
    """A function of the API: what it reads and writes of the program's arguments."""

    name: str
    block: Block
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Api:
    """The public face of a program. `entry` is the function that runs everything: `run`, or `step`."""

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    states: tuple[Field, ...]
    symbols: tuple[tuple[str, Var], ...]
    phases: tuple[Phase, ...]
    entry: str
    arena_bytes: int
    instance: str = "m"

    @property
    def upper(self) -> str:
        return self.name.upper()

    @property
    def state_bytes(self) -> int:
        return sum(state.padded_bytes for state in self.states)


def describe_api(program: Program, name: str, names: dict[Buffer, str], symbols: dict[Var, str]) -> Api:
    """The API of a program whose buffers and symbols have these C names."""
    inputs = tuple(Field(names[b], b) for b in program.inputs)
    outputs = tuple(Field(names[b], b) for b in program.outputs)
    phases = []
    filled = {phase: block for phase, block in program.phases.items() if len(block)}
    filled = filled or dict([*program.phases.items()][:1])
    for phase, block in filled.items():
        used = {buffer for statement in block for buffer in touched(statement)}
        used |= {_root(buffer) for buffer in used}
        phases.append(
            Phase(
                phase,
                block,
                tuple(field for field in inputs if field.buffer in used or len(filled) == 1),
                tuple(field for field in outputs if field.buffer in used),
            )
        )
    return Api(
        name=name,
        inputs=inputs,
        outputs=outputs,
        states=tuple(Field(names[b], b) for b in program.states),
        symbols=tuple((symbols[v], v) for v in program.symbols),
        phases=tuple(phases),
        entry="step" if _changes_states(program) else "run",
        arena_bytes=-(-(program.arena_bytes or 0) // ALIGNMENT) * ALIGNMENT,
    )


def _root(buffer: Buffer) -> Buffer:
    while buffer.alias is not None:
        buffer = buffer.alias
    return buffer


def _changes_states(program: Program) -> bool:
    written = {_root(b) for block in program.phases.values() for b in _written(block)}
    return any(state in written for state in program.states)


def _written(block: Iterable[object]) -> Iterator[Buffer]:
    for statement in block:
        if isinstance(statement, Call):
            for param, argument in zip(statement.kernel.params, statement.args, strict=True):
                if param in statement.kernel.written:
                    yield argument.buffer
        elif isinstance(statement, (Store, Reduce)):
            yield statement.buffer
        elif isinstance(statement, (For, While)):
            yield from _written(statement.body)
        elif isinstance(statement, If):
            yield from _written((*statement.then, *(statement.orelse or ())))
