"""Parameters as constants of the programs that `torch.compile` calls, for as long as they do not change.

PyTorch hands the tensors of modules over at every call. A program that has them as constants holds while
they are what they were: the same memory, seen in the same way, and as many writes as PyTorch counted then.
"""

from __future__ import annotations

import functools
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

Run = Callable[[Sequence[Any]], list[Any]]
Tensors = tuple[torch.Tensor, ...]

CHANGES = 8
"""Programs that changed parameters have made useless, after which parameters are inputs."""
MODELS = 64
"""Programs for tensors of different modules, of the same code, that are kept."""

_address, _strides, _sizes = torch.Tensor.data_ptr, torch.Tensor.stride, torch.Tensor.size
_version, _dtype = attrgetter("_version"), attrgetter("dtype")


def static_inputs(metadata: Any) -> tuple[int, ...]:
    """Which inputs of AOTAutograd's forward graph are tensors of modules that the graph does not write to."""
    if metadata is None or metadata.tokens:  # tokens shift the positions
        return ()
    inputs = metadata.input_info
    return tuple(k for k in metadata.static_input_indices if inputs[k].mutation_type.name == "NOT_MUTATED")


class Snapshot:
    """Tensors as they are now. Their memory is held, so that no other tensor comes to lie there."""

    def __init__(self, tensors: Tensors) -> None:
        self.versions = list(map(_version, tensors))
        self.seen = _layouts(tensors)
        self.memory = [tensor.detach() for tensor in tensors]
        self.tensors = [weakref.ref(tensor) for tensor in tensors]
        self.stepped = False
        _snapshots.add(self)

    def fits(self, tensors: Tensors) -> bool:
        """Whether these tensors, at the same addresses, have the values that were taken."""
        try:
            versions = list(map(_version, tensors))
        except RuntimeError:  # a tensor made in inference mode: its writes are not counted
            return False
        return versions == self.versions and not self.stepped and _layouts(tensors) == self.seen

    def holds(self) -> bool:
        """Whether a later call can have the same tensors."""
        tensors = tuple(tensor for ref in self.tensors if (tensor := ref()) is not None)
        if len(tensors) < len(self.tensors):
            return False
        return list(map(_address, tensors)) == list(map(_address, self.memory)) and self.fits(tensors)


def _layouts(tensors: Tensors) -> tuple[list[Any], ...]:
    return list(map(_strides, tensors)), list(map(_sizes, tensors)), list(map(_dtype, tensors))


class FrozenPrograms:
    """Programs of one graph, by the tensors that each has as constants.

    `build(arguments, positions)` makes one of the tensors at these positions; `plain(arguments)` runs the
    program that takes all of them as inputs, which serves when they change too often.
    """

    def __init__(
        self,
        positions: Sequence[int],
        build: Callable[[Sequence[Any], Sequence[int]], Run],
        plain: Run,
    ) -> None:
        self.build, self.plain = build, plain
        self.programs: dict[tuple[int, ...], tuple[Snapshot, Run]] = {}
        self.changes = 0
        self.lock = threading.Lock()
        self._watch(positions)
        _watch_optimisers()

    def _watch(self, positions: Sequence[int]) -> None:
        self.positions = tuple(positions)
        self.given_up = not positions
        self.pick: Callable[[Sequence[Any]], Tensors] = (
            itemgetter(*positions) if len(positions) > 1 else lambda arguments: (arguments[positions[0]],)
        )

    def __call__(self, arguments: Sequence[Any]) -> list[Any]:
        if self.given_up:
            return self.plain(arguments)
        tensors = self.pick(arguments)
        found = self.programs.get(tuple(map(_address, tensors)))
        if found is not None and found[0].fits(tensors):
            return found[1](arguments)
        return self._made(arguments)(arguments)

    def _made(self, arguments: Sequence[Any]) -> Run:
        """The program of the tensors' present values, or the plain one after too many changes."""
        with self.lock:
            if self.given_up:
                return self.plain
            counted = [k for k in self.positions if not arguments[k].is_inference()]
            if len(counted) < len(self.positions):
                self.programs.clear()
                self._watch(counted)
                _warn("parameters made in inference mode stay inputs: PyTorch does not count writes to them")
                return self._made_now(arguments) if counted else self.plain
            return self._made_now(arguments)

    def _made_now(self, arguments: Sequence[Any]) -> Run:
        tensors = self.pick(arguments)
        key = tuple(map(_address, tensors))
        found = self.programs.get(key)
        if found is not None and found[0].fits(tensors):
            return found[1]  # another thread has made it
        gone = [key for key, (snapshot, _) in self.programs.items() if not snapshot.holds()]
        for other in gone:
            del self.programs[other]
        self.changes += len(gone)
        if self.changes > CHANGES or len(self.programs) >= MODELS:
            self.given_up = True
            self.programs.clear()
            _warn(
                f"parameters changed {self.changes} times between calls: they are inputs from now on"
                if self.changes > CHANGES
                else f"more than {MODELS} modules share this code: their parameters are inputs from now on"
            )
            return self.plain
        snapshot = Snapshot(tensors)
        run = self.build(arguments, self.positions)
        self.programs[key] = snapshot, run
        return run


def _warn(text: str) -> None:
    warnings.warn(f"torch.compile(backend='intaglio', options={{'freeze': True}}): {text}", stacklevel=2)


_snapshots: weakref.WeakSet[Snapshot] = weakref.WeakSet()


@functools.cache
def _watch_optimisers() -> None:
    """Notice the steps of optimisers: fused ones, and those that write to `.data`, go uncounted."""
    register_optimizer_step_post_hook(_after_step)


def _after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if torch.compiler.is_compiling():  # compiled steps are counted
        return
    written = {_storage(p) for group in optimizer.param_groups for p in group["params"]}
    for snapshot in list(_snapshots):
        if not snapshot.stepped and not written.isdisjoint(map(_storage, snapshot.memory)):
            snapshot.stepped = True


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
