"""Voice activity detectors: Silero in all its files, PulseVAD in floats and in 8 bits, on sound."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from fetch import fetched
from real import assert_close, check, compiled, read

from intaglio.readers.onnx import load
from intaglio.verify import runtime

RATE = 16000


def sound(samples: int) -> np.ndarray[Any, Any]:
    """A sung vowel that comes and goes: harmonics of a gliding tone with three formants, over noise."""
    time = np.arange(samples) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 15 * np.sin(2 * np.pi * 3 * time)) / RATE
    wave = np.zeros(samples)
    for k in range(1, 40):
        loudness = sum(
            np.exp(-(((120 * k - f) / width) ** 2)) for f, width in ((700, 130), (1200, 150), (2600, 200))
        )
        wave += loudness * np.sin(k * phase)
    gate = np.sin(2 * np.pi * 2 * time) > 0
    noise = np.random.default_rng(5).standard_normal(samples)
    return (0.1 * wave * gate + 0.002 * noise).astype(np.float32)


def silero(name: str) -> Path:
    (path,) = fetched("silero-vad").rglob(f"{name}.onnx")
    return path


def frame(start: int, samples: int = 576) -> np.ndarray[Any, Any]:
    return sound(2 * RATE)[None, start : start + samples]


@pytest.mark.parametrize("name", ["silero_vad_16k_op15", "silero_vad_op18_ifless", "silero_vad_openvino_16k"])
def test_silero(name: str) -> None:
    """A stream of frames, each with the state that the one before left."""
    model = read(silero(name))
    inputs = [info.name for info in model.graph.input]
    state = np.zeros((2, 1, 128), np.float32)
    feeds = {"input": frame(4000), "state": state, "sr": np.asarray(RATE)}
    program, _ = check(model, {k: feeds[k] for k in inputs}, compiled_levels=(3, 2, 1, 0))
    probabilities = []
    ours = theirs = state
    for start in range(0, 8000, 512):
        feeds = {"input": frame(start), "state": ours, "sr": np.asarray(RATE)}
        got, ours = program.run_arrays([feeds[v] for v in program.input_names])
        want, theirs = runtime(model, {k: (feeds | {"state": theirs})[k] for k in inputs})
        assert_close([got, ours], [want, theirs], 1e-4, f"frame at {start}")
        probabilities.append(float(got[0, 0]))
    assert max(probabilities) > min(probabilities)


@pytest.mark.parametrize("rate", [16000, 8000])
def test_silero_with_its_branches(rate: int) -> None:
    """The full file decides by the sampling rate, and again by the ranks of what it computes."""
    samples = 576 if rate == 16000 else 288
    feeds = {
        "input": frame(4000, samples),
        "state": np.full((2, 1, 128), 0.1, np.float32),
        "sr": np.asarray(rate),
    }
    shapes = {k: v.shape for k, v in feeds.items()}
    check(silero("silero_vad"), feeds, shapes=shapes, values={"sr": np.asarray(rate)})


def test_silero_over_a_sequence() -> None:
    feeds = {
        "input": np.concatenate([frame(start) for start in range(0, 4096, 512)]),
        "h": np.zeros((1, 1, 128), np.float32),
        "c": np.zeros((1, 1, 128), np.float32),
    }
    check(silero("silero_vad_16k_sequence"), feeds)


def frontend(directory: Path) -> Any:
    """PulseVAD's own features of a waveform, in plain NumPy."""
    (path,) = directory.rglob("frontend_np.py")
    spec = importlib.util.spec_from_file_location("pulsevad_frontend", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["pulsevad_2.1k", "pulsevad_2.1k_int8", "pulsevad_teacher_81k"])
def test_pulsevad(name: str) -> None:
    directory = fetched("pulsevad")
    windows = np.stack([sound(2 * RATE)[start : start + 3200] for start in (0, 3000, 9000)])
    feeds = {"log_mel": frontend(directory).extract_log_mel_np(windows)}
    (path,) = directory.rglob(f"{name}.onnx")
    levels = (3, 0) if name == "pulsevad_2.1k" else (3,)
    check(path, feeds, compiled_levels=levels)
    program = compiled(load(path, bounds={"batch": 3}), 1)
    for count in (1, 3):
        part = {key: array[:count] for key, array in feeds.items()}
        assert_close(
            program.run_arrays(list(part.values())), runtime(read(path), part), 2e-5, f"{name}, {count}"
        )
