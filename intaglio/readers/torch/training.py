"""A whole training step of a PyTorch module as one graph: forward, loss, backward, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from intaglio.graph.grad import gradient
from intaglio.graph.ir import Graph, Value
from intaglio.ops.compositions import optimizers
from intaglio.ops.registry import prim
from intaglio.readers.torch.arrays import array_of
from intaglio.readers.torch.autograd import keep_stopped_gradients, parameters_with_gradients
from intaglio.readers.torch.exported import Reader, decomposed, exported
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, UnsupportedError
from intaglio.shared.regions import phase
from intaglio.shared.types import TensorType

PREFIX = "module."


class _WithLoss(torch.nn.Module):
    """The module and its loss as one module; the last argument is the target."""

    def __init__(self, module: torch.nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, *batch: Any) -> Any:
        return self.loss(self.module(*batch[:-1]), batch[-1])


class BatchForm:
    """How tensors lie in a batch: as tuples, lists and dicts, with other values that are fixed."""

    def __init__(self, example: Sequence[Any]) -> None:
        self.example, self.tree = tree_flatten(tuple(example))

    def arrays(self, batch: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """The arrays of a batch of the example's form, in the order of the program's inputs.

        Raises:
            ArgumentError: the batch has another form, or other fixed values.
        """
        leaves, tree = tree_flatten(tuple(batch))
        if tree != self.tree:
            raise ArgumentError(f"the batch has the form {tree}, but {self.tree} was compiled")
        found = []
        for leaf, example in zip(leaves, self.example, strict=True):
            if hasattr(example, "__array__"):
                found.append(array_of(leaf) if isinstance(leaf, torch.Tensor) else np.asarray(leaf))
            elif leaf != example:
                raise ArgumentError(f"the batch holds {leaf!r} where {example!r} was compiled")
        return found


@dataclass
class TrainingGraph:
    """A training step: its graph, and which states belong to which tensors of the module and optimiser.

    `rates` are the inputs that take the learning rate of each parameter group, behind the batch.
    """

    graph: Graph
    form: BatchForm
    tensors: dict[str, Value] = field(default_factory=dict)
    moments: list[tuple[torch.Tensor, str, Value]] = field(default_factory=list)
    rates: list[Value] = field(default_factory=list)


def read_training(
    module: torch.nn.Module,
    loss: Callable[..., Any],
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Any],
    seed: int = 0,
    clip_grad_norm: float | None = None,
) -> TrainingGraph:
    """The graph of one step on a batch: inputs, then the target.

    Parameters without a gradient are left alone, as PyTorch's optimisers do.

    Raises:
        UnsupportedError: an operator, or an optimiser, that is not supported.
        ArgumentError: the loss is no scalar, or depends on no parameter of the optimiser.
    """
    program = exported(_WithLoss(module, loss), batch, None, {})
    keep_stopped_gradients(program)
    named = {id(p): name for name, p in module.named_parameters(remove_duplicate=True)}
    held = [id(p) for group in optimizer.param_groups for p in group["params"] if id(p) in named]
    if not held:
        raise ArgumentError("the optimiser holds no parameter of the module")
    reached = parameters_with_gradients(module, loss, batch)
    trained = {PREFIX + named[p] for p in held if p in reached}
    if not trained:
        raise ArgumentError("the loss depends on no parameter of the optimiser")
    every = {name for name, p in module.named_parameters(remove_duplicate=False)
             if PREFIX + named[id(p)] in trained}  # fmt: skip
    states = {PREFIX + name for name in every}
    reader = Reader(decomposed(program), states, seed, PREFIX)
    graph = reader.run()
    step = TrainingGraph(graph, BatchForm(batch))
    step.tensors = {name.removeprefix(PREFIX): value for name, value in reader.states.items()}
    _append_updates(step, optimizer, named, reader, clip_grad_norm)
    graph.set_outputs(graph.outputs, ["loss"])
    inputs = graph.inputs[: len(graph.inputs) - len(step.rates)]
    if inputs and isinstance(batch[-1], torch.Tensor):
        inputs.pop().name = graph.unique_name("target")
    for value in inputs:
        value.name = graph.unique_name("x")
    return step


def _append_updates(
    step: TrainingGraph,
    optimizer: torch.optim.Optimizer,
    named: Mapping[int, str],
    reader: Reader,
    clip_grad_norm: float | None,
) -> None:
    """Gradients and the optimiser's update of every parameter."""
    rule = next((r for kind, r in _RULES if type(optimizer) is kind), None)
    if rule is None:
        known = ", ".join(kind.__name__ for kind, _ in _RULES)
        raise UnsupportedError(f"optimiser {type(optimizer).__name__} is not supported", hint=f"use {known}")
    graph = step.graph
    groups = [
        [p for p in group["params"] if id(p) in named and PREFIX + named[id(p)] in reader.states]
        for group in optimizer.param_groups
    ]
    values = [reader.states[PREFIX + named[id(p)]] for group in groups for p in group]
    found = gradient(graph, graph.outputs[0], values)
    gradients = iter(found if clip_grad_norm is None else _clipped(found, clip_grad_norm))
    several = len(groups) > 1
    with phase("update"):
        for number, (settings, params) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
            rate = graph.input(TensorType(dtypes.f64, ()), f"lr_{number}" if several else "lr")
            step.rates.append(rate)
            names = {key: name.replace(".", "_") for key, name in named.items()}
            builder = _Group(step, optimizer, dict(settings), rate, names)
            for p in params:
                value, g = reader.states[PREFIX + named[id(p)]], next(gradients)
                rule(builder, p, value, -g if settings.get("maximize") else g)


def _clipped(gradients: Sequence[Value], most: float) -> list[Any]:
    """As `torch.nn.utils.clip_grad_norm_` leaves gradients."""
    with phase("backward"):
        squares = [prim.sum(g * g, axes=tuple(range(g.type.rank))) for g in gradients]
        factor = most / (prim.sqrt(sum(squares[1:], squares[0])) + 1e-6)
        factor = prim.min(factor, 1.0)
        return [g * factor for g in gradients]


@dataclass
class _Group:
    """One parameter group while its update is built."""

    step: TrainingGraph
    optimizer: torch.optim.Optimizer
    settings: dict[str, Any]
    rate: Value
    names: dict[int, str]
    counters: dict[float, tuple[Value, Any]] = field(default_factory=dict)
    started: Value | None = None

    def moment(self, p: torch.Tensor, name: str) -> Value:
        """A state of the optimiser for a parameter, going on from what it holds now."""
        held = self.optimizer.state.get(p, {}).get(name)
        start = np.zeros_like(array_of(p)) if held is None else array_of(held).copy()
        value = self.step.graph.state(start, f"{name}_{self.names[id(p)]}")
        self.step.moments.append((p, name, value))
        return value

    def counter(self, p: torch.Tensor) -> Any:
        """How many steps there were with this one: one counter for all parameters that agree on it."""
        held = self.optimizer.state.get(p, {}).get("step")
        start = 0.0 if held is None else float(held)
        if start not in self.counters:
            state = self.step.graph.state(np.array(start), "step")
            after = state + 1.0
            self.step.graph.update(state, after)
            self.counters[start] = state, after
        state, after = self.counters[start]
        self.step.moments.append((p, "step", state))
        return after

    def intake(self, p: torch.Tensor) -> Any:
        """The part of a gradient that its velocity takes in: dampened, but for the very first."""
        dampened = float(1 - self.settings["dampening"])
        held = self.optimizer.state.get(p, {}).get("momentum_buffer")
        if dampened == 1.0 or held is not None or not self.settings["momentum"]:
            return dampened
        if self.started is None:
            self.started = self.step.graph.state(np.array(0.0), "started")
            self.step.graph.update(self.started, self.started * 0.0 + 1.0)
        return prim.where(prim.eq(self.started, 0.0), 1.0, dampened)

    @property
    def decay(self) -> float | None:
        return self.settings["weight_decay"] or None


def _sgd(group: _Group, p: torch.Tensor, value: Value, g: Any) -> None:
    settings, graph = group.settings, group.step.graph
    momentum = settings["momentum"] or None
    velocity = group.moment(p, "momentum_buffer") if momentum else None
    after, moved = optimizers.sgd(
        value,
        g,
        velocity,
        lr=group.rate,
        momentum=momentum,
        intake=group.intake(p),
        weight_decay=group.decay,
        nesterov=settings["nesterov"],
    )
    graph.update(value, after)
    if velocity is not None:
        graph.update(velocity, moved)


def _adam(group: _Group, p: torch.Tensor, value: Value, g: Any) -> None:
    settings, graph = group.settings, group.step.graph
    names = ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if settings["amsgrad"] else [])]
    states = [group.moment(p, name) for name in names]
    beta1, beta2 = settings["betas"]
    after, *moved = optimizers.adam(
        value,
        g,
        *states,
        corrections=_corrections(group, p, beta1, beta2),
        lr=group.rate,
        beta1=beta1,
        beta2=beta2,
        eps=settings["eps"],
        weight_decay=group.decay,
        decoupled=settings.get("decoupled_weight_decay") or isinstance(group.optimizer, torch.optim.AdamW),
    )
    graph.update(value, after)
    for state, new in zip(states, moved, strict=False):
        graph.update(state, new)


def _corrections(group: _Group, p: torch.Tensor, beta1: float, beta2: float) -> tuple[Any, Any]:
    step = group.counter(p)
    return (1 - prim.pow(beta1, step), prim.sqrt(1 - prim.pow(beta2, step)))


def _rmsprop(group: _Group, p: torch.Tensor, value: Value, g: Any) -> None:
    settings, graph = group.settings, group.step.graph
    group.counter(p)  # only counted
    square = group.moment(p, "square_avg")
    mean = group.moment(p, "grad_avg") if settings["centered"] else None
    velocity = group.moment(p, "momentum_buffer") if settings["momentum"] else None
    after, *moved = optimizers.rmsprop(
        value,
        g,
        square,
        mean,
        velocity,
        lr=group.rate,
        alpha=settings["alpha"],
        eps=settings["eps"],
        momentum=settings["momentum"] or None,
        weight_decay=group.decay,
    )
    graph.update(value, after)
    for state, new in zip((square, mean, velocity), moved, strict=True):
        if state is not None:
            graph.update(state, new)


Rule = Callable[[_Group, torch.Tensor, Value, Any], None]
_RULES: tuple[tuple[type, Rule], ...] = (
    (torch.optim.SGD, _sgd),
    (torch.optim.Adam, _adam),
    (torch.optim.AdamW, _adam),
    (torch.optim.RMSprop, _rmsprop),
)
