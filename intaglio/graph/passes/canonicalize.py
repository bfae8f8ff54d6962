"""CanonicalizeOps: one spelling for one thing, so that later passes and recipes know fewer forms.

All rules keep every bit of the result, NaN, infinities and the sign of zero included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.passes.simplify_inference import RULES as IDENTITIES
from intaglio.graph.passes.unit_axes import reshaped_contraction
from intaglio.graph.rewrite import Build, Counts, exhaust
from intaglio.graph.rules import Rule, RuleSet, full, number_of, scalar
from intaglio.ops.dispatch import evaluate
from intaglio.ops.registry import REGISTRY
from intaglio.shared.index import IndexLike

RULES = RuleSet(
    [
        Rule(
            "add_constant_right",
            "c + x -> x + c",
            when="is_constant(c) and not is_constant(x)",
            sample="c: 3.0[3,4], x: f32[3,4]",
        ),
        Rule(
            "mul_constant_right",
            "c * x -> x * c",
            when="is_constant(c) and not is_constant(x)",
            sample="c: 3.0[3,4], x: f32[3,4]",
        ),
        Rule("mul_minus_one", "x * -1 -> -x"),
        Rule("div_minus_one", "x / -1 -> -x"),
        Rule("minus_zero_sub", "-0.0 - x -> -x"),
        Rule("zero_sub", "0 - x -> -x", when="is_whole(x)", sample="x: i32[3,4]"),
        Rule("mul_zero", "x * 0 -> 0", when="is_whole(x)", sample="x: i32[3,4]"),
        Rule("add_neg", "x + -y -> x - y"),
        Rule("neg_add", "-x + y -> y - x"),
        Rule("sub_neg", "x - -y -> x + y"),
        Rule("neg_mul_neg", "-x * -y -> x * y"),
        Rule("neg_div_neg", "-x / -y -> x / y"),
        Rule(
            "neg_mul_constant",
            "-x * c -> x * -number(c)",
            when="is_constant(c) and is_float(c)",
            sample="x: f32[3,4], c: 3.0[3,4]",
        ),
        Rule(
            "neg_div_constant",
            "-x / c -> x / -number(c)",
            when="is_constant(c)",
            sample="x: f32[3,4], c: 3.0[3,4]",
        ),
        Rule(
            "neg_of_mul_constant",
            "-(x * c) -> x * -number(c)",
            when="is_constant(c) and is_float(c)",
            sample="x: f32[3,4], c: 3.0[3,4]",
        ),
        Rule(
            "div_power_of_two",
            "x / c -> x * (1.0 / number(c))",
            when="power_of_two(c)",
            sample="x: f32[3,4], c: 8.0[3,4]",
        ),
        Rule("pow_zero", "pow(x, 0) -> 1"),
        Rule("pow_two", "pow(x, 2) -> x * x"),
        Rule("pow_minus_one", "pow(x, -1) -> 1 / x", when="is_float(x)"),
        Rule("abs_neg", "abs(-x) -> abs(x)"),
        Rule("abs_abs", "abs(abs(x)) -> abs(x)"),
        Rule("abs_square", "abs(x * x) -> x * x", when="is_float(x)"),
        Rule(
            "where_not", "where(~c, x, y) -> where(c, y, x)", sample="c: bool[3,4], x: f32[3,4], y: f32[3,4]"
        ),
        Rule(
            "where_then_where",
            "where(c, where(c, x, y), z) -> where(c, x, z)",
            sample="c: bool[3,4], x: f32[3,4], y: f32[3,4], z: f32[3,4]",
        ),
        Rule(
            "where_else_where",
            "where(c, x, where(c, y, z)) -> where(c, x, z)",
            sample="c: bool[3,4], x: f32[3,4], y: f32[3,4], z: f32[3,4]",
        ),
        Rule(
            "cast_cast",
            "cast(cast(x, dtype=a), dtype=b) -> cast(x, dtype=b)",
            when="keeps_values(x.dtype, a)",
            sample="x: f32[3,4], a=f64, b=i32",
        ),
        Rule(
            "reshape_reshape",
            "reshape(reshape(x, shape=r), shape=s) -> reshape(x, shape=s)",
            sample="x: f32[3,4], r=(2, 6), s=(12,)",
        ),
        Rule(
            "transpose_transpose",
            "transpose(transpose(x, perm=p), perm=q) -> transpose(x, perm=compose(p, q))",
            sample="x: f32[2,3,4], p=(1, 2, 0), q=(1, 0, 2)",
        ),
        Rule(
            "transpose_ones",
            "transpose(x, perm=p) -> reshape(x, shape=result.shape)",
            when="moves_only_ones(x.shape, p)",
            sample="x: f32[1,3,1,4], p=(1, 0, 3, 2)",
        ),
        Rule(
            "broadcast_broadcast",
            "broadcast(broadcast(x, shape=r), shape=s) -> broadcast(x, shape=s)",
            sample="x: f32[3,1], r=(3, 4), s=(2, 3, 4)",
        ),
        Rule(
            "broadcast_new_axes",
            "broadcast(reshape(x, shape=r), shape=s) -> broadcast(x, shape=s)",
            when="r == (1,) * (len(r) - len(x.shape)) + x.shape",
            sample="x: f32[4], r=(1, 4), s=(3, 4)",
        ),
        Rule(
            "reshape_repeated",
            "reshape(broadcast(x, shape=r), shape=s) -> broadcast(x, shape=s)",
            when="x.shape == ()",
            sample="x: f32[], r=(4,), s=(4, 1)",
        ),
        Rule(
            "transpose_repeated",
            "transpose(broadcast(x, shape=r), perm=p) -> broadcast(x, shape=result.shape)",
            when="x.shape == ()",
            sample="x: f32[], r=(4, 3), p=(1, 0)",
        ),
        Rule(
            "reshape_number",
            "reshape(c, shape=s) -> broadcast(scalar(c), shape=s)",
            when="is_spread(c)",
            sample="c: 2.0[3,4], s=(12,)",
        ),
        Rule(
            "transpose_number",
            "transpose(c, perm=p) -> broadcast(scalar(c), shape=result.shape)",
            when="is_spread(c)",
            sample="c: 2.0[3,4], p=(1, 0)",
        ),
        Rule(
            "pad_pad",
            "pad(pad(x, padding=p, mode='constant', value=v), padding=q, mode='constant', value=v)"
            " -> pad(x, padding=add_pairs(p, q), mode='constant', value=v)",
            when="all_positive(p, q)",
            sample="x: f32[3,4], p=((1, 0), (0, 2)), q=((0, 1), (1, 1)), v=0.0",
        ),
        Rule(
            "pad_then_conv",
            "conv(pad(x, padding=p, mode='constant', value=0.0), w, padding=q, strides=s, dilations=d,"
            " groups=g)"
            " -> conv(x, w, padding=add_pairs(p[2:], q), strides=s, dilations=d, groups=g)",
            when="p[:2] == ((0, 0), (0, 0)) and all_positive(p, q)",
            sample="x: f32[1,2,4,5], w: f32[3,2,2,2], p=((0, 0), (0, 0), (1, 0), (2, 1)), s=(1, 1), "
            "d=(1, 1), q=((0, 1), (0, 0)), g=1",
            exact=False,
        ),
        Rule(
            "slice_slice",
            "slice(slice(x, start=a, stop=f, step=s), start=b, stop=e, step=t)"
            " -> slice(x, start=add_each(a, b), stop=add_each(a, e), step=t)",
            when="all_ones(s) and all_ones(t)",
            sample="x: f32[5,6], a=(1, 2), f=(5, 6), s=(1, 1), b=(1, 0), e=(3, 3), t=(1, 1)",
        ),
    ]
)


def canonicalize_ops(graph: Graph) -> Graph:
    """The graph in canonical spelling; the graph itself when it is so already."""
    return exhaust(graph, FINDERS)


def _broadcast_behind(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`f(broadcast(a), broadcast(b)) -> broadcast(f(a, b))`: compute before repeating."""
    if node.op.kind != "map" or not operands:
        return None
    inner: tuple[IndexLike, ...] | None = None
    for value in operands:
        if value.node is None or value.node.op.name != "broadcast":
            return None
        source = value.node.inputs[0]
        if source.shape and number_of(source) is None:
            if inner is not None and inner != source.shape:
                return None
            inner = source.shape
    shape = inner or ()

    def build() -> list[Value]:
        graph = operands[0].graph
        numbers = [number_of(value) for value in operands]
        if inner is None and all(number is not None for number in numbers):
            return [
                full(graph, evaluate(node.op, [np.asarray(n) for n in numbers], node.attrs), node.outputs[0])
            ]
        small = [_narrow(value, shape) for value in operands]
        (made,) = graph.append(node.op, small, node.attrs)
        return [_broadcast(made, node.outputs[0].shape)]

    return build


def _narrow(value: Value, shape: tuple[IndexLike, ...]) -> Value:
    """What a broadcast repeats, in the given shape."""
    assert value.node is not None
    source = value.node.inputs[0]
    if source.shape == shape:
        return source
    return _broadcast(scalar(source) if source.shape else source, shape)


def _broadcast(value: Value, shape: tuple[IndexLike, ...]) -> Value:
    if value.shape == shape:
        return value
    return value.graph.append(REGISTRY["broadcast"], [value], {"shape": shape})[0]


def _transposed_operand(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`dot(transpose(a), b) -> dot(a, b)` with the axes named in another order."""
    if node.op.name != "dot" or not any(_is_transpose(value) for value in operands):
        return None
    inputs, output = node.attrs["spec"].split("->")
    parts, sources = inputs.split(","), list(operands)
    for k, value in enumerate(operands):
        if value.node is not None and _is_transpose(value):
            perm = value.node.attrs["perm"]
            parts[k] = "".join(parts[k][perm.index(axis)] for axis in range(len(perm)))
            sources[k] = value.node.inputs[0]
    spec = f"{','.join(parts)}->{output}"
    return lambda: sources[0].graph.append(node.op, sources, {**node.attrs, "spec": spec})


def _transposed_result(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`transpose(dot(a, b)) -> dot(a, b)` with the axes of the result in another order."""
    if node.op.name != "transpose" or not counts.single(node, operands, 0):
        return None
    source = operands[0].node
    if source is None or source.op.name != "dot":
        return None
    inputs, output = source.attrs["spec"].split("->")
    spec = f"{inputs}->{''.join(output[k] for k in node.attrs['perm'])}"

    def build() -> Sequence[Value]:
        graph = operands[0].graph
        graph.origin = source
        return graph.append(source.op, source.inputs, {**source.attrs, "spec": spec})

    return build


def _reshape(value: Value, shape: tuple[IndexLike, ...]) -> Value:
    if value.shape == shape:
        return value
    return value.graph.append(REGISTRY["reshape"], [value], {"shape": shape})[0]


def _is_transpose(value: Value) -> bool:
    return value.node is not None and value.node.op.name == "transpose"


def _repeated_operand(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`dot(broadcast(a), b) -> dot(a, b)` where the axes that repeat `a` are axes of `b`, too."""
    if node.op.name != "dot":
        return None
    inputs, output = node.attrs["spec"].split("->")
    parts = inputs.split(",")
    sources = [(value, value.shape) for value in operands]
    for k, value in enumerate(operands):
        source = (
            value.node.inputs[0] if value.node is not None and value.node.op.name == "broadcast" else None
        )
        if source is None:
            continue
        spare = value.type.rank - source.type.rank
        kept = [
            axis for axis in range(spare, value.type.rank) if source.shape[axis - spare] == value.shape[axis]
        ]
        dropped = [parts[k][axis] for axis in range(value.type.rank) if axis not in kept]
        if not kept or any(letter not in parts[1 - k] or letter not in output for letter in dropped):
            continue
        parts[k] = "".join(parts[k][axis] for axis in kept)
        sources[k] = (source, tuple(value.shape[axis] for axis in kept))
    spec = f"{','.join(parts)}->{output}"
    if spec == node.attrs["spec"]:
        return None

    def build() -> Sequence[Value]:
        graph = operands[0].graph
        return graph.append(node.op, [_reshape(*source) for source in sources], {**node.attrs, "spec": spec})

    return build


FINDERS = [
    IDENTITIES.find,
    RULES.find,
    _broadcast_behind,
    _transposed_operand,
    _transposed_result,
    _repeated_operand,
    reshaped_contraction,
]
