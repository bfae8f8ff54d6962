"""If and Loop.

What is decided at import is not there at run time: a branch whose condition is known is imported in place.
A loop becomes `scan` when its number of steps is known, else `while_loop`. One whose body is not the same at
every step (shapes that grow, sequences) is written out when its number of steps is known and small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from intaglio.graph.ir import Graph, Value
from intaglio.graph.symbols import defined_symbols, variables_of
from intaglio.ops.registry import lookup
from intaglio.readers.onnx.bodies import (
    as_row,
    check_carried,
    emit,
    first_rows,
    is_known,
    leaves_of,
    moved,
    rebuilt,
    scalar,
    size_value,
    stack,
    structure_of,
    tensors_only,
    zeros,
)
from intaglio.readers.onnx.counting import known_steps
from intaglio.readers.onnx.registry import InputNeeded, OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import FileFormatError, IntaglioError, ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike, upper
from intaglio.shared.types import TensorType

if TYPE_CHECKING:
    from intaglio.readers.onnx.frames import Frame

MAX_STEPS = 1024
"""Steps of a loop that may be written out."""
FIX_CONDITION = "fix what the condition depends on: load(..., values=... or shapes=...)"
TRUE = np.asarray(True)
NUMBER = TensorType(dtypes.i64, ())


@onnx_op("If")
def if_(call: OnnxCall, condition: Operand) -> Any:
    branches = [call.required(name) for name in ("then_branch", "else_branch")]
    importer = call.importer
    condition = call.settled(condition)
    if is_known(condition):
        return tuple(importer.subgraph(branches[0 if _truth(condition) else 1], ()))
    frames: list[Frame] = []
    results: list[list[Any]] = []
    for name, proto in zip(("then", "orelse"), branches, strict=True):
        with importer.frames.inner(name) as frame:
            try:
                results.append(importer.subgraph(proto, ()))
            except (UnsupportedError, ShapeError) as error:
                raise not_known(call, (condition,), error.message, error) from error
            frames.append(frame)
    structures = [[structure_of(r) for r in found] for found in results]
    if structures[0] != structures[1]:
        raise not_known(
            call,
            (condition,),
            "If: the branches give sequences of different lengths, or an optional that only one of them has",
        )
    leaves = [[leaf for r in found for leaf in leaves_of(r)] for found in results]
    chosen = _chosen(call, scalar(importer.as_value(condition)), frames, *leaves)
    return tuple(rebuilt(structure, chosen) for structure in structures[0])


def _chosen(
    call: OnnxCall, predicate: Value, frames: Sequence[Frame], then: list[Any], orelse: list[Any]
) -> list[Any]:
    """The tensors of the branch that runs; those that both branches know and agree on stay known."""
    pairs = list(zip(then, orelse, strict=True))
    merged = [a if _same(a, b) else None for a, b in pairs]
    open_ = [pair for pair, known in zip(pairs, merged, strict=True) if known is None]
    if not open_:
        return merged
    importer = call.importer
    captured = list(dict.fromkeys(value for frame in frames for value in frame.captured))
    found: list[list[Value]] = []
    for position, frame in enumerate(frames):
        with importer.frames.again(frame):
            found.append([importer.as_value(pair[position]) for pair in open_])
    uneven = [_uneven(call, predicate, frames, *values) for values in zip(*found, strict=True)]
    for frame, values in zip(frames, found, strict=True):
        frame.graph.inputs = [frame.capture(value) for value in captured]
        parts = [[v] if u is None else _padded(v, *u) for v, u in zip(values, uneven, strict=True)]
        frame.graph.set_outputs([part for several in parts for part in several])
    then_, orelse_ = (frame.graph for frame in frames)
    results = iter(emit(importer.graph, "cond", [predicate, *captured], then=then_, orelse=orelse_))
    made = iter([_joined(call, results, u) for u in uneven])
    return [next(made) if known is None else known for known in merged]


Uneven = tuple[int, int]
"""The axis on which the results of two branches differ, and room for the larger one."""


def _uneven(
    call: OnnxCall, predicate: Value, frames: Sequence[Frame], first: Value, second: Value
) -> Uneven | None:
    """How the results of two branches differ; None when their types are equal.

    Raises InputNeeded or UnsupportedError where one size, found at run time, does not tell them apart."""
    own = {var for frame in frames for var in defined_symbols(frame.graph)}
    if first.type == second.type and not variables_of(first.shape) & own:
        return None
    a, b = first.type, second.type
    axes = [k for k, (m, n) in enumerate(zip(a.shape, b.shape, strict=False)) if m != n]
    if a.dtype == b.dtype and a.rank == b.rank and len(axes) == 1:
        (axis,) = axes
        room = [upper(a.shape[axis]), upper(b.shape[axis])]
        rest = variables_of((*a.shape[:axis], *a.shape[axis + 1 :]))
        if None not in room and not rest & own:
            call.importer.sized_by.update(dict.fromkeys(call.importer.inputs_behind(predicate)))
            return axis, max(n for n in room if n is not None)
    raise not_known(call, (predicate,), f"If: one branch gives {a}, the other {b}")


def _padded(value: Value, axis: int, room: int) -> list[Value]:
    """A result with the uneven axis in front, filled up, and how much of it there is."""
    rows = moved(value, axis, 0)
    extent = rows.shape[0]
    padding = ((0, room - extent), *((0, 0) for _ in rows.shape[1:]))
    (filled,) = emit(value.graph, "pad", [rows], padding=padding, mode="constant", value=0.0)
    return [filled, _number(value.graph, extent)]


def _joined(call: OnnxCall, results: Iterator[Value], uneven: Uneven | None) -> Value:
    """A result behind the branches, cut to what there is."""
    if uneven is None:
        return next(results)
    axis, room = uneven
    rows, count = next(results), next(results)
    return moved(first_rows(call.importer, rows, count, room, "branch"), 0, axis)


def not_known(
    call: OnnxCall, operands: Sequence[Any], message: str, error: IntaglioError | None = None
) -> IntaglioError:
    """The error where operands decide what a program is, but are computed at run time.

    When they are computed from inputs of the model, it says which; `error` is what went wrong without."""
    if isinstance(error, InputNeeded):
        return error
    values = [x for x in operands if isinstance(x, Value)]
    behind = [call.importer.inputs_behind(value) for value in values]
    if behind and all(behind):
        return InputNeeded(message, list(dict.fromkeys(name for names in behind for name in names)))
    return UnsupportedError(message, hint=FIX_CONDITION) if error is None else error


def _same(a: Any, b: Any) -> bool:
    both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return both and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _truth(condition: Any) -> bool:
    if condition.size != 1:
        raise ShapeError(f"a condition of shape {list(condition.shape)} is not a single element")
    return bool(condition.reshape(()))


@onnx_op("Loop")
def loop(
    call: OnnxCall, trips: Operand | None = None, condition: Operand | None = None, *initial: Any
) -> tuple[Any, ...]:
    body: onnx.GraphProto = call.required("body")
    if len(body.input) != 2 + len(initial) or len(body.output) < 1 + len(initial):
        raise FileFormatError(f"Loop: the body does not carry {len(initial)} values")
    condition = TRUE if condition is None else call.settled(condition)
    count = _trip_count(call.settled(trips))
    if is_known(condition) and not _truth(condition):
        count = 0
    if count == 0:
        condition = TRUE
    steady = not any(isinstance(x, list) or x is None for x in initial)
    once = isinstance(count, int) and count <= 1 and is_known(condition)
    if not steady or once or _is_static(call, body, count, initial):
        return _written_out(call, body, count, condition, initial)
    try:
        return _rolled(call, body, count, condition, initial)
    except (UnsupportedError, ShapeError) as error:
        if not isinstance(count, int) or count > MAX_STEPS or not is_known(condition):
            raise not_known(call, (trips, condition), error.message, error) from error
    return _written_out(call, body, count, condition, initial)


def _is_static(call: OnnxCall, body: onnx.GraphProto, count: Count, initial: Sequence[Any]) -> bool:
    """Whether every step can be computed at import: one from these values is."""
    if not all(map(is_known, initial)) or not (count is None or isinstance(count, int)):
        return False
    if count is not None and count > MAX_STEPS:
        return False
    with call.importer.frames.inner("trial") as frame:
        try:
            results = call.importer.subgraph(body, [np.asarray(0), TRUE, *initial])
        except (UnsupportedError, ShapeError):
            return False
    return all(map(is_known, results)) and not frame.graph.nodes


Count = IndexLike | Value | None
"""The number of steps: known, a symbol, computed at run time, or without limit."""


def _trip_count(trips: Operand | None) -> Count:
    if trips is None:
        return None
    if isinstance(trips, Value):
        return scalar(trips)
    if trips.size != 1:
        raise ShapeError(f"a number of steps of shape {list(trips.shape)} is not a single element")
    count = trips.reshape(()).item()
    return max(count, 0) if isinstance(count, int) else count


def _written_out(
    call: OnnxCall, body: onnx.GraphProto, count: Count, condition: Any, initial: Sequence[Any]
) -> tuple[Any, ...]:
    """The steps one by one, each imported in place."""
    carried, columns = list(initial), [list[Any]() for _ in body.output[1 + len(initial) :]]
    if (
        not is_known(condition)
        or isinstance(count, Value)
        or (count is not None and not isinstance(count, int))
    ):
        raise not_known(
            call, (count, condition), "Loop: a sequence is carried, but the number of steps is not known"
        )
    step = 0
    while (count is None or step < count) and _truth(condition):
        if step == MAX_STEPS:
            raise UnsupportedError(f"Loop: more than {MAX_STEPS} steps with changing shapes or sequences")
        condition, *results = call.importer.subgraph(body, [np.asarray(step), TRUE, *carried])
        carried = results[: len(initial)]
        for column, row in zip(columns, results[len(initial) :], strict=True):
            column.append(row)
        step += 1
        if not is_known(condition) and step != count:
            raise not_known(
                call,
                (condition,),
                "Loop: shapes or sequences change, and whether a step is the last is not known",
            )
        condition = condition if is_known(condition) else TRUE
    if step:
        return *carried, *(stack(call.importer, column) for column in columns)
    return *carried, *_empty_rows(call, body, carried)


def _empty_rows(call: OnnxCall, body: onnx.GraphProto, carried: Sequence[Any]) -> list[Any]:
    """The stacked results of a loop without steps; the body is imported only for their types."""
    if len(body.output) == 1 + len(carried):
        return []
    with call.importer.frames.inner("types"):
        results = call.importer.subgraph(body, [np.asarray(0), TRUE, *call.importer.frames.local([*carried])])
        types = [call.importer.as_value(row).type for row in results[1 + len(carried) :]]
    if not all(isinstance(extent, int) for type_ in types for extent in type_.shape):
        return [zeros(call.importer.graph, TensorType(t.dtype, (0, *t.shape))) for t in types]
    return [np.zeros((0, *t.shape), t.dtype.numpy) for t in types]


def _rolled(
    call: OnnxCall, body: onnx.GraphProto, count: Count, condition: Any, initial: Sequence[Any]
) -> tuple[Any, ...]:
    """The loop as one operator with the body as a graph."""
    importer = call.importer
    carried = [importer.as_value(x) for x in initial]
    with importer.frames.inner("body") as frame:
        inside = [
            frame.graph.input(v.type, info.name) for v, info in zip(carried, body.input[2:], strict=True)
        ]
        step = frame.graph.input(NUMBER, "step")
        again, *results = importer.subgraph(body, [step, TRUE, *inside])
        tensors_only("Loop", results)
        values = [importer.as_value(result) for result in results]
        check_carried("Loop", carried, values[: len(carried)])
        goes_on = is_known(again) and _truth(again)
        again = scalar(importer.as_value(again))
    if not goes_on and is_known(condition) and (count is None or isinstance(count, int)):
        steps_known = known_steps(call, body, count, initial, MAX_STEPS)
        goes_on, count = (False, count) if steps_known is None else (True, steps_known)
    if not goes_on or not is_known(condition) or count is None or isinstance(count, Value):
        return _while(call, frame, count, condition, carried, inside, step, again, values)
    frame.graph.set_outputs(values)
    frame.graph.inputs = [*inside, step, *frame.captured.values()]
    steps = emit(importer.graph, "iota", [], shape=(count,), axis=0, dtype=dtypes.i64)
    return tuple(
        emit(
            importer.graph, "scan", [*carried, *steps, *frame.captured],
            body=frame.graph, n_carry=len(carried), n_xs=1, reverse=False, length=count,
        )
    )  # fmt: skip


def _while(
    call: OnnxCall,
    frame: Frame,
    count: Count,
    condition: Any,
    carried: list[Value],
    inside: list[Value],
    step: Value,
    again: Value,
    values: list[Value],
) -> tuple[Any, ...]:
    """`while_loop` over the step's number, whether there is a next one, the values, and rows so far."""
    graph, body = call.importer.graph, frame.graph
    rows = values[len(carried) :]
    buffers = [zeros(graph, TensorType(row.dtype, (_capacity(count), *row.shape))) for row in rows]
    goes_on = body.input(TensorType(dtypes.bool_, ()), "goes_on")
    held = [body.input(buffer.type, "rows") for buffer in buffers]
    limit = [] if count is None else [count if isinstance(count, Value) else _number(graph, count)]
    constants = list(dict.fromkeys([*frame.captured, *limit]))
    body.inputs = [step, goes_on, *inside, *held, *(frame.capture(value) for value in constants)]
    after = emit(body, "add", [step, body.constant(np.asarray(1))])
    filled = [_with_row(buffer, row, step) for buffer, row in zip(held, rows, strict=True)]
    body.set_outputs([*after, again, *values[: len(carried)], *filled])
    first = [graph.constant(np.asarray(0)), scalar(call.importer.as_value(condition)), *carried, *buffers]
    test = _test(body, constants.index(limit[0]) if limit else None, len(first))
    done, _, *results = emit(
        graph, "while_loop", [*first, *constants], cond=test, body=body, n_carry=len(first)
    )
    most = buffers[0].shape[0] if buffers else 0
    assert isinstance(most, int)
    rows = [first_rows(call.importer, r, done, most, "steps") for r in results[len(carried) :]]
    return *results[: len(carried)], *rows


def _with_row(buffer: Value, row: Value, step: Value) -> Value:
    """The rows so far with one more, written so that it can be done in place."""
    number = emit(buffer.graph, "iota", [], shape=buffer.shape, axis=0, dtype=dtypes.i64)[0]
    return lookup("where")(lookup("eq")(number, step), as_row(row), buffer)  # type: ignore[no-any-return]


def _test(body: Graph, limit: int | None, carries: int) -> Graph:
    """`goes_on and step < limit`, over the inputs of the body."""
    test = Graph("condition")
    step, goes_on, *rest = [test.input(value.type, value.name) for value in body.inputs]
    if limit is not None:
        goes_on = emit(test, "and", [goes_on, *emit(test, "lt", [step, rest[carries - 2 + limit]])])[0]
    test.set_outputs([goes_on])
    return test


def _capacity(count: Count) -> int:
    most = None if count is None or isinstance(count, Value) else upper(count)
    if most is None:
        raise UnsupportedError("Loop: it stacks results, and nothing known limits its number of steps")
    return most


def _number(graph: Graph, count: IndexLike) -> Value:
    """An extent as a number that the program computes with."""
    if isinstance(count, int):
        return graph.constant(np.asarray(count))
    return size_value(graph, count)
