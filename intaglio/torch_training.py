"""`compile_training`: a PyTorch module, its loss and its optimiser as one C program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.compile import compile_graph
from intaglio.shared.errors import ArgumentError

if TYPE_CHECKING:
    import torch

    from intaglio.compiled import Compiled
    from intaglio.readers.torch.training import TrainingGraph

_MAY_CHANGE = ("params", "lr", "initial_lr", "foreach", "fused", "capturable", "differentiable")


def compile_training(
    module: torch.nn.Module,
    loss_fn: Callable[..., Any],
    optimizer: torch.optim.Optimizer,
    example_batch: Sequence[Any],
    *,
    seed: int = 0,
    clip_grad_norm: float | None = None,
    **settings: Any,
) -> TrainingStep:
    """Compile one training step: forward, loss, backward and the optimiser's update.

    Args:
        module: in the mode it is trained in; its parameters are copied into the program.
        loss_fn: takes the module's result and the target, and gives one scalar.
        optimizer: SGD, Adam, AdamW or RMSprop over parameters of the module. Its learning rates are read at
            every step, so that schedulers work; its other settings are fixed now.
        example_batch: the module's inputs, then the target; shapes and types are fixed by it. Each may be
            a tensor, or a dict, list or tuple of them.
        seed: start of the random numbers of dropout.
        clip_grad_norm: largest norm of all gradients together, as in `torch.nn.utils.clip_grad_norm_`.
        settings: as for `compile_graph`.

    Raises:
        UnsupportedError: an operator or optimiser that is not supported; names it and the module's line.
        ArgumentError: the loss is no scalar, or depends on no parameter of the optimiser.
    """
    from intaglio.readers.torch.training import read_training

    step = read_training(module, loss_fn, optimizer, example_batch, seed, clip_grad_norm)
    return TrainingStep(step, compile_graph(step.graph, **settings), module, optimizer)


class TrainingStep:
    """A compiled training step; `step(*inputs, target)` runs it once and gives the loss."""

    def __init__(
        self,
        step: TrainingGraph,
        compiled: Compiled,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.compiled = compiled
        self.module = module
        self.optimizer = optimizer
        self._step = step
        self._place = {value: k for k, value in enumerate(step.graph.states)}
        self._settings = _fixed_settings(optimizer)

    def __call__(self, *batch: Any) -> float:
        found = _fixed_settings(self.optimizer)
        if found != self._settings:
            raise ArgumentError(
                f"the optimiser's settings are {found}, but {self._settings} were compiled",
                hint="only learning rates may change; compile the step again",
            )
        rates = [np.asarray(float(group["lr"])) for group in self.optimizer.param_groups]
        return float(self.compiled(*self._step.form.arrays(batch), *rates))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The parameters and buffers as they are now, for `module.load_state_dict`."""
        from intaglio.readers.torch.arrays import tensor_of

        held = self.compiled.loaded.states
        found = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        for name, value in self._step.tensors.items():
            found[name] = tensor_of(held[self._place[value]].copy())
        return found

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Set parameters and buffers that the step changes to those of a module's `state_dict`.

        Raises:
            ArgumentError: one is missing or has another shape; then nothing is changed.
        """
        from intaglio.readers.torch.arrays import array_of

        held = self.compiled.loaded.states
        places = {name: held[self._place[value]] for name, value in self._step.tensors.items()}
        for name, array in places.items():
            if name not in state or tuple(state[name].shape) != array.shape:
                found = f"has shape {list(state[name].shape)}" if name in state else "is missing"
                raise ArgumentError(f"{name} {found}; the step's is {list(array.shape)}")
        for name, array in places.items():
            array[...] = array_of(state[name])

    def sync(self) -> None:
        """Write parameters, buffers and the optimiser's state back into the module and the optimiser."""
        import torch

        from intaglio.readers.torch.arrays import tensor_of

        self.module.load_state_dict(self.state_dict())
        held = self.compiled.loaded.states
        for p, name, value in self._step.moments:
            array = held[self._place[value]]
            kept = torch.tensor(float(array)) if name == "step" else tensor_of(array.copy())
            self.optimizer.state[p][name] = kept

    def export_c(self, directory: str | Path, **settings: Any) -> Path:
        """Write the training step as a folder of C that builds by itself; see `Compiled.export_c`."""
        return self.compiled.export_c(directory, **settings)


def _fixed_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What the program has of an optimiser's settings, for each parameter group."""
    names = [name for name in optimizer.defaults if name not in _MAY_CHANGE]
    return [{name: group[name] for name in names} for group in optimizer.param_groups]
