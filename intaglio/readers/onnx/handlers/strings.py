"""Operators on text: a compiled program holds numbers only, so they are refused by name."""

from __future__ import annotations

from functools import partial
from typing import Any

from intaglio.readers.onnx.registry import OnnxCall, onnx_op
from intaglio.shared.errors import UnsupportedError

TEXT_OPERATORS = ("StringConcat", "StringSplit", "StringNormalizer", "RegexFullMatch")


def _refuse(name: str, call: OnnxCall, *_: Any) -> Any:
    raise UnsupportedError(
        f"{name} works on text, and a compiled program holds numbers only",
        hint="prepare the text before the model, and give the model its numbers",
    )


for _name in TEXT_OPERATORS:
    onnx_op(_name)(partial(_refuse, _name))
