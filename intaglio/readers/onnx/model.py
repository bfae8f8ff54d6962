"""From a file to a checked ONNX model: everything a hostile file may claim is verified here.

Sizes are compared before memory is taken, external data is confined to the model's directory, and the
operator sets are bounded. What comes out is a protobuf whose arrays can be read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, numpy_helper

from intaglio.shared.errors import FileFormatError, UnsupportedError

OLDEST, NEWEST = 1, 28
MAX_BYTES = 1 << 34
MAX_DEPTH = 64
MAX_RANK = 32
DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"))

Array = np.ndarray[Any, Any]


def read_model(source: str | Path | bytes | Message) -> tuple[onnx.ModelProto, Path | None]:
    """A parsed model and the directory its external data may lie in.

    Raises:
        FileFormatError: the bytes are not an ONNX model.
        UnsupportedError: an operator set outside of those supported.
    """
    directory = None
    if isinstance(source, Message):
        model = source
    else:
        name, data = ("the model", source) if isinstance(source, bytes) else (str(source), _bytes(source))
        directory = None if isinstance(source, bytes) else Path(source).resolve().parent
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise FileFormatError(
                f"{name} is not an ONNX model: {error}", hint="it may be truncated, or a Git LFS pointer"
            ) from error
    if not isinstance(model, onnx.ModelProto) or not model.HasField("graph"):
        raise FileFormatError("the file has no ONNX graph", hint="it may be empty or of another format")
    _check_operator_sets(model)
    return model, directory


def _bytes(path: str | Path) -> bytes:
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise FileFormatError(f"{path} has {size} bytes, at most {MAX_BYTES} are read")
        return Path(path).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_operator_sets(model: onnx.ModelProto) -> None:
    for one in model.opset_import:
        if one.domain in ("", "ai.onnx") and not OLDEST <= one.version <= NEWEST:
            raise UnsupportedError(
                f"the model uses operator set {one.version}; {OLDEST} to {NEWEST} are supported",
                hint="export it again, or convert it with onnx.version_converter",
            )
    if not model.opset_import and model.graph.node:
        raise FileFormatError("the model does not say which operator set it uses")


def operator_sets(model: onnx.ModelProto) -> dict[str, int]:
    """Version of each operator domain; the default domain is ``''``."""
    return {"" if one.domain == "ai.onnx" else one.domain: one.version for one in model.opset_import}


def read_tensor(tensor: TensorProto, directory: Path | None) -> Array:
    """The array of a tensor. Raises FileFormatError when its data does not match its shape."""
    shown = f"tensor {tensor.name!r}"
    dims = [int(d) for d in tensor.dims]
    if any(d < 0 for d in dims):
        raise FileFormatError(f"{shown} has a negative dimension: {dims}")
    if len(dims) > MAX_RANK:
        raise UnsupportedError(f"{shown} has {len(dims)} axes, at most {MAX_RANK} are supported")
    if tensor.data_type not in _ITEM_BITS and tensor.data_type != TensorProto.STRING:
        raise UnsupportedError(f"{shown} has element type {tensor.data_type}, which is not supported")
    count = math.prod(dims)
    if count * 8 > MAX_BYTES:
        raise FileFormatError(f"{shown} claims {count} elements")
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor = _with_external_data(tensor, directory, shown)
    if tensor.data_type != TensorProto.STRING and tensor.HasField("raw_data"):
        expected = -(-count * _ITEM_BITS[tensor.data_type] // 8)
        if len(tensor.raw_data) != expected:
            raise FileFormatError(f"{shown} of shape {dims} has {len(tensor.raw_data)} bytes, not {expected}")
    try:
        array = numpy_helper.to_array(tensor)
        if array.size != count:
            raise FileFormatError(f"{shown} of shape {dims} has {array.size} elements, not {count}")
        return array.reshape(dims)
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{shown} cannot be read: {error}") from error


_ITEM_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16,
    TensorProto.INT8: 8, TensorProto.INT16: 16, TensorProto.INT32: 32, TensorProto.INT64: 64,
    TensorProto.UINT8: 8, TensorProto.UINT16: 16, TensorProto.UINT32: 32, TensorProto.UINT64: 64,
    TensorProto.BOOL: 8, TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.INT2: 2, TensorProto.UINT2: 2,
    TensorProto.FLOAT8E4M3FN: 8, TensorProto.FLOAT8E4M3FNUZ: 8, TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8, TensorProto.FLOAT8E8M0: 8, TensorProto.FLOAT4E2M1: 4,
    TensorProto.FLOAT6E2M3: 6, TensorProto.FLOAT6E3M2: 6,
}  # fmt: skip


def _with_external_data(tensor: TensorProto, directory: Path | None, shown: str) -> TensorProto:
    """A copy of the tensor with its bytes read from a file inside the model's directory."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if directory is None:
        raise FileFormatError(
            f"{shown} lies in the file {location!r}, but the model was not loaded from a file"
        )
    try:
        path = (directory / location).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise FileFormatError(f"{shown} lies in {location!r}, which is no path: {error}") from error
    if not location or directory not in path.parents:
        raise FileFormatError(f"{shown} lies in {location!r}, outside of the model's directory")
    bits = _ITEM_BITS.get(tensor.data_type, 8)
    expected = -(-math.prod(int(d) for d in tensor.dims) * bits // 8)
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(expected)))
        if length != expected or offset < 0:
            raise FileFormatError(f"{shown} has {length} bytes at {offset}, expected {expected}")
        if not path.is_file() or path.stat().st_size < offset + length:
            raise FileFormatError(f"{shown}: {location!r} is no file of at least {offset + length} bytes")
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{shown}: its data in {location!r} cannot be read: {error}") from error
    whole = TensorProto()
    whole.CopyFrom(tensor)
    whole.ClearField("external_data")
    whole.data_location = TensorProto.DEFAULT
    whole.raw_data = data
    return whole


def named_extent(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    """A number or a name; no name where the file leaves it open, as some exporters do by -1 or a `?`."""
    if dim.HasField("dim_value"):
        return "" if dim.dim_value == -1 else int(dim.dim_value)
    return "" if dim.dim_param == "?" else dim.dim_param
