"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intaglio.array.optim.optimizer import Group, Optimizer, Parameters, State, is_set, read
from intaglio.array.tensor import Tensor
from intaglio.ops.compositions import optimizers
from intaglio.ops.registry import prim
from intaglio.shared.errors import ArgumentError


class SGD(Optimizer):
    """`v = momentum * v + (1 - dampening) * g; p = p - lr * v`; the first `v` is `g`, as in PyTorch.

    With `nesterov` the step is along `g + momentum * v`. `weight_decay * p` is added to `g` first.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        if group["momentum"] < 0:
            raise ArgumentError(f"SGD: momentum is {group['momentum']}, it must not be negative")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError(
                f"SGD: nesterov needs a momentum and no dampening, but they are "
                f"{group['momentum']} and {group['dampening']}"
            )

    def _names(self, group: Group) -> list[str]:
        return ["momentum_buffer"] if is_set(group, "momentum") else []

    def _counts(self, group: Group) -> bool:
        return is_set(group, "momentum") and is_set(group, "dampening")

    def _hyper(self, group: Group) -> dict[str, Any]:
        hyper: dict[str, Any] = {"lr": read(group, "lr"), "nesterov": is_set(group, "nesterov")}
        if is_set(group, "weight_decay"):
            hyper["weight_decay"] = read(group, "weight_decay")
        if is_set(group, "momentum"):
            hyper["momentum"] = read(group, "momentum")
        return hyper

    def _begin(self, step: Tensor, group: Group, hyper: Mapping[str, Any]) -> Mapping[str, Any]:
        intake = prim.where(prim.eq(step, 0.0), 1.0, 1 - read(group, "dampening"))
        step.copy_(step + 1)
        return {"intake": intake}

    def _update(self, p: Tensor, g: Any, state: State, hyper: Mapping[str, Any]) -> dict[str, Any]:
        value, velocity = optimizers.sgd(p, g, state.get("momentum_buffer"), **hyper)
        return {"p": value} if velocity is None else {"p": value, "momentum_buffer": velocity}
