"""TfIdfVectorizer over numbers: how often each n-gram of a pool occurs."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops.compositions import basic, indexing
from intaglio.ops.registry import prim
from intaglio.readers.onnx.registry import Array, OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, FileFormatError, UnsupportedError

MODES = ("TF", "IDF", "TFIDF")


@onnx_op("TfIdfVectorizer", 9)
def tf_idf_vectorizer(call: OnnxCall, x: Operand) -> Any:
    pool, starts = call.attr("pool_int64s"), call.required("ngram_counts")
    places = np.asarray(call.required("ngram_indexes"), np.int64)
    mode, weights = call.required("mode"), call.attr("weights")
    if pool is None:
        raise UnsupportedError(
            "TfIdfVectorizer works on text here, and a compiled program holds numbers only",
            hint="number the words before the model",
        )
    if mode not in MODES or not len(places) or places.min() < 0:
        raise ArgumentError(f"TfIdfVectorizer: mode {mode!r} with {len(places)} n-grams")
    if weights is not None and mode != "TF" and list(places) != list(range(len(places))):
        raise UnsupportedError("TfIdfVectorizer: weights of n-grams whose results are in another order")
    lengths = range(call.required("min_gram_length"), call.required("max_gram_length") + 1)
    numbers = basic.convert(call.importer.as_value(x), dtypes.i64)
    counts, used, before = [], [], 0
    pools = _by_length(pool, starts)
    if sum(map(len, pools)) != len(places):
        raise FileFormatError(f"TfIdfVectorizer: {sum(map(len, pools))} n-grams but {len(places)} indices")
    for length, grams in enumerate(pools, 1):
        number, before = np.arange(before, before + len(grams)), before + len(grams)
        if length in lengths and len(grams):
            counts.append(_occurrences(numbers, grams, call.required("max_skip_count") if length > 1 else 0))
            used.append(places[number])
    target = np.zeros((sum(map(len, used)), int(places.max()) + 1), np.float32)
    target[np.arange(len(target)), np.concatenate([*used, np.zeros(0, np.int64)])] = 1
    if not counts:
        return np.zeros((*x.shape[:-1], target.shape[1]), np.float32)
    found = basic.convert(indexing.concat(counts, -1), dtypes.f32)
    result = prim.dot(found, target, spec="g,go->o" if len(x.shape) == 1 else "ng,go->no")
    if mode == "IDF":
        result = basic.convert(prim.lt(0.0, result), dtypes.f32)
    return result if mode == "TF" or weights is None else result * np.asarray(weights, np.float32)


def _by_length(pool: list[int], starts: list[int]) -> list[Array]:
    """The n-grams of each length, one per row."""
    made = []
    for length, (start, stop) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        if not 0 <= start <= stop <= len(pool) or (stop - start) % length:
            raise FileFormatError(f"TfIdfVectorizer: n-grams of {length} from {start} to {stop}")
        made.append(np.asarray(pool[start:stop], np.int64).reshape(-1, length))
    return made


def _occurrences(x: Any, grams: Array, skips: int) -> Any:
    """How often each n-gram occurs along the last axis, with up to so many others between two numbers."""
    total: Any = None
    extent = basic.static(x.shape[-1], "TfIdfVectorizer")
    farthest = (extent - 1) // max(grams.shape[1] - 1, 1)
    for step in range(1, min(skips + 1, farthest) + 1):
        count = extent - (grams.shape[1] - 1) * step
        match: Any = None
        for k in range(grams.shape[1]):
            column = basic.unsqueeze(indexing.slice_axis(x, -1, k * step, k * step + count), -1)
            same = prim.eq(column, grams[:, k])
            match = same if match is None else prim.and_(match, same)
        here = prim.sum(basic.convert(match, dtypes.i64), axes=(len(match.shape) - 2,))
        total = here if total is None else total + here
    if total is None:
        return prim.broadcast(x.graph.constant(np.asarray(0)), shape=(*x.shape[:-1], len(grams)))
    return total
