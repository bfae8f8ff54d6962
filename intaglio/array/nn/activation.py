"""Activations as modules; each is the function of its name in `functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from intaglio.array import functional as F
from intaglio.array.nn.module import Module, Parameter
from intaglio.shared import dtypes


class _Activation(Module):
    """A function with settings: `settings` names them, in order, with their defaults."""

    function: Callable[..., Any]
    settings: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        names = list(self.settings)
        given = dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or set(given) - set(names) - {"inplace"}:
            raise TypeError(f"{self._get_name()} takes {', '.join(names) or 'no settings'}")
        for name in names:
            setattr(self, name, given.get(name, self.settings[name]))

    def forward(self, x: Any) -> Any:
        return type(self).function(x, **{name: getattr(self, name) for name in self.settings})

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)


def _activation(name: str, function: Callable[..., Any], **settings: Any) -> Any:
    doc = f"`functional.{function.__name__}` as a module."
    return type(
        name,
        (_Activation,),
        {"function": staticmethod(function), "settings": settings, "__doc__": doc, "__module__": __name__},
    )


ReLU = _activation("ReLU", F.relu)
ReLU6 = _activation("ReLU6", F.relu6)
LeakyReLU = _activation("LeakyReLU", F.leaky_relu, negative_slope=0.01)
ELU = _activation("ELU", F.elu, alpha=1.0)
CELU = _activation("CELU", F.celu, alpha=1.0)
SELU = _activation("SELU", F.selu)
GELU = _activation("GELU", F.gelu, approximate="none")
SiLU = _activation("SiLU", F.silu)
Mish = _activation("Mish", F.mish)
Sigmoid = _activation("Sigmoid", F.sigmoid)
LogSigmoid = _activation("LogSigmoid", F.logsigmoid)
Tanh = _activation("Tanh", F.tanh)
Tanhshrink = _activation("Tanhshrink", F.tanhshrink)
Hardtanh = _activation("Hardtanh", F.hardtanh, min_val=-1.0, max_val=1.0)
Hardsigmoid = _activation("Hardsigmoid", F.hardsigmoid)
Hardswish = _activation("Hardswish", F.hardswish)
Hardshrink = _activation("Hardshrink", F.hardshrink, lambd=0.5)
Softshrink = _activation("Softshrink", F.softshrink, lambd=0.5)
Softplus = _activation("Softplus", F.softplus, beta=1.0, threshold=20.0)
Softsign = _activation("Softsign", F.softsign)
Threshold = _activation("Threshold", F.threshold, threshold=0.0, value=0.0)
GLU = _activation("GLU", F.glu, dim=-1)
Softmax = _activation("Softmax", F.softmax, dim=None)
Softmin = _activation("Softmin", F.softmin, dim=None)
LogSoftmax = _activation("LogSoftmax", F.log_softmax, dim=None)


class PReLU(Module):
    """`x` where positive, `weight * x` elsewhere; one learned slope, or one per channel (axis 1)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = "f32") -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(np.full(num_parameters, init, dtypes.parse(dtype).numpy))

    def forward(self, x: Any) -> Any:
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
