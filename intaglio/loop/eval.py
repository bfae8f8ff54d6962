"""The interpreter of the loop level: a program is translated to Python over NumPy and run in place.

A nest whose iterations may run in any order becomes one NumPy operation per statement, over all its
loops at once; any other loop is a Python loop. Arrays are flat and places are row-major positions, as
in the C. Memory nobody has written yet holds NaN (or a large odd integer), so that reading it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from intaglio.loop.eval_nest import translate, translate_value, unwritten
from intaglio.loop.ir import Block, Buffer, Call, Comment, For, If, Let, Program, Stmt, While
from intaglio.shared.errors import ArgumentError
from intaglio.shared.index import IndexLike, product, substitute, upper

Array = np.ndarray[Any, Any]


def evaluate(
    program: Program,
    arrays: dict[str, Array],
    symbols: Mapping[str, int] | None = None,
    phases: tuple[str, ...] | None = None,
) -> None:
    """Run a program on arrays by buffer name: outputs and states are written in place.

    Constants and states that `arrays` lacks take their `data`; states are then added to `arrays`. An output
    with a size that is found on the way is a flat array with room for the largest.
    `symbols` gives the run-time dimensions, `phases` which parts of the driver to run (default all).

    Raises:
        ArgumentError: an array is missing or does not have its buffer's type.
    """
    env = {var: (symbols or {}).get(var.name, -1) for var in program.symbols}
    for var, value in env.items():
        if value < var.lo or (var.hi is not None and value > var.hi):
            raise ArgumentError(
                f"symbol {var} of program {program.name} is {value}, not in {var.lo} .. {var.hi}"
            )
    memory: dict[Buffer, Array] = {}
    for buffer in program.buffers:
        if buffer.alias is None:
            memory[buffer] = _array(program, buffer, arrays, _shape(buffer, env)).reshape(-1)
    for buffer in program.buffers:
        if buffer.alias is not None:
            memory[buffer] = _alias(buffer, memory, int(np.prod(_shape(buffer, env))))
    functions: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        for name in phases or tuple(program.phases):
            for statement in program.phases[name]:
                _drive(statement, memory, env, functions)


def _shape(buffer: Buffer, env: Mapping[Any, int]) -> tuple[int, ...]:
    """The shape in memory: an array with a size that is found later is flat and has room for the largest."""
    shape = tuple(substitute(extent, env) for extent in buffer.shape)
    if all(isinstance(extent, int) for extent in shape):
        return shape  # type: ignore[return-value]
    room = upper(product(shape))
    assert room is not None
    return (room,)


def _array(program: Program, buffer: Buffer, arrays: dict[str, Array], shape: tuple[int, ...]) -> Array:
    if buffer.name not in arrays:
        if buffer.data is not None:
            array = np.array(buffer.data, order="C")
            if buffer.role == "state":
                arrays[buffer.name] = array
            return array
        if buffer.role != "scratch":
            raise ArgumentError(f"program {program.name}: no array for {buffer.role} {buffer!r}")
        return unwritten(shape, buffer.dtype)
    array = arrays[buffer.name]
    if array.shape != shape or array.dtype != buffer.dtype.numpy or not array.flags.c_contiguous:
        raise ArgumentError(
            f"program {program.name}: {buffer!r} is given {array.dtype}{list(array.shape)}"
            f"{'' if array.flags.c_contiguous else ', not contiguous'}"
        )
    return array


def _alias(buffer: Buffer, memory: dict[Buffer, Array], size: int) -> Array:
    root = buffer
    while root.alias is not None:
        root = root.alias
    raw = memory[root].view(np.uint8)[: size * buffer.dtype.size]
    return raw.view(buffer.dtype.numpy)


def _drive(
    statement: Stmt, memory: dict[Buffer, Array], env: dict[Any, int], functions: dict[str, Any]
) -> None:
    """Run one statement of the driver."""
    if isinstance(statement, Call):
        kernel = statement.kernel
        if kernel.name not in functions:
            functions[kernel.name] = translate(kernel)
        slices = [memory[arg.buffer][_int(arg.offset, env) :] for arg in statement.args]
        functions[kernel.name](*slices, **{var.name: value for var, value in env.items()})
    elif isinstance(statement, Let):
        found = translate_value(statement.value, list(memory))
        env[statement.var] = int(found(*memory.values(), **{v.name: n for v, n in env.items()}))
    elif isinstance(statement, For):
        stop = _int(statement.stop, env)
        for value in range(_int(statement.start, env), stop, statement.step):
            for inner in statement.body:
                _drive(inner, memory, {**env, statement.var: value}, functions)
    elif isinstance(statement, (If, While)):
        _drive_branch(statement, memory, env, functions)
    elif not isinstance(statement, Comment):
        raise TypeError(f"{type(statement).__name__} does not belong into a driver")


def _drive_branch(
    statement: If | While, memory: dict[Buffer, Array], env: dict[Any, int], functions: dict[str, Any]
) -> None:
    condition = translate_value(statement.condition, list(memory))

    def holds() -> bool:
        return bool(condition(*memory.values(), **{var.name: value for var, value in env.items()}))

    if isinstance(statement, While):
        while holds():
            for inner in statement.body:
                _drive(inner, memory, env, functions)
        return
    chosen: Block | None = statement.then if holds() else statement.orelse
    for inner in chosen or Block():
        _drive(inner, memory, env, functions)


def _int(index: IndexLike, env: Mapping[Any, int]) -> int:
    value = substitute(index, env)
    assert isinstance(value, int)
    return value
