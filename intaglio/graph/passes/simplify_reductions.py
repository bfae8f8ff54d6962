"""SimplifyReductions: fewer and smaller reductions, and sums of products as contractions.

Sums are reassociated here, as everywhere in tensor programs; the sign of a sum that is zero is not certain.
"""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.passes.one_hot import one_hot_sum
from intaglio.graph.passes.padded_sum import padded_sum
from intaglio.graph.rewrite import Build, Counts, exhaust
from intaglio.graph.rules import Rule, RuleSet
from intaglio.ops.registry import REGISTRY

REDUCTIONS = ("sum", "prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or")
LETTERS = "ijklmnopqrstuvwxyz"


def _rules_of(op: str) -> list[Rule]:
    kind = "bool" if op in ("reduce_and", "reduce_or") else "f32"
    exact = op not in ("sum", "prod")
    return [
        Rule(
            f"{op}_of_{op}",
            f"{op}({op}(x, axes=a), axes=b) -> {op}(x, axes=merge_axes(a, b))",
            sample=f"x: {kind}[3,4,2], a=(1,), b=(0,)",
            exact=exact,
        ),
        Rule(
            f"{op}_over_ones",
            f"{op}(x, axes=a) -> reshape(x, shape=result.shape)",
            when="all_ones(pick(x.shape, a))",
            sample=f"x: {kind}[3,1,4,1], a=(1, 3)",
            exact=exact,
        ),
        Rule(
            f"{op}_of_transpose",
            f"{op}(transpose(x, perm=p), axes=a) -> {op}(x, axes=tuple(sorted(pick(p, a))))",
            when="keeps_order(p, a)",
            sample=f"x: {kind}[3,4,2], p=(2, 0, 1), a=(0, 1)",
            exact=exact,
        ),
        Rule(
            f"{op}_of_reshape",
            f"{op}(reshape(x, shape=s), axes=a) -> {op}(x, axes=tuple(range(len(x.shape))))",
            when="len(a) == len(s) and x.shape != ()",
            sample=f"x: {kind}[3,4], s=(2, 6), a=(0, 1)",
            exact=exact,
        ),
    ]


RULES = RuleSet(
    [
        *(rule for op in REDUCTIONS for rule in _rules_of(op)),
        Rule(
            "sum_of_number",
            "sum(c, axes=a) -> number(c) * count(c.shape, a)",
            when="is_constant(c) and is_float(c) and count(c.shape, a) > 0",
            sample="c: 0.5[3,4], x: f32[1], a=(0,)",
        ),
        Rule(
            "sum_of_copies",
            "sum(broadcast(x, shape=s), axes=a) -> x * count(s, a)",
            when="is_float(x) and a == tuple(range(len(a))) and s[len(a):] == x.shape and count(s, a) > 0",
            sample="x: f32[4], s=(3, 4), a=(0,)",
            exact=False,
        ),
    ]
)


def simplify_reductions(graph: Graph) -> Graph:
    """The graph with simpler reductions; the graph itself when there is nothing to simplify."""
    return exhaust(graph, [RULES.find, one_hot_sum, padded_sum, _sum_of_products])


def _sum_of_products(node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
    """`sum(broadcast(a) * broadcast(b)) -> dot(a, b)` when the product is bigger than both."""
    product = operands[0].node if node.op.name == "sum" else None
    if product is None or product.op.name != "mul" or not counts.single(node, operands, 0):
        return None
    if not node.outputs[0].dtype.is_float or operands[0].type.rank > len(LETTERS):
        return None
    axes = node.attrs["axes"]
    parts = [_without_repeats(value) for value in product.inputs]
    (x, in_x), (y, in_y) = parts
    kept = [k for k in range(operands[0].type.rank) if k not in axes]
    wide = [k for k in range(operands[0].type.rank) if operands[0].shape[k] != 1]
    outer = any(k in kept for k in set(in_x) - set(in_y)) and any(k in kept for k in set(in_y) - set(in_x))
    if not outer or not set(wide) <= {*in_x, *in_y} or not any(k in in_x for k in axes):
        return None
    if any((k in in_x) != (k in in_y) for k in axes):
        return None
    output = [k for k in kept if k in in_x or k in in_y]
    letters = ["".join(LETTERS[k] for k in places) for places in (in_x, in_y, output)]
    spec = f"{letters[0]},{letters[1]}->{letters[2]}"

    def build() -> Sequence[Value]:
        graph = operands[0].graph
        squeezed = [_reshape(value, [value.shape[k] for k in keep]) for value, keep in (x, y)]
        (made,) = graph.append(REGISTRY["dot"], squeezed, {"spec": spec})
        return [_reshape(made, list(node.outputs[0].shape))]

    return build


def _without_repeats(value: Value) -> tuple[tuple[Value, list[int]], list[int]]:
    """What a broadcast repeats, its axes that are not repeated, and where those are in the result."""
    source = value
    if value.node is not None and value.node.op.name == "broadcast":
        source = value.node.inputs[0]
    spare = value.type.rank - source.type.rank
    keep = [
        k
        for k in range(source.type.rank)
        if source.shape[k] == value.shape[k + spare] and source.shape[k] != 1
    ]
    return (source, keep), [k + spare for k in keep]


def _reshape(value: Value, shape: Sequence[object]) -> Value:
    if value.shape == tuple(shape):
        return value
    return value.graph.append(REGISTRY["reshape"], [value], {"shape": tuple(shape)})[0]
