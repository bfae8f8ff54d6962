"""Loop programs to C: the choice of functions and files' parts; statements and text come from others.

Program --translation_unit--> tree.Unit --print_unit--> text
"""

from __future__ import annotations

from intaglio.loop.ir import Program, Reduce, walk
from intaglio.native import tree as c
from intaglio.native.emit_driver import DriverEmitter, pool_functions
from intaglio.native.emit_kernel import KernelEmitter
from intaglio.native.helpers import Helpers
from intaglio.native.names import RESERVED, Names, sanitise
from intaglio.native.print import print_unit
from intaglio.ops.expr import Apply, Expr
from intaglio.shared.target import Target

_ORDER = (
    "stdatomic.h",
    "stdbool.h",
    "stddef.h",
    "stdint.h",
    "math.h",
    "string.h",
    "stdlib.h",
    "pthread.h",
    "sched.h",
)


def emit_program(program: Program, target: Target) -> str:
    """The C source of a program whose memory is planned, entry points included.

    Raises UnsupportedError for what has no C form.
    """
    return print_unit(translation_unit(program, target))


def translation_unit(program: Program, target: Target) -> c.Unit:
    """The parts of the C file: helper functions, kernels, and the functions the outside calls."""
    prefix = sanitise(program.name)
    helpers = Helpers()
    helpers.headers |= {"stdbool.h", "stdint.h"}
    entry_points = {f"{prefix}_{part}" for part in ("run", "pool_create", "pool_destroy", *program.phases)}
    names = Names(RESERVED | entry_points)
    kernels = [KernelEmitter(k, names.unique(k.name), program.dimensions, target, helpers, names).emit()
               for k in program.kernels]  # fmt: skip
    by_kernel = dict(zip(map(id, program.kernels), kernels, strict=True))
    drivers = [DriverEmitter(program, prefix, by_kernel, helpers).phase(phase) for phase in program.phases]
    run = DriverEmitter(program, prefix, by_kernel, helpers).run()
    pool = pool_functions(prefix, any(k.pool for k in kernels), helpers)
    headers = tuple(h for h in _ORDER if h in helpers.headers)
    items = tuple(item for kernel in kernels for item in kernel.items)
    return c.Unit(describe(program, target), headers, tuple(helpers.items()), items, (*drivers, run, *pool))


def describe(program: Program, target: Target) -> tuple[str, ...]:
    """The comment at the top: what goes in and out."""
    lines = [f"{program.name}: {len(program.kernels)} kernels for target {target.name}"]
    for role, buffers in (("input", program.inputs), ("output", program.outputs), ("state", program.states)):
        lines += [f"{role} {buffer!r}" for buffer in buffers]
    if program.arena_bytes is not None:
        lines.append(f"arena: {program.arena_bytes} bytes")
    return tuple(lines)


def is_ordered(program: Program) -> bool:
    """Whether products go into a reduction with an order of its own: then nothing may be contracted."""
    reductions = (s for kernel in program.kernels for s in walk(kernel.body) if isinstance(s, Reduce))
    return any(s.ordered and _multiplies(s.value) for s in reductions)


def _multiplies(value: Expr) -> bool:
    stack, seen = [value], set()
    while stack:
        part = stack.pop()
        if id(part) in seen or not isinstance(part, Apply):
            continue
        if part.fn == "mul" and part.dtype.is_float:
            return True
        seen.add(id(part))
        stack.extend(part.args)
    return False


def required_flags(program: Program) -> tuple[str, ...]:
    """Compiler flags without which the C would not mean what the program means."""
    return ("-ffp-contract=off",) if is_ordered(program) else ()
