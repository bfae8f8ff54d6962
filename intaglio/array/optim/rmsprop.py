"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intaglio.array.optim.optimizer import Group, Optimizer, Parameters, State, is_set, read
from intaglio.array.tensor import Tensor
from intaglio.ops.compositions import optimizers
from intaglio.shared.errors import ArgumentError


class RMSprop(Optimizer):
    """Steps along `g / (sqrt(mean of g^2) + eps)`, the means decaying with `alpha`; optionally centred."""

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        for name in ("alpha", "momentum"):
            if group[name] < 0:
                raise ArgumentError(f"RMSprop: {name} is {group[name]}, it must not be negative")

    def _names(self, group: Group) -> list[str]:
        return [
            "square_avg",
            *(["grad_avg"] if is_set(group, "centered") else []),
            *(["momentum_buffer"] if is_set(group, "momentum") else []),
        ]

    def _hyper(self, group: Group) -> dict[str, Any]:
        hyper = {name: read(group, name) for name in ("lr", "alpha", "eps")}
        for name in ("weight_decay", "momentum"):
            if is_set(group, name):
                hyper[name] = read(group, name)
        return hyper

    def _update(self, p: Tensor, g: Any, state: State, hyper: Mapping[str, Any]) -> dict[str, Any]:
        names = ("p", "square_avg", "grad_avg", "momentum_buffer")
        results = optimizers.rmsprop(p, g, *(state.get(name) for name in names[1:]), **hyper)
        return {name: value for name, value in zip(names, results, strict=True) if value is not None}
