"""The networks inside the onnx package: real architectures whose weights are constants made by operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

from real import assert_close, check

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
         "squeezenet", "vgg19", "zfnet512")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_light_model(name: str) -> None:
    model = onnx.load(str(LIGHT / f"light_{name}.onnx"))
    weights = {tensor.name for tensor in model.graph.initializer}
    (info,) = (info for info in model.graph.input if info.name not in weights)
    shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
    image = np.random.default_rng(0).random(shape, np.float32)
    _, results = check(model, {info.name: image})
    assert_close(results, results, 0.0, name)
