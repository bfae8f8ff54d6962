"""What all optimisers share: parameter groups, state, and the step written in tensor operations.

State is made of Tensors and a step changes parameters and state in place, so that a compiled training
step holds them as its own state. Hyper-parameters are read from the groups at every call, compiled or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from intaglio.array.data import as_array
from intaglio.array.tensor import Tensor, enable_grad, no_grad, tensor
from intaglio.array.trace import host_scalar, host_static
from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.regions import phase

Group = dict[str, Any]
State = dict[str, Tensor]
Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Base of optimisers; `_names` says what state a group needs, `_update` changes one parameter."""

    def __init__(self, params: Parameters, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, State] = {}
        given: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise ArgumentError(f"{type(self).__name__}: there are no parameters to optimise")
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Optimise more parameters, with settings of their own: `{"params": [...], "lr": ...}`."""
        params = group["params"]
        made = {**self.defaults, **group, "params": [params] if isinstance(params, Tensor) else list(params)}
        self._check(made)
        held = {id(p) for other in self.param_groups for p in other["params"]}
        for p in made["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"{type(self).__name__}: a {type(p).__name__} is no parameter")
            if not p.is_leaf:
                raise ArgumentError(
                    f"{type(self).__name__}: a parameter of shape {list(p.shape)} is computed, "
                    "it is not a leaf"
                )
            if id(p) in held:
                raise ArgumentError(
                    f"{type(self).__name__}: a parameter of shape {list(p.shape)} is given twice"
                )
            held.add(id(p))
        self.param_groups.append(made)
        self._complete(made)

    def _check(self, group: Group) -> None:
        """Raise ArgumentError for settings that make no sense."""
        for name in ("lr", "weight_decay", "eps"):
            if group.get(name, 0) < 0:
                raise ArgumentError(
                    f"{type(self).__name__}: {name} is {group[name]}, it must not be negative"
                )

    def _names(self, group: Group) -> list[str]:
        """Names of the tensors, shaped as the parameter, that the group's settings need."""
        raise NotImplementedError

    def _counts(self, group: Group) -> bool:
        """Whether the update depends on the number of steps."""
        return False

    def _update(self, p: Tensor, g: Any, state: State, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """The new values of the parameter (`"p"`) and of its state, by name."""
        raise NotImplementedError

    def _hyper(self, group: Group) -> dict[str, Any]:
        """The settings that an update uses: numbers, or under tracing Tensors that are read at each call."""
        raise NotImplementedError

    def _complete(self, group: Group) -> None:
        """Make the state that the group's settings need and that is not there yet."""
        shared: Tensor | None = None
        counts, names = self._counts(group), self._names(group)
        for p in group["params"]:
            state = self.state.setdefault(p, {})
            if counts and "step" not in state:
                shared = tensor(np.zeros((), np.float64)) if shared is None else shared
                state["step"] = shared
            for name in names:
                if name not in state:
                    state[name] = tensor(np.zeros(p.shape, p.dtype.numpy))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; gives what `closure`, called first, gives."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad(), phase("update"):
            for group in self.param_groups:
                self._step(group)
        return loss

    def _step(self, group: Group) -> None:
        self._complete(group)
        params = [p for p in group["params"] if p.grad is not None]
        self._separate_steps(group, params)
        hyper, maximize = self._hyper(group), is_set(group, "maximize")
        extras: dict[int, Mapping[str, Any]] = {}
        for p in params:
            state = self.state[p]
            count = state.get("step")
            if id(count) not in extras:
                extras[id(count)] = {} if count is None else self._begin(count, group, hyper)
            g = -p.grad if maximize else p.grad
            results = self._update(p, g, state, {**hyper, **extras[id(count)]})
            for name, value in results.items():
                (p if name == "p" else state[name]).copy_(value)

    def _begin(self, step: Tensor, group: Group, hyper: Mapping[str, Any]) -> Mapping[str, Any]:
        """Count a step; what the updates need that depends on the count."""
        raise NotImplementedError

    def _separate_steps(self, group: Group, stepping: list[Tensor]) -> None:
        """Parameters share a step count; those that are left out of a step go on with a copy of it."""
        counts = {id(self.state[p].get("step")) for p in stepping}
        moving = {id(p) for p in stepping}
        for p in group["params"]:
            count = self.state[p].get("step")
            if count is not None and id(p) not in moving and id(count) in counts:
                self.state[p]["step"] = tensor(count.numpy().copy())

    # State as data

    def state_dict(self) -> dict[str, Any]:
        """State by the parameter's position, and the groups with positions in place of parameters."""
        order = [p for group in self.param_groups for p in group["params"]]
        positions = {id(p): k for k, p in enumerate(order)}
        groups = [
            {**group, "params": [positions[id(p)] for p in group["params"]]} for group in self.param_groups
        ]
        state = {k: {name: t.data for name, t in self.state[p].items()} for k, p in enumerate(order)}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over settings and state of `state_dict()`, this library's or PyTorch's.

        Raises:
            ArgumentError: the groups do not have as many parameters as this optimiser's.
            ShapeError: a state tensor is not shaped as its parameter.
        """
        theirs = state_dict["param_groups"]
        if [len(g["params"]) for g in theirs] != [len(g["params"]) for g in self.param_groups]:
            shown = " and ".join(
                f"groups of {', '.join(str(len(g['params'])) for g in groups)} parameters"
                for groups in (theirs, self.param_groups)
            )
            raise ArgumentError(f"{type(self).__name__}.load_state_dict: {shown} do not match")
        pairs = [
            (p, state_dict["state"].get(k, {}))
            for own, other in zip(self.param_groups, theirs, strict=True)
            for p, k in zip(own["params"], other["params"], strict=True)
        ]
        arrays = [(p, {n: as_array(v) for n, v in given.items() if v is not None}) for p, given in pairs]
        for p, given in arrays:
            for name, array in given.items():
                if name != "step" and array.shape != tuple(p.shape):
                    raise ShapeError(
                        f"{type(self).__name__}.load_state_dict: {name} is {list(array.shape)} but its "
                        f"parameter is {list(p.shape)}"
                    )
        for own, other in zip(self.param_groups, theirs, strict=True):
            own.update({name: value for name, value in other.items() if name != "params" and name in own})
            self._complete(own)
        counts: dict[float, Tensor] = {}
        for p, given in arrays:
            state = self.state[p]
            with no_grad():
                for name, held in state.items():
                    if name in given and name != "step":
                        held.copy_(tensor(given[name].astype(held.dtype.numpy)))
            if "step" in state:
                count = float(given.get("step", 1.0 if given else 0.0))
                state["step"] = counts.setdefault(count, tensor(np.array(count, np.float64)))


def read(group: Group, name: str) -> Any:
    """A setting of a group: a number, or under tracing a Tensor that is read from the group at each call."""
    return host_scalar(lambda: group[name])


def is_set(group: Group, name: str) -> bool:
    """Whether a setting is true or not zero; a compiled step is recorded anew when that changes."""
    return host_static(lambda: bool(group[name]))
