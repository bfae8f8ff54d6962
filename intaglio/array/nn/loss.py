"""Losses as modules; each is the function of its name in `functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from intaglio.array import functional as F
from intaglio.array.nn.module import Module
from intaglio.array.tensor import Tensor


class _Loss(Module):
    """A loss with settings; those that are Tensors (`weight`, `pos_weight`) become buffers."""

    function: Callable[..., Any]
    settings: dict[str, Any]

    def __init__(self, weight: Any = None, **kwargs: Any) -> None:
        super().__init__()
        kwargs |= {} if weight is None else {"weight": weight}
        unknown = set(kwargs) - set(self.settings)
        if unknown:
            raise TypeError(f"{self._get_name()} takes {', '.join(self.settings)}, not {', '.join(unknown)}")
        for name, default in self.settings.items():
            value = kwargs.get(name, default)
            if name.endswith("weight"):
                self.register_buffer(
                    name, value if value is None or isinstance(value, Tensor) else F.lift(value)
                )
            else:
                setattr(self, name, value)

    def forward(self, *operands: Any) -> Any:
        return type(self).function(*operands, **{name: getattr(self, name) for name in self.settings})


def _loss(name: str, function: Callable[..., Any], **settings: Any) -> Any:
    doc = f"`functional.{function.__name__}` as a module."
    return type(
        name,
        (_Loss,),
        {
            "function": staticmethod(function),
            "settings": settings | {"reduction": "mean"},
            "__doc__": doc,
            "__module__": __name__,
        },
    )


MSELoss = _loss("MSELoss", F.mse_loss)
L1Loss = _loss("L1Loss", F.l1_loss)
SmoothL1Loss = _loss("SmoothL1Loss", F.smooth_l1_loss, beta=1.0)
HuberLoss = _loss("HuberLoss", F.huber_loss, delta=1.0)
CrossEntropyLoss = _loss(
    "CrossEntropyLoss", F.cross_entropy, weight=None, ignore_index=-100, label_smoothing=0.0
)
NLLLoss = _loss("NLLLoss", F.nll_loss, weight=None, ignore_index=-100)
BCELoss = _loss("BCELoss", F.binary_cross_entropy, weight=None)
BCEWithLogitsLoss = _loss(
    "BCEWithLogitsLoss", F.binary_cross_entropy_with_logits, weight=None, pos_weight=None
)
KLDivLoss = _loss("KLDivLoss", F.kl_div, log_target=False)
SoftMarginLoss = _loss("SoftMarginLoss", F.soft_margin_loss)
HingeEmbeddingLoss = _loss("HingeEmbeddingLoss", F.hinge_embedding_loss, margin=1.0)
MarginRankingLoss = _loss("MarginRankingLoss", F.margin_ranking_loss, margin=0.0)
CosineEmbeddingLoss = _loss("CosineEmbeddingLoss", F.cosine_embedding_loss, margin=0.0)
TripletMarginLoss = _loss("TripletMarginLoss", F.triplet_margin_loss, margin=1.0, p=2.0, eps=1e-6)
GaussianNLLLoss = _loss("GaussianNLLLoss", F.gaussian_nll_loss, full=False, eps=1e-6)
PoissonNLLLoss = _loss("PoissonNLLLoss", F.poisson_nll_loss, log_input=True, full=False, eps=1e-8)
