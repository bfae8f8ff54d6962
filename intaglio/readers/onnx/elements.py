"""Element types of ONNX that the compiler has none for: floats of 8 bits and less, integers of 4 and 2.

A tensor of such a type is held as its codes (`ops/compositions/small_types.py`) together with the type; what
moves elements moves codes. At the edges of a model `Packing` turns arrays into codes and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from intaglio.ops.compositions import small_types
from intaglio.ops.compositions.basic import convert
from intaglio.readers.onnx.registry import Array, Operand
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError, FileFormatError, UnsupportedError

MOVERS = frozenset(
    ("Flatten", "Identity", "Pad", "Reshape", "Squeeze", "TensorScatter", "Transpose", "Unsqueeze")
)
"""Operators whose first result has the element type of their first operand."""
READERS = frozenset(
    (
        "BitCast", "Cast", "CastLike", "DequantizeLinear", "IsInf", "IsNaN", "QLinearMatMul",
        "QuantizeLinear", "Shape", "Size",
    )
)  # fmt: skip
"""Operators that look at `OnnxCall.elements`, or for which the element type does not matter."""


@dataclass(frozen=True)
class Element:
    """An element type: its code in ONNX, its NumPy type, and the type in which its codes are held."""

    code: int
    numpy: np.dtype[Any]
    held: DType

    def __str__(self) -> str:
        return str(TensorProto.DataType.Name(self.code)).lower()

    @property
    def bits(self) -> int:
        return {"float8": 8, "float6": 6, "float4": 4, "int4": 4, "uint4": 4, "int2": 2, "uint2": 2}[
            self.numpy.name.partition("_")[0]
        ]

    @property
    def is_float(self) -> bool:
        return self.numpy.name.startswith("float")

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest number of an integer type."""
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.held == dtypes.i8 else (0, 2 * half - 1)

    def codes(self, array: Any) -> Array:
        """The codes of an array of this type; an array of codes as it is. Raises DTypeError for others."""
        given: Array = np.asarray(array)
        if given.dtype == self.numpy:
            return given.view(np.uint8) if self.is_float else given.astype(self.held.numpy)
        if given.dtype != self.held.numpy:
            raise DTypeError(f"an array of {given.dtype} was given where {self} is expected")
        return given

    def array(self, codes: Array) -> Array:
        """The array of this type that codes stand for."""
        made: Array = codes.view(self.numpy) if self.is_float else codes.astype(self.numpy)
        return made

    def decode(self, codes: Operand) -> Any:
        """The numbers of codes: floats as f32, integers in the type they are held in."""
        if not self.is_float:
            return codes
        if self.code == TensorProto.FLOAT8E8M0:
            return small_types.decode_power(codes)
        return small_types.decode_float(codes, small_types.FORMATS[self.numpy.name])

    def encode(self, x: Operand, saturate: bool = True, rounding: Any = "up") -> Any:
        """The codes of numbers; integers keep their low bits."""
        if self.code == TensorProto.FLOAT8E8M0:
            return small_types.encode_power(x, rounding, saturate)
        if self.is_float:
            return small_types.encode_float(x, small_types.FORMATS[self.numpy.name], saturate)
        return small_types.wrap_integer(x, self.bits, self.held == dtypes.i8)


def _elements() -> dict[int, Element]:
    signed = ("int4", "int2")
    names = [*small_types.FORMATS, "float8_e8m0fnu", *signed, "uint4", "uint2"]
    found: dict[int, Element] = {}
    for name in names:
        numpy: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        code = int(helper.np_dtype_to_tensor_dtype(numpy))
        found[code] = Element(code, numpy, dtypes.i8 if name in signed else dtypes.u8)
    return found


ELEMENTS = _elements()
_BY_NUMPY = {element.numpy: element for element in ELEMENTS.values()}


Elements: TypeAlias = tuple[Element | None, ...]
"""For each operand of a node its element type, when it is one of these."""


@dataclass(frozen=True)
class Coded:
    """A tensor of codes, and the element type they are of."""

    codes: Operand
    element: Element


def as_coded(array: Array) -> Array | Coded:
    """An array that was read from the model, as codes when its type is one of these."""
    element = _BY_NUMPY.get(array.dtype)
    return array if element is None else Coded(element.codes(array), element)


def numbers(operand: Operand, element: Element | None) -> Any:
    """The numbers of an operand in an arithmetic type."""
    return operand if element is None else element.decode(operand)


def to_type(x: Operand, code: int, saturate: bool = True, rounding: Any = "up") -> Any:
    """Numbers as a type of ONNX. Raises UnsupportedError for a type that is not held."""
    element = ELEMENTS.get(code)
    if element is not None:
        return Coded(element.encode(x, saturate, rounding), element)
    return convert(x, plain_type(code))


def plain_type(code: int) -> DType:
    """The compiler's own type. Raises UnsupportedError when it has none."""
    try:
        return dtypes.from_numpy(helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, ValueError, TypeError, DTypeError) as error:
        if code == TensorProto.STRING:
            raise UnsupportedError(
                "text is not supported: a compiled program holds numbers only",
                hint="prepare the text before the model, and give the model its numbers",
            ) from error
        known = {v: k for k, v in TensorProto.DataType.items()}
        raise UnsupportedError(f"element type {known.get(code, code)} is not supported here") from error


def split_elements(node: onnx.NodeProto, operands: Sequence[Any]) -> tuple[list[Any], Elements]:
    """The operands of a node without their element types, and these. Raises UnsupportedError when the
    operator does not take such tensors."""
    elements = tuple(x.element if isinstance(x, Coded) else None for x in operands)
    for element in elements:
        if element is not None and node.op_type not in MOVERS | READERS:
            raise UnsupportedError(
                f"elements of type {element} are not supported here", hint="cast them to a wider type first"
            )
    return [x.codes if isinstance(x, Coded) else x for x in operands], elements


def join_elements(node: onnx.NodeProto, elements: Elements, results: Sequence[Any]) -> list[Any]:
    """The results of a node with their element types."""
    joined: list[Any] = [as_coded(x) if isinstance(x, np.ndarray) else x for x in results]
    if node.op_type in MOVERS and elements and elements[0] is not None:
        joined[0] = Coded(joined[0], elements[0])
    return joined


def check_declared(info: onnx.ValueInfoProto, operand: Any) -> None:
    """Raise FileFormatError when an output has one of these types and the model says otherwise."""
    said = info.type.tensor_type.elem_type
    own = operand.element.code if isinstance(operand, Coded) else None
    if (said or own) != own and (own is not None or said in ELEMENTS):
        names = [_name_of(code) if code else "another type" for code in (own, said)]
        raise FileFormatError(f"output {info.name!r} is {names[0]}, but the model says {names[1]}")


def _name_of(code: int) -> str:
    known = TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(code)) if code in known else f"element type {code}"
