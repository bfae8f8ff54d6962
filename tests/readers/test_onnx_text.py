"""Text is refused by name; n-grams of numbers are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from intaglio.readers.onnx import load
from intaglio.shared.errors import FileFormatError, UnsupportedError
from tests.readers.onnx_models import check, model, node

WORDS = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int64)
POOL = {
    "pool_int64s": [3, 7, 5, 5, 6, 7, 8, 6, 7],
    "ngram_counts": [0, 3],
    "ngram_indexes": [0, 1, 2, 3, 4, 5],
}


def vectorizer(**attributes: Any) -> Any:
    given = {
        "min_gram_length": 1,
        "max_gram_length": 2,
        "max_skip_count": 1,
        "mode": "TF",
        **POOL,
        **attributes,
    }
    return node("TfIdfVectorizer", "x", **given)


@pytest.mark.parametrize(
    ("mode", "x"), [("TF", WORDS), ("IDF", WORDS[1].astype(np.int32)), ("TFIDF", WORDS), ("TF", WORDS[:, :1])]
)
def test_n_grams(mode: str, x: Any) -> None:
    weights = [0.5, 2.0, 1.0, 3.0, 1.5, 4.0] if mode != "TF" else None
    check(model([vectorizer(mode=mode, **({"weights": weights} if weights else {}))], {"x": x}), {"x": x})


@pytest.mark.parametrize(
    ("attributes", "error", "says"),
    [
        ({"ngram_counts": [0, 4]}, FileFormatError, "n-grams of 2 from 4 to 9"),
        ({"ngram_indexes": [0, 1]}, FileFormatError, "6 n-grams but 2 indices"),
        (
            {"mode": "IDF", "weights": [1.0] * 6, "ngram_indexes": [5, 4, 3, 2, 1, 0]},
            UnsupportedError,
            "order",
        ),
        ({"pool_int64s": None, "pool_strings": ["a", "b"]}, UnsupportedError, "works on text"),
    ],
)
def test_n_grams_refused(attributes: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        load(model([vectorizer(**attributes)], {"x": WORDS}))


@pytest.mark.parametrize(
    "name", ["StringConcat", "StringSplit", "StringNormalizer", "RegexFullMatch", "Equal"]
)
def test_text_is_refused(name: str) -> None:
    """As input, as a fixed value and as a weight."""
    inputs = ["x", "w"] if name in ("StringConcat", "Equal") else ["x"]
    call = node(name, *inputs)
    proto = model([call], {}, {"w": np.array(["a", "b"], object)}, opset=21)
    proto.graph.input.append(helper.make_tensor_value_info("x", TensorProto.STRING, [2]))
    with pytest.raises(UnsupportedError, match=r"(?i)string|text"):
        load(proto)
    with pytest.raises(UnsupportedError, match="numbers only"):
        load(proto, values={"x": np.array(["a", "c"])})
