"""What a file claims, against the rules of ONNX: names, and each node against its operator's declaration.

Handlers may then rely on attributes, numbers of inputs and element types. Operators that ONNX does not
declare are left to their handlers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, defs, helper

from intaglio.graph.ir import Value
from intaglio.ops.budget import Budget
from intaglio.readers.onnx.limits import Limits
from intaglio.readers.onnx.model import MAX_RANK
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError, FileFormatError, UnsupportedError
from intaglio.shared.types import TensorType

_NAMES = {
    "f64": "double", "f32": "float", "f16": "float16", "bf16": "bfloat16", "bool": "bool",
    **{f"{kind[0]}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_BY_CODE: dict[int, DType] = {helper.np_dtype_to_tensor_dtype(t.numpy): t for t in dtypes.ALL}
_STORED_OTHERWISE = ("float8", "float4", "float6", "int4", "uint4", "int2", "uint2", "string")
_LARGE = 1 << 24
_RANGES = {
    **dict.fromkeys(("kernel_shape", "strides", "dilations", "group", "hidden_size"), (1, _LARGE)),
    **dict.fromkeys(("pads", "output_padding"), (-_LARGE, _LARGE)),
    "num_outputs": (1, 1 << 16),
    **dict.fromkeys(("axis", "axes", "perm", "batch_axis", "time_axis"), (-MAX_RANK, MAX_RANK)),
}
LONGEST = 80
MALFORMED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError, TypeError,
    ValueError,
)  # fmt: skip
"""What handlers, and NumPy under them, raise for nodes that make no sense."""


def shown(text: str) -> str:
    """A name of the file for a message: short and printable."""
    short = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    return "".join(c if c.isprintable() else "?" for c in short)


def check_names(proto: onnx.GraphProto) -> None:
    """Raise FileFormatError unless names are text, each is defined once, and results are distinct."""
    if not all(isinstance(name, str) for name in _texts(proto)):
        raise FileFormatError("a name in the file is not UTF-8", hint="the file may be damaged")
    weights = [tensor.name for tensor in proto.initializer]
    inputs = [info.name for info in proto.input]
    made = [name for node in proto.node for name in node.output if name]
    for names in (weights, inputs, [*{*weights, *inputs}, *made], [info.name for info in proto.output]):
        if len(set(names)) != len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise FileFormatError(f"{shown(twice)!r} is defined twice in one graph")


def _texts(proto: onnx.GraphProto) -> Iterator[Any]:
    """Every name in a graph; one that is not UTF-8 is of type bytes."""
    yield proto.name
    yield from (tensor.name for tensor in proto.initializer)
    for info in (*proto.input, *proto.output):
        yield info.name
        yield from (dim.dim_param for dim in info.type.tensor_type.shape.dim)
    for node in proto.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def check_type(what: str, type_: TensorType, limits: Limits) -> None:
    """Raise UnsupportedError for a tensor that no machine holds."""
    if type_.rank > MAX_RANK:
        raise UnsupportedError(f"{what} has {type_.rank} axes, at most {MAX_RANK} are supported")
    size = type_.max_bytes
    if size is not None and size > limits.tensor_bytes:
        raise UnsupportedError(
            f"{what} is {type_}, {size} bytes, more than {limits.tensor_bytes}",
            hint="load(..., limits=Limits(tensor_bytes=...))",
        )


def check_results(
    node: onnx.NodeProto, results: Sequence[Any], inputs: Sequence[Any], limits: Limits, budget: Budget
) -> None:
    """Raise for results that are missing or too large; account for arrays that were computed."""
    if any(node.output[len(results) :]):
        raise UnsupportedError(f"output {len(results)} of {shown(node.op_type)} is not supported")
    for name, result in zip(node.output, results, strict=False):
        if isinstance(result, Value):
            check_type(f"result {shown(name)!r}", result.type, limits)
        elif isinstance(result, np.ndarray) and not any(result is operand for operand in inputs):
            budget.allocate(shown(node.op_type), result.nbytes)


def check_output(infos: Iterable[onnx.ValueInfoProto], value: Value, name: str) -> None:
    """Raise FileFormatError when an output has not the element type that the model says."""
    for info in infos:
        said = _BY_CODE.get(info.type.tensor_type.elem_type) if info.name == name else None
        if said is not None and said != value.dtype:
            raise FileFormatError(f"output {shown(name)!r} is {value.dtype}, but the model says {said}")


@cache
def _schema(domain: str, name: str, version: int) -> defs.OpSchema | None:
    if not defs.has(name, max_inclusive_version=version, domain=domain):
        return None
    found = defs.get_schema(name, max_inclusive_version=version, domain=domain)
    return None if found.deprecated else found


@cache
def _allowed(domain: str, name: str, version: int) -> dict[str, frozenset[str]]:
    """The element types of each type variable; none for those whose types are stored as others here."""
    schema = _schema(domain, name, version)
    assert schema is not None
    found = {t.type_param_str: frozenset(t.allowed_type_strs) for t in schema.type_constraints}
    return {
        variable: types
        for variable, types in found.items()
        if not any(other in type_ for type_ in types for other in _STORED_OTHERWISE)
    }


def check_node(node: onnx.NodeProto, domain: str, version: int, inputs: Sequence[Any]) -> None:
    """Raise FileFormatError or DTypeError when a node is not as its operator is declared."""
    schema = _schema(domain, node.op_type, version)
    if schema is None:
        return
    _check_attributes(node, schema)
    least, most = schema.min_input, schema.max_input
    if not least <= len(inputs) <= most:
        raise FileFormatError(f"it has {len(inputs)} inputs, expected {least} to {most}")
    if len(node.output) > schema.max_output:
        raise FileFormatError(f"it has {len(node.output)} outputs, at most {schema.max_output} exist")
    allowed = _allowed(domain, node.op_type, version)
    formal = schema.inputs
    seen: dict[str, DType] = {}
    for k, operand in enumerate(inputs):
        parameter = formal[min(k, len(formal) - 1)]
        if operand is None:
            if parameter.option == defs.OpSchema.FormalParameterOption.Single:
                raise FileFormatError(f"input {parameter.name} is missing")
            continue
        dtype = _element_type(operand)
        if dtype is None:
            continue
        variable = parameter.type_str
        types = allowed.get(variable, ())
        if types and f"tensor({_NAMES[dtype.name]})" not in types:
            raise DTypeError(f"input {parameter.name} is {dtype}, which the operator does not take")
        if parameter.is_homogeneous and seen.setdefault(variable, dtype) != dtype:
            raise DTypeError(f"input {parameter.name} is {dtype}, but another one is {seen[variable]}")


def _check_attributes(node: onnx.NodeProto, schema: defs.OpSchema) -> None:
    declared = schema.attributes
    given = set()
    for attribute in node.attribute:
        name = attribute.name
        if name not in declared:
            raise FileFormatError(f"there is no attribute {shown(name)!r}")
        if name in given:
            raise FileFormatError(f"attribute {name!r} is given twice")
        given.add(name)
        kind = declared[name].type.value  # type: ignore[attr-defined]
        if attribute.type != kind:
            wanted = AttributeProto.AttributeType.Name(kind)
            raise FileFormatError(f"attribute {name!r} is not of kind {wanted}")
        if name in _RANGES:
            least, most = _RANGES[name]
            for number in attribute.ints if kind == AttributeProto.INTS else (attribute.i,):
                if not least <= number <= most:
                    raise FileFormatError(f"attribute {name!r} has {number}, not in {least} .. {most}")
    missing = [name for name, one in declared.items() if one.required and name not in given]
    if missing:
        raise FileFormatError(f"attribute {missing[0]!r} is missing")


def _element_type(operand: Any) -> DType | None:
    """The element type of an operand; None for sequences, strings, and types that are stored otherwise."""
    if isinstance(operand, Value):
        return operand.dtype
    if not isinstance(operand, np.ndarray) or operand.dtype.kind in "OUS":
        return None
    try:
        return dtypes.from_numpy(operand.dtype)
    except DTypeError:
        return None
