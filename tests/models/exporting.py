"""PyTorch modules as ONNX models."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import onnx
import torch


def exported(
    model: torch.nn.Module,
    example: torch.Tensor,
    *,
    opset: int = 17,
    unfolded: bool = False,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> onnx.ModelProto:
    """The model as the exporter of traces writes it.

    Args:
        unfolded: keep batch norms and constant chains as they are.
        dynamic: names of axes that may differ between calls, of the input `x` and the output `y`.
    """
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=dict(dynamic or {}),
            do_constant_folding=not unfolded,
            training=torch.onnx.TrainingMode.PRESERVE if unfolded else torch.onnx.TrainingMode.EVAL,
        )
    proto: Any = onnx.load_from_string(file.getvalue())
    return proto
