"""Operators on text and maps: a compiled program holds numbers only, so they are refused by name."""

from __future__ import annotations

from intaglio.readers.onnx.registry import refuse_op

ML = "ai.onnx.ml"

for _name in ("StringConcat", "StringSplit", "StringNormalizer", "RegexFullMatch"):
    refuse_op(
        _name,
        "it works on text, and a compiled program holds numbers only",
        "prepare the text before the model, and give the model its numbers",
    )
for _name in ("CategoryMapper", "LabelEncoder"):
    refuse_op(_name, "labels of text are not supported", "encode text outside of the model", ML)
for _name in ("ZipMap", "CastMap", "DictVectorizer"):
    refuse_op(
        _name,
        "maps are not supported",
        "export with options={'zipmap': False}, so that probabilities stay a tensor",
        ML,
    )
refuse_op(
    "ImageDecoder",
    "files of pictures are not decoded",
    "decode the picture before the model, and give the model its pixels",
)
