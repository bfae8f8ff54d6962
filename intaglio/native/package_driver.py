"""The C file of an exported program: its kernels, and drivers over an instance in place of bare pointers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from intaglio.loop.ir import Block, Buffer, Call, For, If, Kernel, Program, Stmt, While
from intaglio.loop.memory import touched
from intaglio.native import tree as c
from intaglio.native.emit_driver import DriverEmitter
from intaglio.native.emit_kernel import EmittedKernel, KernelEmitter
from intaglio.native.helper import element_type
from intaglio.native.helpers import Helpers
from intaglio.native.names import RESERVED, Names
from intaglio.native.package_api import Api, Field, Phase, describe_api
from intaglio.native.package_weights import Member, Weights
from intaglio.shared.target import Target

INSTANCE = "m"
_WORDS = """m arena memory place which to from owned names bytes state_memory worst same judge instance
argc argv call wrong sizes error largest file path ok printf fprintf fopen fclose fread stderr stdin stdout
NULL FILE CALLS EXIT_FAILURE EXIT_SUCCESS"""
_LOCALS = frozenset(_WORDS.split())
"""Names that the hand-written parts of the C use."""
_HEADERS = ("math.h", "stdbool.h", "stddef.h", "stdint.h", "stdlib.h", "string.h")
_API_PARTS = (
    "init", "init_in", "free", "reset", "run", "step", "forward", "backward", "update",
    "state_name", "state_bytes", "get", "set", "weights",
)  # fmt: skip


class PackageDriver(DriverEmitter):
    """Drivers whose arguments are an instance, sizes, inputs and outputs: `NAME_run(m, x, y)`."""

    def __init__(
        self, program: Program, name: str, kernels: Mapping[int, EmittedKernel], helpers: Helpers
    ) -> None:
        super().__init__(program, name, kernels, helpers)
        called = {kernel.name for kernel in kernels.values()}
        self.names.taken = {*RESERVED, *api_names(name), *called, *_LOCALS}
        self.buffers = {b: self.names.unique(b.name) for b in program.buffers}
        self.variables = {v: self.names.unique(v.name) for v in program.symbols}
        self.api = describe_api(program, name, self.buffers, self.variables)

    def function(self, phase: Phase) -> c.Function:
        """The function of a phase: pointers to what it uses, then its calls."""
        calls: list[c.Stmt] = []
        self.block(phase.block, calls)
        body = [*self._pointers(phase.block), *self._unused_parameters(phase), *calls]
        name = f"{self.prefix}_{phase.name}"
        return c.Function(
            c.VOID,
            name,
            parameters(self.api, phase),
            tuple(body),
            describe_phase(self.api, phase),
            static=False,
        )

    def _pointers(self, block: Block) -> Iterable[c.Stmt]:
        used = self._used(block)
        instance = c.Name(INSTANCE)
        if any(b.role == "scratch" and b.alias is None for b in used):
            yield c.Declare(c.Type("unsigned char", pointer=True), "arena", value=c.Member(instance, "arena"))
        for buffer in self.program.states:
            if buffer in used:
                type_ = c.Type(element_type(buffer.dtype), pointer=True)
                name = self.buffers[buffer]
                yield c.Declare(type_, name, value=c.Member(instance, name))
        for buffer in self.program.constants:
            if buffer in used:
                type_ = c.Type(element_type(buffer.dtype), pointer=True, const=True)
                name = self.buffers[buffer]
                yield c.Declare(type_, name, value=c.Name(f"{self.prefix}_weights.{name}"))
        for buffer in self.program.scratch:
            if buffer in used:
                yield self._scratch(buffer)

    def _used(self, block: Block) -> set[Buffer]:
        used = {b for statement in block for b in touched(statement)}
        for buffer in list(used):
            while buffer.alias is not None:
                buffer = buffer.alias
                used.add(buffer)
        return used

    def _unused_parameters(self, phase: Phase) -> Iterable[c.Stmt]:
        used = self._used(phase.block)
        kept = any(b.role == "state" or (b.role == "scratch" and b.alias is None) for b in used)
        names = [] if kept else [INSTANCE]
        names += [name for name, symbol in self.api.symbols if symbol not in self.used]
        names += [field.name for field in phase.inputs if field.buffer not in used]
        for name in names:
            yield c.Do(c.Cast(c.VOID, c.Name(name)))


def api_names(name: str) -> frozenset[str]:
    """Identifiers that an exported program of this name defines."""
    return frozenset({name, *(f"{name}_{part}" for part in _API_PARTS)})


def parameters(api: Api, phase: Phase) -> tuple[c.Param, ...]:
    """Instance, sizes, inputs, outputs."""

    def pointer(field: Field, const: bool) -> c.Param:
        return c.Param(c.Type(element_type(field.dtype), pointer=True, const=const), field.name)

    return (
        c.Param(c.Type(api.name, pointer=True), INSTANCE),
        *(c.Param(c.INT64, name) for name, _ in api.symbols),
        *(pointer(field, True) for field in phase.inputs),
        *(pointer(field, False) for field in phase.outputs),
    )


def _arguments(api: Api, phase: Phase) -> tuple[c.Expr, ...]:
    return tuple(c.Name(param.name) for param in parameters(api, phase))


def describe_phase(api: Api, phase: Phase) -> tuple[str, ...]:
    """The comment above a phase's function."""
    doc = {
        "run": f"Run {api.name} once.",
        "step": f"Run {api.name} once; it changes its states.",
        "forward": "The forward pass.",
        "backward": "The backward pass: gradients, from what the forward pass left in the arena.",
        "update": "The update of the parameters, from the gradients in the arena.",
    }
    return (doc.get(phase.name, f"The part called {phase.name}."), *_arguments_in_words(phase))


def _arguments_in_words(phase: Phase) -> Iterable[str]:
    for word, fields in (("reads", phase.inputs), ("writes", phase.outputs)):
        if fields:
            yield f"{word} " + ", ".join(f"{field.name} {field.dims}" for field in fields)


def without_threads(program: Program) -> Program:
    """The same program with every parallel loop a serial one."""
    made = {id(k): k.with_body(_serial(k.body)) for k in program.kernels}
    kernels: dict[int, Kernel] = made
    phases = {name: _recall(block, kernels) for name, block in program.phases.items()}
    return replace(program, kernels=[kernels[id(k)] for k in program.kernels], phases=phases)


def _serial(body: Block) -> Block:
    def one(statement: Stmt) -> Stmt:
        if isinstance(statement, For):
            kind = "serial" if statement.kind == "parallel" else statement.kind
            return replace(statement, kind=kind, body=_serial(statement.body))
        if isinstance(statement, While):
            return replace(statement, body=_serial(statement.body))
        if isinstance(statement, If):
            orelse = None if statement.orelse is None else _serial(statement.orelse)
            return replace(statement, then=_serial(statement.then), orelse=orelse)
        return statement

    return Block(tuple(map(one, body)))


def _recall(body: Block, kernels: Mapping[int, Kernel]) -> Block:
    def one(statement: Stmt) -> Stmt:
        if isinstance(statement, Call):
            return replace(statement, kernel=kernels[id(statement.kernel)])
        if isinstance(statement, (For, While)):
            return replace(statement, body=_recall(statement.body, kernels))
        if isinstance(statement, If):
            orelse = None if statement.orelse is None else _recall(statement.orelse, kernels)
            return replace(statement, then=_recall(statement.then, kernels), orelse=orelse)
        return statement

    return Block(tuple(map(one, body)))


@dataclass(frozen=True, slots=True)
class Emitted:
    """The parts of an exported program's C file, its API and its weights."""

    api: Api
    weights: Weights
    unit: c.Unit


def emit_package(program: Program, name: str, target: Target) -> Emitted:
    """Emit a program, without threads, for the API of this name; all helpers and kernels are static."""
    helpers = Helpers()
    helpers.headers |= {"stdbool.h", "stdint.h", "stddef.h", "stdlib.h", "string.h"}
    names = Names(RESERVED | api_names(name) | _LOCALS)
    kernels = [
        KernelEmitter(k, names.unique(k.name), program.dimensions, target, helpers).emit()
        for k in program.kernels
    ]
    by_kernel = dict(zip(map(id, program.kernels), kernels, strict=True))

    def driver() -> PackageDriver:
        return PackageDriver(program, name, by_kernel, helpers)

    first = driver()
    api, phases = first.api, first.api.phases
    if len(phases) == 1:
        functions = [first.function(replace(phases[0], name=api.entry))]
    else:
        functions = [*(driver().function(phase) for phase in phases), _whole(api)]
    headers = tuple(header for header in _HEADERS if header in helpers.headers)
    items = tuple(item for kernel in kernels for item in kernel.items)
    unit = c.Unit((), headers, tuple(helpers.items()), items, tuple(functions))
    return Emitted(api, collect_weights(program, name, first.buffers), unit)


def _whole(api: Api) -> c.Function:
    """The function that runs all phases."""
    whole = Phase(api.entry, Block(), api.inputs, api.outputs)
    calls = tuple(c.Do(c.Invoke(f"{api.name}_{p.name}", _arguments(api, p))) for p in api.phases)
    order = ", ".join(p.name for p in api.phases[:-1]) + f" and {api.phases[-1].name}"
    doc = (f"A whole step: {order}.", *_arguments_in_words(whole))
    return c.Function(c.VOID, f"{api.name}_{api.entry}", parameters(api, whole), calls, doc, static=False)


def collect_weights(program: Program, name: str, names: Mapping[Buffer, str]) -> Weights:
    """The struct of the weights: every constant, and initial states that are not all zero."""
    members = []
    for buffer in [*program.constants, *program.states]:
        if buffer.data is not None and (buffer.role == "constant" or is_stored(buffer)):
            field = Field(names[buffer], buffer)
            members.append(Member(field.name, buffer.data, f"{buffer.name} {field.dims}"))
    return Weights(name, tuple(members))


def is_stored(state: Buffer) -> bool:
    """Whether a state's initial content must be kept: memory that starts as zeros need not be."""
    return state.data is not None and any(state.data.tobytes())
