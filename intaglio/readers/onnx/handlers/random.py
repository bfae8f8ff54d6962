"""Random tensors. A generator is a state of the program, so that every call draws anew.

Generators are by counter (`ops/random.py`): from the same seed the same draws follow on every machine, but
not those of other runtimes. Without an attribute `seed` the seed is the number of the node's generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from intaglio.graph.ir import Value
from intaglio.ops.compositions import random
from intaglio.ops.compositions.basic import convert, dtype_of, expand, shape_of, unsqueeze
from intaglio.readers.onnx.elements import plain_type
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import DTypeError, ShapeError, UnsupportedError
from intaglio.shared.index import IndexLike


def draw_state(call: OnnxCall, shape: tuple[IndexLike, ...], dtype: DType) -> Value:
    """The state of the node's generator, which moves on by a draw of this shape after each call."""
    graph = call.importer.graph
    if any(isinstance(e, int) and e < 0 for e in shape):
        raise ShapeError(f"{call.node.op_type}: a draw of {list(shape)} elements")
    if call.importer.frames.nested:
        raise UnsupportedError(
            f"{call.node.op_type}: random numbers in the body of a loop or branch are not supported",
            hint="draw them before it, or give them as an input",
        )
    count = random.words(shape, dtype)
    if not isinstance(count, int):
        raise UnsupportedError(
            f"{call.node.op_type}: a draw of {list(shape)} elements", hint="fix the sizes with shapes="
        )
    given = call.attr("seed")
    seed = len(graph.states) if given is None else int(np.float32(given).view(np.uint32))
    state = graph.state(random.state_of(seed), "generator")
    graph.update(state, random.advance(state, count))
    return state


def drawn_dtype(call: OnnxCall, like: Operand | None) -> DType:
    """The attribute `dtype`; without it the type of the operand, or f32."""
    code = call.attr("dtype")
    given = plain_type(TensorProto.FLOAT if code is None else code)
    dtype = dtype_of(like) if code is None and like is not None else given
    if not dtype.is_float:
        raise DTypeError(f"{call.node.op_type}: numbers cannot be drawn as {dtype}")
    return dtype


@onnx_op("RandomUniform")
@onnx_op("RandomUniformLike")
def uniform(call: OnnxCall, like: Operand | None = None) -> Any:
    shape = tuple(call.required("shape")) if like is None else shape_of(like)
    dtype = drawn_dtype(call, like)
    state = draw_state(call, shape, dtype)
    return random.uniform(state, shape, call.attr("low", 0.0), call.attr("high", 1.0), dtype)


@onnx_op("RandomNormal")
@onnx_op("RandomNormalLike")
def normal(call: OnnxCall, like: Operand | None = None) -> Any:
    shape = tuple(call.required("shape")) if like is None else shape_of(like)
    dtype = drawn_dtype(call, like)
    state = draw_state(call, shape, dtype)
    return random.normal(state, shape, call.attr("mean", 0.0), call.attr("scale", 1.0), dtype)


@onnx_op("Bernoulli")
def bernoulli(call: OnnxCall, probability: Operand) -> Any:
    shape, code = shape_of(probability), call.attr("dtype")
    dtype = dtype_of(probability) if code is None else plain_type(code)
    state = draw_state(call, shape, dtypes.f32)
    return convert(random.bernoulli(state, shape, probability), dtype)


@onnx_op("Multinomial")
def multinomial(call: OnnxCall, logits: Operand) -> Any:
    batch, classes = shape_of(logits)
    shape = (batch, call.attr("sample_size", 1), classes)
    state = draw_state(call, shape, dtypes.f32)
    chosen = random.categorical(state, expand(unsqueeze(convert(logits, dtypes.f32), 1), shape))
    code = call.attr("dtype", TensorProto.INT32)
    return convert(chosen, plain_type(code))
