"""Quantised operators of ONNX Runtime's own domain, as its quantisation tools write them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from intaglio.ops.compositions import activation
from intaglio.ops.compositions.basic import convert, rank_of, reshape, shape_of, transpose
from intaglio.ops.compositions.indexing import concat, select
from intaglio.ops.compositions.linear import matmul
from intaglio.ops.compositions.reduction import mean
from intaglio.ops.registry import prim
from intaglio.readers.onnx import quantized as q
from intaglio.readers.onnx.handlers.pooling import average_pool, max_pool
from intaglio.readers.onnx.handlers.quantization import qlinear_conv
from intaglio.readers.onnx.handlers.recurrent import Cell, lstm_gates, run_network
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError

microsoft = partial(onnx_op, domain="com.microsoft")
BYTES = q.target_of(None, None)


def scaled_product(
    a: Operand,
    a_scale: Operand,
    a_zero: Operand | None,
    b: Operand,
    b_scale: Operand,
    b_zero: Operand | None,
    bias: Operand | None = None,
) -> Any:
    """The product of two quantised matrices in f32."""
    total = matmul(q.centred(a, q.rows(a_zero)), q.centred(b, q.columns(b_zero)))
    scales = [convert(s, dtypes.f32) for s in (q.rows(a_scale), q.columns(b_scale))]
    y = convert(total, dtypes.f32) * (scales[0] * scales[1])
    return y if bias is None else y + bias


def dynamic_product(x: Operand, w: Operand, scale: Operand, zero: Operand | None) -> Any:
    """Numbers quantised as a whole, times quantised weights."""
    return scaled_product(*q.dynamically_quantized(x, BYTES), w, scale, zero)


@microsoft("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    _: OnnxCall,
    a: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero: Operand | None = None,
    bias: Operand | None = None,
) -> Any:
    y = dynamic_product(a, b, b_scale, b_zero)
    return y if bias is None else y + bias


@microsoft("MatMulIntegerToFloat")
def matmul_integer_to_float(
    _: OnnxCall,
    a: Operand,
    b: Operand,
    a_scale: Operand,
    b_scale: Operand,
    a_zero: Operand | None = None,
    b_zero: Operand | None = None,
    bias: Operand | None = None,
) -> Any:
    return scaled_product(a, a_scale, a_zero, b, b_scale, b_zero, bias)


@microsoft("QGemm")
def qgemm(
    call: OnnxCall,
    a: Operand,
    a_scale: Operand,
    a_zero: Operand | None,
    b: Operand,
    b_scale: Operand,
    b_zero: Operand | None,
    c: Operand | None = None,
    y_scale: Operand | None = None,
    y_zero: Operand | None = None,
) -> Any:
    """The bias is in units of `alpha * a_scale * b_scale`; without a scale of its own the result is f32."""
    left, right = q.centred(a, a_zero), None
    if call.attr("transA", 0):
        left = transpose(left, (1, 0))
    if call.attr("transB", 0):
        zero = None if b_zero is None else q.scalar_or(b_zero, (-1, 1))
        right = transpose(q.centred(b, zero), (1, 0))
    else:
        right = q.centred(b, q.columns(b_zero))
    total = matmul(left, right)
    total = total if c is None else total + c
    scale = q.scalar_or(a_scale, ()) * q.columns(b_scale) * call.attr("alpha", 1.0)
    if y_scale is None:
        return convert(total, dtypes.f32) * scale
    return q.requantized(
        total, scale / q.scalar_or(y_scale, ()), y_zero, q.target_of(a if y_zero is None else y_zero, None)
    )


def _binary(function: Callable[[Any, Any], Any], _: OnnxCall, *operands: Operand | None) -> Any:
    """Two quantised operands, each with scale and zero point, then those of the result."""
    values = [q.dequantized(*operands[k : k + 3]) for k in (0, 3)]  # type: ignore[arg-type]
    zero = operands[7] if len(operands) > 7 else None
    return q.quantized(function(*values), operands[6], zero, q.target_of(operands[0], None))  # type: ignore[arg-type]


microsoft("QLinearAdd")(partial(_binary, prim.add))
microsoft("QLinearMul")(partial(_binary, prim.mul))


def _unary(
    function: Callable[[OnnxCall, Any], Any],
    call: OnnxCall,
    x: Operand,
    scale: Operand,
    zero: Operand | None,
    y_scale: Operand,
    y_zero: Operand | None = None,
) -> Any:
    return q.quantized(function(call, q.dequantized(x, scale, zero)), y_scale, y_zero, q.target_of(x, None))


def _channels_last(pool: Callable[[OnnxCall, Any], Any], call: OnnxCall, x: Any) -> Any:
    return _behind(pool, call, x) if call.attr("channels_last", 0) else pool(call, x)


def _behind(pool: Callable[[OnnxCall, Any], Any], call: OnnxCall, x: Any) -> Any:
    """A function of images whose channels are the second axis, for those where they are the last."""
    rank = rank_of(x)
    y = pool(call, transpose(x, (0, rank - 1, *range(1, rank - 1))))
    return transpose(y, (0, *range(2, rank), 1))


def _softmax(call: OnnxCall, x: Any) -> Any:
    """Before operator set 13 all axes from `axis` on count as one."""
    axis = call.attr("axis", -1)
    if call.attr("opset", 13) >= 13:
        return activation.softmax(x, axis)
    axis = axis + rank_of(x) if axis < 0 else axis
    rows = reshape(x, (*shape_of(x)[:axis], -1))
    return reshape(activation.softmax(rows, -1), shape_of(x))


UNARY: dict[str, Callable[[OnnxCall, Any], Any]] = {
    "QLinearSigmoid": lambda _, x: prim.sigmoid(x),
    "QLinearLeakyRelu": lambda call, x: activation.leaky_relu(x, call.attr("alpha", 0.01)),
    "QLinearAveragePool": partial(_channels_last, average_pool),
    "QLinearGlobalAveragePool": partial(
        _channels_last, lambda _, x: mean(x, tuple(range(2, rank_of(x))), keepdim=True)
    ),
    "QLinearSoftmax": _softmax,
}
for _name, _function in UNARY.items():
    microsoft(_name)(partial(_unary, _function))


microsoft("NhwcMaxPool")(partial(_behind, max_pool))


@microsoft("QLinearConv")
def qlinear_conv_any_layout(call: OnnxCall, x: Operand, *operands: Operand) -> Any:
    return _channels_last(lambda call, x: qlinear_conv(call, x, *operands), call, x)


@microsoft("QLinearConcat")
def qlinear_concat(call: OnnxCall, y_scale: Operand, y_zero: Operand, *parts: Operand) -> Any:
    """Tensors, each followed by its scale and zero point."""
    if len(parts) % 3:
        raise ArgumentError(f"QLinearConcat: {len(parts)} operands are no triples")
    target = q.target_of(y_zero, None)
    triples = [parts[k : k + 3] for k in range(0, len(parts), 3)]
    return concat(
        [q.quantized(q.dequantized(*t), y_scale, y_zero, target) for t in triples], call.required("axis")
    )


@microsoft("QLinearWhere")
def qlinear_where(_: OnnxCall, condition: Operand, *operands: Operand) -> Any:
    a, b, (scale, zero) = operands[:3], operands[3:6], operands[6:8]
    value = prim.where(condition, q.dequantized(*a), q.dequantized(*b))
    return q.quantized(value, scale, zero, q.target_of(zero, None))


@microsoft("DynamicQuantizeLSTM")
def dynamic_quantize_lstm(
    call: OnnxCall,
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand | None = None,
    lengths: Operand | None = None,
    h: Operand | None = None,
    c: Operand | None = None,
    peepholes: Operand | None = None,
    *scales: Operand,
) -> Any:
    """An LSTM with quantised weights `[direction, in, 4 * hidden]`. Scale and zero point of both come last.

    The whole input is quantised at once, and in every step the hidden state."""
    w_scale, w_zero, r_scale, r_zero = scales

    def weights(d: int, hidden: int) -> tuple[Any, Any, list[Any]]:
        def project(rows: Any) -> Any:
            return dynamic_product(rows, *(select(v, 0, d) for v in (w, w_scale, w_zero)))

        held = [select(v, 0, d) for v in (r, r_scale, r_zero)]
        if peepholes is not None:
            held.append(select(peepholes, 0, d))
        bias = None if b is None else prim.sum(reshape(select(b, 0, d), (2, 4 * hidden)), axes=(0,))
        return project, bias, held

    def step(cell: Cell, projected: Any, state: list[Any], held: list[Any]) -> list[Any]:
        return lstm_gates(cell, projected + dynamic_product(state[0], *held[:3]), state[1], held[3:])

    return run_network(call, x, r, lengths, [h, c], ["Sigmoid", "Tanh", "Tanh"], weights, step)
