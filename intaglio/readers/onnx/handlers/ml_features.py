"""Preparation of features (`ai.onnx.ml`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import convert, dtype_of, expand, rank_of, reshape, shape_of, static
from intaglio.ops.compositions.functions import isnan
from intaglio.ops.compositions.indexing import concat, index_select, narrow
from intaglio.ops.dispatch import type_of
from intaglio.ops.reduce import keepdims
from intaglio.ops.registry import prim
from intaglio.readers.onnx.classical import ml_op
from intaglio.readers.onnx.registry import OnnxCall, Operand
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError


@ml_op("ArrayFeatureExtractor")
def array_feature_extractor(_: OnnxCall, x: Operand, places: Operand) -> Any:
    rows = reshape(x, (1, -1)) if rank_of(x) == 1 else x
    return index_select(rows, -1, reshape(places, (-1,)))


@ml_op("Binarizer")
def binarizer(call: OnnxCall, x: Operand) -> Any:
    return convert(prim.lt(call.attr("threshold", 0.0), x), dtype_of(x))


@ml_op("Scaler")
def scaler(call: OnnxCall, x: Operand) -> Any:
    """The offset is taken off before the scale is applied."""
    y = convert(x, dtypes.f32)
    offset, scale = (call.attr(name) for name in ("offset", "scale"))
    y = y if not offset else y - np.asarray(offset, np.float32)
    return y if not scale else y * np.asarray(scale, np.float32)


@ml_op("Imputer")
def imputer(call: OnnxCall, x: Operand) -> Any:
    """Elements that stand for a missing value are replaced by one number, or one for each column."""
    kind, suffix = ("float", "floats") if dtype_of(x).is_float else ("int64", "int64s")
    values = call.attr(f"imputed_value_{suffix}")
    if not values:
        raise ArgumentError(f"Imputer: imputed_value_{suffix} is missing")
    missing = call.attr(f"replaced_value_{kind}", 0)
    found = isnan(x) if math.isnan(missing) else prim.eq(x, missing)
    return prim.where(found, np.asarray(values, dtype_of(x).numpy), x)


@ml_op("Normalizer")
def normalizer(call: OnnxCall, x: Operand) -> Any:
    """Rows divided by their largest element, their sum of absolute values or their length; 0 divides not."""
    norm, x = call.attr("norm", "MAX"), convert(x, dtypes.f32)
    last = (rank_of(x) - 1,)
    if norm == "MAX":
        size = prim.reduce_max(x, axes=last)
    elif norm == "L1":
        size = prim.sum(prim.abs(x), axes=last)
    elif norm == "L2":
        size = prim.sqrt(prim.sum(x * x, axes=last))
    else:
        raise ArgumentError(f"Normalizer: norm {norm!r} is not MAX, L1 or L2")
    size = keepdims(size, x, last)
    return x / prim.where(prim.eq(size, 0), 1, size)


@ml_op("FeatureVectorizer")
def feature_vectorizer(call: OnnxCall, *parts: Operand) -> Any:
    """Features of several tensors side by side, each cut or continued with 0 to its width."""
    widths = call.required("inputdimensions")
    if len(widths) != len(parts):
        raise ArgumentError(f"FeatureVectorizer: {len(parts)} tensors but {len(widths)} widths")
    columns = []
    for part, width in zip(parts, widths, strict=True):
        rows = reshape(part, (-1, 1)) if rank_of(part) == 1 else part
        own = static(shape_of(rows)[1], "FeatureVectorizer")
        if own < width:
            rows = prim.pad(rows, padding=((0, 0), (0, width - own)), mode="constant", value=0)
        columns.append(convert(narrow(rows, 1, 0, width), dtypes.f32))
    return concat(columns, 1)


@ml_op("OneHotEncoder")
def one_hot_encoder(call: OnnxCall, x: Operand) -> Any:
    """A category that is not known has no place, whatever `zeros` says: a program cannot fail."""
    known = call.attr("cats_int64s")
    if not known:
        raise UnsupportedError("OneHotEncoder of text is not supported", hint="encode it beforehand")
    index = reshape(convert(x, dtypes.i64), (*shape_of(x), 1))
    return convert(prim.eq(index, np.asarray(known, np.int64)), dtypes.f32)


KINDS = {"int64s": np.int64, "floats": np.float32}


def _table(call: OnnxCall, side: str) -> Any:
    """Keys or values of a LabelEncoder."""
    for kind, dtype in KINDS.items():
        given = call.attr(f"{side}_{kind}")
        if given:
            return np.asarray(given, dtype)
    tensor = call.attr(f"{side}_tensor")
    if tensor is None or tensor.dtype.kind not in "iufb":
        raise UnsupportedError("LabelEncoder of text is not supported", hint="encode it outside of the model")
    return tensor.reshape(-1)


@ml_op("LabelEncoder", 2)
def label_encoder(call: OnnxCall, x: Operand) -> Any:
    """The value of each element's key, or the default. From version 4 on NaN as a key equals itself."""
    keys, values = _table(call, "keys"), _table(call, "values")
    if len(keys) != len(values):
        raise ShapeError(f"LabelEncoder: {len(keys)} keys but {len(values)} values")
    if type_of(keys).dtype != dtype_of(x):
        raise DTypeError(f"LabelEncoder: keys are {keys.dtype} but the elements are {dtype_of(x)}")
    default = call.attr("default_tensor")
    if default is None:
        named = ("default_float", -0.0) if values.dtype.kind == "f" else ("default_int64", -1)
        default = call.attr(*named)
    default = np.asarray(default, values.dtype).reshape(())
    elements = reshape(x, (*shape_of(x), 1))
    match = prim.eq(elements, keys)
    if call.version >= 4 and keys.dtype.kind == "f" and np.isnan(keys).any():
        match = prim.or_(match, prim.and_(isnan(elements), np.isnan(keys)))
    axes = (rank_of(x),)
    place = prim.argmax(convert(match, dtypes.i32), axes=axes)
    found = prim.gather(values, place, axes=(0,))
    return prim.where(prim.reduce_or(match, axes=axes), found, expand(default, shape_of(x)))
