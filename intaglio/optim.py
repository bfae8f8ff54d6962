"""Optimisers, learning-rate schedules and gradient clipping."""

from intaglio.array.optim import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    clip_grad_norm_,
    clip_grad_value_,
    lr_scheduler,
)  # fmt: skip

__all__ = [
    "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm_", "clip_grad_value_", "lr_scheduler",
]  # fmt: skip
