"""Schedules of a program's kernels, by name; `first+second` schedules kernels that run in a row as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from intaglio.loop import places
from intaglio.loop.ir import Alloc, Block, Buffer, Call, For, Kernel, Program, Slice, Stmt, walk
from intaglio.loop.memory import touched
from intaglio.loop.names import unique_name
from intaglio.loop.schedule.nest import buffers_in, with_bodies
from intaglio.loop.schedule.schedule import Schedule
from intaglio.shared.errors import ArgumentError, UnsupportedError
from intaglio.shared.index import Var, var_index


def kernel_names(schedules: Mapping[str, str]) -> frozenset[str]:
    """The kernels that schedules are for: they are lowered to plain nests."""
    return frozenset(name for key in schedules for name in key.split("+"))


def schedule_program(program: Program, schedules: Mapping[str, str]) -> Program:
    """Apply the schedules to a program whose memory is not yet planned, in place; returns it.

    Raises:
        ArgumentError: there is no such kernel.
        UnsupportedError: a step is not legal, or kernels cannot run as one.
    """
    for key, text in schedules.items():
        call = _joined(program, key)
        made = _schedule(program, key, call)
        try:
            made.apply(text)
        except UnsupportedError as error:
            raise UnsupportedError(f"schedule of {key}: {error.message}", hint=error.hint) from error
        _install(program, key, call, made.kernel)
    return program


def schedule_of(program: Program, key: str) -> Schedule:
    """An empty schedule of a kernel, or of kernels that run in a row as one, with what the program knows."""
    return _schedule(program, key, _joined(program, key))


def _schedule(program: Program, key: str, call: Call) -> Schedule:
    data = {
        param: arg.buffer.data
        for param, arg in _arguments(call)
        if arg.buffer.role == "constant" and arg.buffer.data is not None and param.shape == arg.buffer.shape
    }
    own = [param for param, arg in _arguments(call) if _is_own(program, key, arg)]
    return Schedule(call.kernel, data=data, symbols=program.dimensions, scratch=own)


def _arguments(call: Call) -> Iterator[tuple[Buffer, Slice]]:
    return zip(call.kernel.params, call.args, strict=True)


def _is_own(program: Program, key: str, arg: Slice) -> bool:
    """Whether an array is scratch that only these kernels touch."""
    names = key.split("+")
    if arg.buffer.role != "scratch" or any(b.alias is arg.buffer for b in program.buffers):
        return False
    others = (
        s
        for body in program.phases.values()
        for s in body
        if not (isinstance(s, Call) and s.kernel.name in names)
    )
    return not any(arg.buffer is buffer for s in others for buffer in touched(s))


def _calls(program: Program, key: str) -> list[Call]:
    """The calls of the kernels in a row, serial nests."""
    names = key.split("+")
    known = {kernel.name: kernel for kernel in program.kernels}
    missing = [name for name in names if name not in known]
    if missing:
        raise ArgumentError(
            f"schedules: there is no kernel {', '.join(missing)}",
            hint=f"the kernels are {', '.join(known)}",
        )
    found: list[Call] = []
    for body in program.phases.values():
        for block in _blocks(body):
            statements = list(block)
            for k in range(len(statements) - len(names) + 1):
                run = statements[k : k + len(names)]
                calls = [s for s in run if isinstance(s, Call)]
                if [call.kernel.name for call in calls] == names:
                    found = found or calls
    if not found:
        raise UnsupportedError(f"schedules: {key}: these kernels are not called in a row, in this order")
    return found


def _blocks(body: Block) -> Iterator[Block]:
    yield body
    for statement in body:
        if not isinstance(statement, Call):
            for inner in _bodies(statement):
                yield from _blocks(inner)


def _bodies(statement: Stmt) -> list[Block]:
    found: list[Block] = []

    def keep(body: Block) -> Block:
        found.append(body)
        return body

    with_bodies(statement, keep)
    return found


def _joined(program: Program, key: str) -> Call:
    """One call of all kernels of a key, with every loop serial."""
    total: Call | None = None
    for call in _calls(program, key):
        total = call if total is None else _joined_calls(total, call)
    assert total is not None
    return Call(total.kernel.with_body(serial(total.kernel.body)), total.args)


def serial(body: Block) -> Block:
    """The nest with all loops serial: where schedules start from."""
    made: list[Stmt] = []
    for statement in body:
        if isinstance(statement, For):
            statement = replace(statement, kind="serial")
        made.append(with_bodies(statement, serial))
    return Block(tuple(made))


def _joined_calls(first: Call, second: Call) -> Call:
    """One kernel that does what two do, the names of the second one's own loops and arrays made distinct."""
    a, b = first.kernel, second.kernel
    taken = {buffer.name for buffer in (*a.params, *buffers_in(a.body))}
    taken |= {s.var.name for s in walk(a.body) if isinstance(s, For)}
    known = {(arg.buffer, arg.offset): param for param, arg in _arguments(first)}
    params, args = list(a.params), list(first.args)
    new: dict[Buffer, Buffer] = {}
    for param, arg in _arguments(second):
        same = known.get((arg.buffer, arg.offset))
        if same is None:
            new[param] = replace_name(param, unique_name(param.name, taken))
            params.append(new[param])
            args.append(arg)
        elif same.shape != param.shape:
            raise UnsupportedError(f"schedules: {a.name} sees {same!r} where {b.name} sees {param!r}")
        else:
            new[param] = same
    for statement in walk(b.body):
        if isinstance(statement, Alloc):
            local = statement.buffer
            new[local] = replace_name(local, unique_name(local.name, taken))
    body = _renamed_loops(places.substitute_block(b.body, {}, new), taken)
    written = dict.fromkeys((*a.written, *(new[buffer] for buffer in b.written)))
    kernel = Kernel(
        f"{a.name}_{b.name}",
        tuple(params),
        tuple(written),
        Block((*a.body, *body)),
        (*a.doc, *b.doc),
        a.flops + b.flops,
        a.bytes + b.bytes,
    )
    return Call(kernel, tuple(args))


def replace_name(buffer: Buffer, name: str) -> Buffer:
    """The same array under another name."""
    if name == buffer.name:
        return buffer
    return Buffer(name, buffer.dtype, buffer.shape, buffer.role, buffer.space)


def _renamed_loops(body: Block, taken: set[str]) -> Block:
    """The nest with other names for loops whose names are taken; loops of one name keep a common one."""
    chosen: dict[str, str] = {}
    own = {s.var.name for s in walk(body) if isinstance(s, For)}
    for name in sorted(own):
        chosen[name] = unique_name(name, taken)

    def renamed(block: Block) -> Block:
        made: list[Stmt] = []
        for statement in block:
            if isinstance(statement, For):
                old = statement.var
                var = Var(chosen[old.name], old.lo, old.hi)
                inner = places.substitute_block(statement.body, {old: var_index(var)})
                statement = replace(statement, var=var, body=inner)
            made.append(with_bodies(statement, renamed))
        return Block(tuple(made))

    return renamed(body)


def _install(program: Program, key: str, joined: Call, made: Kernel) -> None:
    """Put the scheduled kernel in the place of those it was made from."""
    old = _calls(program, key)
    names = {buffer.name for buffer in program.buffers} | {
        kernel.name for kernel in program.kernels if all(kernel is not call.kernel for call in old)
    }
    kernel = replace(made, name=unique_name(made.name, names))
    args = dict(_arguments(joined))
    used = buffers_in(kernel.body)
    params = tuple(param for param in kernel.params if param in used)
    for param in params:
        if param not in args:
            args[param] = _declared(program, param, names)
    kernel = replace(kernel, params=params, written=tuple(b for b in kernel.written if b in used))
    call = Call(kernel, tuple(args[param] for param in params))
    at = next(k for k, own in enumerate(program.kernels) if own is old[0].kernel)
    program.kernels.insert(at, kernel)
    program.kernels = [own for own in program.kernels if all(own is not c.kernel for c in old)]
    program.phases = {phase: _swapped(body, old, call) for phase, body in program.phases.items()}
    read = {b for body in program.phases.values() for statement in body for b in touched(statement)}
    aliased = {buffer.alias for buffer in program.buffers}
    program.constants = [b for b in program.constants if b in read or b in aliased]
    program.scratch = [b for b in program.scratch if b in read or b in aliased]


def _declared(program: Program, param: Buffer, names: set[str]) -> Slice:
    """An array of the program for one that a step added."""
    name = unique_name(param.name, names)
    made = Buffer(name, param.dtype, param.shape, "scratch" if param.data is None else "constant")
    made.data, param.data, param.role = param.data, None, "local"
    (program.scratch if made.data is None else program.constants).append(made)
    return Slice(made)


def _swapped(body: Block, old: list[Call], new: Call) -> Block:
    made: list[Stmt] = []
    for statement in body:
        if statement is old[0]:
            made.append(new)
        elif not any(statement is call for call in old):
            made.append(with_bodies(statement, lambda b: _swapped(b, old, new)))
    return Block(tuple(made))
