"""The tape: what was computed from what, and derivatives backwards along it.

A record keeps the operands as they were when the operator ran, so that tensors may be changed in place
afterwards. Records point only backwards: a tape that nothing depends on any more is freed at once.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from intaglio.array.mode import mode, set_grad_enabled
from intaglio.ops.registry import REGISTRY, Op
from intaglio.ops.vjp import pull_back
from intaglio.shared.errors import ArgumentError, TraceError
from intaglio.shared.regions import phase
from intaglio.shared.types import TensorType
from intaglio.shared.where import caller

_order = itertools.count()
_RELEASED: tuple[Saved, ...] = ()


class Saved:
    """An operand at the time of use: what it held, the record that made it, or the leaf it was."""

    __slots__ = ("held", "leaf", "position", "record", "stamp", "storage")

    def __init__(self, tensor: Any) -> None:
        storage = tensor._storage
        self.held = storage.held if mode.trace is None else mode.trace.operand(tensor)
        self.record: Record | None = tensor._record
        self.position: int = tensor._position
        self.leaf = None if not tensor._leaf else tensor if tensor._origin is None else tensor._origin
        self.storage = storage
        self.stamp: int = storage.stamp

    @property
    def key(self) -> Any:
        """The same for all uses of one value that derivatives are asked of; None for a constant."""
        if self.record is not None:
            return id(self.record), self.position
        return None if self.leaf is None else (id(self.leaf), id(self.held))


class Record:
    """One operator applied to tensors that derivatives may be asked of."""

    __slots__ = ("__weakref__", "attrs", "inputs", "number", "op", "outputs", "released", "retained")

    def __init__(
        self, op: Op, operands: Iterable[Any], attrs: dict[str, Any], outputs: tuple[Any, ...]
    ) -> None:
        self.op = op
        self.attrs = attrs
        self.inputs = tuple(map(Saved, operands))
        self.outputs = outputs
        self.number = next(_order)
        self.released = False
        self.retained: dict[int, weakref.ref[Any]] | None = None

    def check(self) -> None:
        """Raise ArgumentError when it is freed, or the memory of an operand was written since."""
        if self.released:
            raise ArgumentError(
                "backward: this graph was freed by an earlier backward()",
                where=caller(),
                hint="pass retain_graph=True to the first one",
            )
        for position, saved in enumerate(self.inputs):
            if saved.storage.stamp != saved.stamp and saved.storage.held is saved.held:
                raise ArgumentError(
                    f"backward: operand {position} of {self.op.name} was changed in place after it was used",
                    where=caller(),
                    hint="change it after backward(), or make a new tensor",
                )

    def release(self) -> None:
        """Forget the operands."""
        self.inputs, self.outputs, self.released = _RELEASED, (), True


class _Opaque(Record):
    """What made the result of a compiled function, whose inside is no longer there to walk back."""

    def __init__(self) -> None:
        super().__init__(REGISTRY["detach"], (), {}, ())

    def check(self) -> None:
        raise ArgumentError(
            "backward reaches the result of a compiled function, which keeps nothing to go back through",
            where=caller(),
            hint="call backward() or intaglio.grad inside of the compiled function",
        )


OPAQUE = _Opaque()


class _Replayed(NamedTuple):
    """A record with tensors in place of what was saved."""

    op: Op
    inputs: tuple[Any, ...]
    attrs: dict[str, Any]
    outputs: tuple[Any, ...]


def records_behind(results: Iterable[Any]) -> list[Record]:
    """Every record that tensors depend on, in order of execution."""
    found: dict[int, Record] = {}
    waiting = [r._record for r in results if r._record is not None]
    while waiting:
        record = waiting.pop()
        if record.number not in found:
            found[record.number] = record
            waiting.extend(saved.record for saved in record.inputs if saved.record is not None)
    return [found[number] for number in sorted(found)]


class _Replay:
    """Tensors for what records saved: one per value, so that derivatives meet in them."""

    def __init__(self, make: Callable[..., Any], linked: bool) -> None:
        self.make = make
        self.linked = linked
        self.tensors: dict[Any, Any] = {}
        self.leaves: dict[Any, Any] = {}

    def tensor(self, saved: Saved) -> Any:
        key = saved.key
        if key is None:
            return self.make(saved.held)
        if key not in self.tensors:
            self.tensors[key] = self._made(saved.held, saved.record, saved.position, saved.leaf)
            if saved.record is None:
                self.leaves[key] = saved.leaf
        return self.tensors[key]

    def output(self, record: Record, position: int) -> Any:
        key = (id(record), position)
        if key not in self.tensors:
            self.tensors[key] = self._made(record.outputs[position], record, position, None)
        return self.tensors[key]

    def _made(self, held: Any, record: Record | None, position: int, leaf: Any) -> Any:
        made = self.make(held)
        if self.linked:
            made._record, made._position, made._leaf, made._origin = record, position, leaf is not None, leaf
        return made

    def replayed(self, record: Record) -> _Replayed:
        inputs = tuple(map(self.tensor, record.inputs))
        outputs = tuple(self.output(record, k) for k in range(len(record.outputs)))
        return _Replayed(record.op, inputs, record.attrs, outputs)


def derivatives(
    results: Sequence[Any],
    seeds: Sequence[Any],
    wanted: Sequence[Any] | None,
    *,
    create_graph: bool,
    retain_graph: bool,
) -> list[tuple[Any, Any]]:
    """Derivatives of the results, weighted by seeds, as pairs of tensor and derivative.

    Args:
        wanted: tensors to differentiate by; None for every leaf that requires it and every tensor that
            retains its gradient. Those that nothing depends on are absent.
        create_graph: whether the derivatives can be differentiated again.
        retain_graph: whether the tape can be walked once more.

    Raises:
        ArgumentError: the tape was freed, or an operand was overwritten.
    """
    records = records_behind(results)
    for record in records:
        record.check()
        if mode.trace is not None and isinstance(record.outputs[0], np.ndarray):
            raise TraceError(
                f"backward in a traced function reaches {record.op.name}, which ran before the trace",
                where=caller(),
                hint="compute it inside of the function, or detach() it",
            )
    replay = _Replay(type(results[0])._holding, create_graph)
    with set_grad_enabled(create_graph), phase("backward"):
        replayed: list[Any] = [replay.replayed(record) for record in records]
        roots: dict[Any, Any] = {}
        for result, seed in zip(results, seeds, strict=True):
            stand_in = replay.tensor(Saved(result))
            roots[stand_in] = seed if stand_in not in roots else roots[stand_in] + seed
        targets = _targets(records, replay) if wanted is None else _given(wanted, replay)
        found = pull_back(replayed, roots, [stand_in for _, stand_in in targets])
        sums: dict[int, tuple[Any, Any]] = {}
        for tensor, stand_in in targets:
            if stand_in in found:
                held = sums.get(id(tensor))
                sums[id(tensor)] = tensor, found[stand_in] if held is None else held[1] + found[stand_in]
    if not retain_graph and not create_graph:
        for record in records:
            record.release()
    return list(sums.values())


def _targets(records: Sequence[Record], replay: _Replay) -> list[tuple[Any, Any]]:
    """Leaves, and tensors that asked to retain their gradient, with their stand-ins."""
    targets = [(leaf, replay.tensors[key]) for key, leaf in replay.leaves.items()]
    for record in records:
        for position, reference in (record.retained or {}).items():
            tensor = reference()
            if tensor is not None:
                targets.append((tensor, replay.output(record, position)))
    return targets


def _given(wanted: Sequence[Any], replay: _Replay) -> list[tuple[Any, Any]]:
    """Tensors with their stand-ins: a leaf has one for each value that it had when it was used."""
    targets = []
    for tensor in wanted:
        if tensor._record is not None:
            targets.append((tensor, replay.tensor(Saved(tensor))))
        own = tensor if tensor._origin is None else tensor._origin
        targets += [(tensor, replay.tensors[key]) for key, leaf in replay.leaves.items() if leaf is own]
    return targets


def depends_on_others(result: Any, own: Sequence[Any]) -> bool:
    """Whether a result was computed from leaves, or with in-between results, other than the given tensors."""
    mine = {id(x) for x in own} | {id(x._record) for x in own if x._record is not None}
    for record in records_behind([result]):
        if id(record) not in mine and any(
            s.leaf is not None and id(s.leaf) not in mine for s in record.inputs
        ):
            return True
    return any(x._record is not None for x in own)


def no_derivative(type_: TensorType) -> ArgumentError:
    """The error of asking for derivatives of something that was not recorded."""
    return ArgumentError(
        f"backward: nothing that this {type_} was computed from requires gradients",
        where=caller(),
        hint="set requires_grad=True on what to differentiate by, outside of no_grad()",
    )


def leaked(type_: TensorType) -> TraceError:
    """The error of using a tensor that stands for a value of a program whose recording has ended."""
    return TraceError(
        f"a {type_} made while a function was traced is used after that",
        where=caller(),
        hint="return it from the function, or keep it in a Tensor made before with copy_()",
    )
