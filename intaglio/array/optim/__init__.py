"""Optimisers and learning-rate schedules, with PyTorch's names, settings and updates."""

from intaglio.array.optim import lr_scheduler
from intaglio.array.optim.adam import Adam, AdamW
from intaglio.array.optim.clip import clip_grad_norm_, clip_grad_value_
from intaglio.array.optim.optimizer import Optimizer
from intaglio.array.optim.rmsprop import RMSprop
from intaglio.array.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
]
