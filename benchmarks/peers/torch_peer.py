"""One way to run a PyTorch model, as a peer: `torch_peer.py PEER WORK THREADS RESULTS [once]`.

The first results, and the seconds from the module to them, are written to RESULTS, an .npz file. With `once`
the process ends then.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_models

import intaglio
from intaglio.view.peer import RUNTIMES

sys.path.insert(0, str(Path(__file__).parent.parent))
from harness import serve

BACKENDS = {"inductor": "inductor", "backend": "intaglio", "frozen": "intaglio"}
FIRST_STEPS = 4
"""Training steps whose losses are compared."""

Run = Callable[[], Any]
Setup = Callable[[], Run]


def inference(peer: str, name: str, threads: int) -> Setup:
    """What makes a model ready, and gives what runs it. The export to ONNX is done already."""
    model, x = torch_models.inference(name)
    if peer in ("onnxruntime", "openvino"):
        folder = tempfile.mkdtemp()
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(model, (x,), path, dynamo=True, verbose=False)

        def of_onnx() -> Run:
            work = RUNTIMES[peer](path, [x.numpy()], threads, {})
            return lambda: work()[0]

        return of_onnx

    def ours() -> Run:
        compiled = intaglio.compile(model, [x], threads=threads)
        array = x.numpy()
        return lambda: compiled(array)

    return ours if peer == "intaglio" else lambda: _in_torch(peer, model, x)


def _in_torch(peer: str, model: torch.nn.Module, x: torch.Tensor) -> Run:
    if peer == "inductor":
        import torch._inductor.config as settings

        settings.freezing = True
    options = {"freeze": True} if peer == "frozen" else None
    forward = torch.compile(model, backend=BACKENDS[peer], options=options) if peer in BACKENDS else model

    def run() -> Any:
        with torch.no_grad():
            return forward(x).numpy()

    return run


def training(peer: str, name: str, threads: int) -> Setup:
    """What makes a training step ready, and gives what runs it and returns the loss."""
    model, optimizer, (x, y) = torch_models.training(name)

    def ours() -> Run:
        step = intaglio.compile_training(model, torch_models.loss, optimizer, (x, y), threads=threads)
        return lambda: step(x, y)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch_models.loss(model(x), y)

    def theirs() -> Run:
        forward = torch.compile(loss_of, backend=BACKENDS[peer]) if peer in BACKENDS else loss_of

        def run() -> float:
            optimizer.zero_grad()
            value = forward(x, y)
            value.backward()
            optimizer.step()
            return value.item()

        return run

    return ours if peer == "intaglio" else theirs


def main() -> None:
    peer, name, threads, results, *once = sys.argv[1:]
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(threads))
    trains = name in torch_models.TRAINING
    setup = (training if trains else inference)(peer, name, int(threads))
    started = time.perf_counter()
    run = setup()
    found = run()
    seconds = time.perf_counter() - started
    if trains:
        found = np.array([found, *(run() for _ in range(FIRST_STEPS - 1))])
    np.savez(results, found=found, seconds=seconds)
    if not once:
        serve(run)


main()
