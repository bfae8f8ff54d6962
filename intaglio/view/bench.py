"""A model beside other runtimes: one process each, in turns, after their results were compared."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.loading import example_inputs, load_object
from intaglio.shared.errors import ArgumentError
from intaglio.view import race
from intaglio.view.compare import errors
from intaglio.view.peer import MODULES, OF_ONNX, RUNTIMES, torch_module

OURS = "intaglio"
TOLERANCE = 1e-3
"""The largest error of a runtime's results, relative to the largest element, that is still the same model."""


@dataclass(frozen=True)
class Comparison:
    """Samples of all runtimes at a number of threads; the first of them is Intaglio."""

    threads: int
    peers: list[race.Peer]
    speeds: list[float]

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"threads": self.threads, **race.record(self.peers, self.speeds)}


def bench(
    model: str,
    arrays: Sequence[np.ndarray[Any, Any]],
    *,
    against: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    rounds: int = 10,
    settings: dict[str, Any] | None = None,
) -> list[Comparison]:
    """Time a model, and the same model in other runtimes.

    Every runtime first computes results from `arrays`; one whose results differ from Intaglio's is not timed.
    A runtime that is not installed, or cannot run the model, says so in its `failure`.

    Args:
        model: as on the command line.
        against: names of `RUNTIMES`.
        settings: of `compile_graph`, for Intaglio.

    Raises:
        ArgumentError: a runtime is not known, or Intaglio itself fails.
    """
    unknown = [name for name in against if name not in RUNTIMES]
    if unknown:
        raise ArgumentError(f"bench: unknown runtime {unknown[0]!r}", hint=f"one of {', '.join(RUNTIMES)}")
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, *arrays)
        exported = _onnx_file(model, arrays, Path(folder)) if set(against) & {*OF_ONNX} else None
        return [
            _compare(model, exported, inputs, against, count, rounds, settings or {}) for count in threads
        ]


def _compare(
    model: str,
    exported: str | None,
    inputs: Path,
    against: Sequence[str],
    threads: int,
    rounds: int,
    settings: dict[str, Any],
) -> Comparison:
    peers: list[race.Peer] = []
    missing: list[race.Peer] = []
    for name in dict.fromkeys((OURS, *against)):
        path = exported if name in OF_ONNX else model
        results = inputs.with_name(f"{name}.npz")
        command = [sys.executable, "-m", "intaglio.view.peer", name, path or "", str(inputs), str(results)]
        command += [str(threads), json.dumps(settings)]
        peer = race.Peer(name, command, threads)
        peer.failure = _missing(name, path)
        (missing if peer.failure else peers).append(peer)

    def accept(peer: race.Peer) -> str:
        return "" if peer.name == OURS else _differs(inputs.with_name(OURS), inputs.with_name(peer.name))

    speeds = race.compare(peers, rounds, accept=accept)
    if peers[0].failure:
        raise ArgumentError(f"bench: {model} does not run: {peers[0].failure}")
    return Comparison(threads, [*peers, *missing], speeds)


def _missing(name: str, path: str | None) -> str:
    """Why a runtime cannot be asked; nothing when it can."""
    module, package = MODULES.get(name, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        return f"not installed: pip install {package}"
    if path is None:
        return "it runs ONNX files, and this model is neither one nor a PyTorch module"
    return ""


def _differs(ours: Path, theirs: Path) -> str:
    """Why results are not the same; nothing when they are."""
    with np.load(ours.with_suffix(".npz")) as a, np.load(theirs.with_suffix(".npz")) as b:
        if len(a.files) != len(b.files):
            return f"it gives {len(b.files)} results, Intaglio {len(a.files)}"
        for name in a.files:
            if a[name].shape != b[name].shape:
                return f"its result has shape {list(b[name].shape)}, Intaglio's {list(a[name].shape)}"
            _, relative = errors(a[name], b[name])
            if relative > TOLERANCE:
                return f"its results differ by {relative:.1e} of the largest element"
    return ""


def _onnx_file(model: str, arrays: Sequence[np.ndarray[Any, Any]], folder: Path) -> str | None:
    """The model as an ONNX file: itself, or a PyTorch module exported; None for anything else."""
    if Path(model).suffix == ".onnx":
        return model
    if Path(model).suffix == ".intaglio":
        return None
    module = torch_module(load_object(model))
    if module is None:
        return None
    import torch

    path = folder / "model.onnx"
    given = example_inputs(model)
    examples = tuple(torch.from_numpy(a) for a in arrays) if given is None else tuple(given)
    torch.onnx.export(module, examples, str(path), dynamo=True, verbose=False)
    return str(path)
