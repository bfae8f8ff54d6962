"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intaglio.array.optim.optimizer import Group, Optimizer, Parameters, State, is_set, read
from intaglio.array.tensor import Tensor
from intaglio.array.trace import host_scalar
from intaglio.ops.compositions import optimizers
from intaglio.shared.errors import ArgumentError


class Adam(Optimizer):
    """Steps along the mean of `g` over the root of the mean of `g^2`, both corrected for their zero start.

    `weight_decay * p` is added to `g`; AdamW shrinks `p` by `lr * weight_decay` instead. With `amsgrad`
    the largest mean square so far takes the place of the present one.
    """

    decoupled = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise ArgumentError(
                f"{type(self).__name__}: betas are {group['betas']}, they must be at least 0 and below 1"
            )

    def _names(self, group: Group) -> list[str]:
        return ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if is_set(group, "amsgrad") else [])]

    def _counts(self, group: Group) -> bool:
        return True

    def _hyper(self, group: Group) -> dict[str, Any]:
        hyper: dict[str, Any] = {name: read(group, name) for name in ("lr", "eps")}
        hyper |= {
            "beta1": host_scalar(lambda: group["betas"][0]),
            "beta2": host_scalar(lambda: group["betas"][1]),
        }
        if is_set(group, "weight_decay"):
            hyper["weight_decay"] = read(group, "weight_decay")
        return hyper | {"decoupled": self.decoupled}

    def _begin(self, step: Tensor, group: Group, hyper: Mapping[str, Any]) -> Mapping[str, Any]:
        step.copy_(step + 1)
        return {"corrections": optimizers.adam_corrections(step, hyper["beta1"], hyper["beta2"])}

    def _update(self, p: Tensor, g: Any, state: State, hyper: Mapping[str, Any]) -> dict[str, Any]:
        names = ("p", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        results = optimizers.adam(p, g, *(state.get(name) for name in names[1:]), **hyper)
        return {name: value for name, value in zip(names, results, strict=True) if value is not None}


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
