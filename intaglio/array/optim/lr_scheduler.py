"""Learning-rate schedules, with PyTorch's names and values.

`step()` after each epoch (or batch) writes the new rate into the optimiser's groups. A compiled
training step reads it there at each call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from intaglio.array.optim.optimizer import Optimizer
from intaglio.shared.errors import ArgumentError

Group = dict[str, Any]


class LRScheduler:
    """Base: `next_rate(group, k)` says the rate of group `k` at `last_epoch`, from the rate it has now."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = -1
        self.step()

    def next_rate(self, group: Group, k: int) -> float:
        raise NotImplementedError

    def step(self) -> None:
        """Go to the next epoch and set its rates."""
        self.last_epoch += 1
        for k, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self.next_rate(group, k)

    def get_last_lr(self) -> list[float]:
        """The rates that are set now, one per group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All of the schedule's state but the optimiser and functions."""
        return {k: v for k, v in vars(self).items() if k != "optimizer" and not _has_functions(v)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


def _has_functions(value: Any) -> bool:
    return callable(value) or (isinstance(value, list) and any(map(callable, value)))


class LambdaLR(LRScheduler):
    """The initial rate times a function of the epoch (or one function per group)."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ArgumentError(f"LambdaLR: {len(self.lr_lambdas)} functions for {groups} groups")
        super().__init__(optimizer)

    def next_rate(self, group: Group, k: int) -> float:
        return self.base_lrs[k] * self.lr_lambdas[k](self.last_epoch)


class StepLR(LRScheduler):
    """Times `gamma` every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def next_rate(self, group: Group, k: int) -> float:
        turns = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        rate: float = group["lr"]
        return rate * self.gamma if turns else rate


class MultiStepLR(LRScheduler):
    """Times `gamma` at each of the milestones."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer)

    def next_rate(self, group: Group, k: int) -> float:
        rate: float = group["lr"]
        return rate * self.gamma ** self.milestones.count(self.last_epoch)


class ExponentialLR(LRScheduler):
    """Times `gamma` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def next_rate(self, group: Group, k: int) -> float:
        rate: float = group["lr"]
        return rate * self.gamma if self.last_epoch > 0 else rate


class LinearLR(LRScheduler):
    """From `start_factor` to `end_factor` of the initial rate, linearly over `total_iters` epochs."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ArgumentError(f"LinearLR: factors {start_factor} and {end_factor} are not between 0 and 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def next_rate(self, group: Group, k: int) -> float:
        rate: float = group["lr"]
        if self.last_epoch == 0:
            return rate * self.start_factor
        if self.last_epoch > self.total_iters:
            return rate
        rise = self.end_factor - self.start_factor
        return rate * (1 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))


class CosineAnnealingLR(LRScheduler):
    """From the initial rate to `eta_min` along half a cosine of `T_max` epochs, and back."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def next_rate(self, group: Group, k: int) -> float:
        rate: float = group["lr"]
        if self.last_epoch == 0:
            return rate
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            return rate + (self.base_lrs[k] - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        falls = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        fell = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        return falls / fell * (rate - self.eta_min) + self.eta_min


class OneCycleLR(LRScheduler):
    """Up to `max_lr` and down again over `total_steps` batches; momentum goes the other way."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError(
                    "OneCycleLR: neither total_steps nor epochs and steps_per_epoch are given"
                )
            total_steps = epochs * steps_per_epoch
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"OneCycleLR: anneal_strategy {anneal_strategy!r} is neither 'cos' nor 'linear'"
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        groups = optimizer.param_groups
        peaks = [max_lr] * len(groups) if isinstance(max_lr, (int, float)) else list(max_lr)
        if len(peaks) != len(groups):
            raise ArgumentError(f"OneCycleLR: {len(peaks)} values of max_lr for {len(groups)} groups")
        rise = float(pct_start * total_steps) - 1
        low, high = ("initial_lr", "max_lr"), ("base_momentum", "max_momentum")
        self.phases: list[tuple[float, str, str, str, str]]
        if three_phase:
            self.phases = [
                (rise, low[0], low[1], high[1], high[0]),
                (2 * pct_start * total_steps - 2, low[1], low[0], high[0], high[1]),
                (total_steps - 1, low[0], "min_lr", high[1], high[1]),
            ]
        else:
            self.phases = [
                (rise, low[0], low[1], high[1], high[0]),
                (total_steps - 1, low[1], "min_lr", high[0], high[1]),
            ]
        for group, peak in zip(groups, peaks, strict=True):
            start = peak / div_factor
            group.update(initial_lr=start, max_lr=peak, min_lr=start / final_div_factor)
            if cycle_momentum:
                group.update(base_momentum=base_momentum, max_momentum=max_momentum)
        super().__init__(optimizer)

    def next_rate(self, group: Group, k: int) -> float:
        if self.last_epoch > self.total_steps:
            raise ArgumentError(f"OneCycleLR: step {self.last_epoch} of {self.total_steps}")
        start = 0.0
        for phase in self.phases:
            end, from_rate, to_rate, from_momentum, to_momentum = phase
            if self.last_epoch <= end or phase is self.phases[-1]:
                done = (self.last_epoch - start) / (end - start)
                if self.cycle_momentum:
                    self._set_momentum(group, self._between(group[from_momentum], group[to_momentum], done))
                return self._between(group[from_rate], group[to_rate], done)
            start = end
        raise AssertionError("the last phase has no end")

    def _between(self, start: float, end: float, done: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * done + start
        return end + (start - end) / 2 * (1 + math.cos(math.pi * done))

    def _set_momentum(self, group: Group, momentum: float) -> None:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        elif "momentum" in group:
            group["momentum"] = momentum
        else:
            raise ArgumentError(
                f"OneCycleLR: {type(self.optimizer).__name__} has no momentum to cycle",
                hint="cycle_momentum=False",
            )


class ReduceLROnPlateau:
    """Times `factor` when a metric has not improved for more than `patience` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise ArgumentError(f"ReduceLROnPlateau: factor is {factor}, it must be below 1")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                f"ReduceLROnPlateau: mode {mode!r} or threshold_mode {threshold_mode!r} is unknown"
            )
        groups = len(optimizer.param_groups)
        self.optimizer = optimizer
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.min_lrs = [min_lr] * groups if isinstance(min_lr, (int, float)) else list(min_lr)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Take the metric of an epoch into account."""
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                rate = max(group["lr"] * self.factor, least)
                if group["lr"] - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _is_better(self, current: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "abs":
            return sign * current < sign * self.best - self.threshold
        return sign * current < sign * self.best * (1 - sign * self.threshold)

    def get_last_lr(self) -> list[float]:
        """The rates that are set now, one per group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All of the schedule's state but the optimiser."""
        return {k: v for k, v in vars(self).items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


__all__ = [
    "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "OneCycleLR",
    "ReduceLROnPlateau", "StepLR",
]  # fmt: skip
