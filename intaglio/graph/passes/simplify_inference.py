"""SimplifyInference: operators that do nothing to their operand are dropped, bit for bit."""

from __future__ import annotations

from intaglio.graph.ir import Graph
from intaglio.graph.rules import Rule, RuleSet

RULES = RuleSet(
    [
        Rule("detach", "detach(x) -> x"),
        Rule("same_type", "cast(x, dtype=d) -> x", when="x.dtype == d", sample="x: f32[3,4], d=f32"),
        Rule("same_bits", "bitcast(x, dtype=d) -> x", when="x.dtype == d", sample="x: f32[3,4], d=f32"),
        Rule("same_shape", "reshape(x, shape=s) -> x", when="x.shape == s", sample="x: f32[3,4], s=(3, 4)"),
        Rule(
            "same_extents", "broadcast(x, shape=s) -> x", when="x.shape == s", sample="x: f32[3,4], s=(3, 4)"
        ),
        Rule(
            "same_order",
            "transpose(x, perm=p) -> x",
            when="p == tuple(range(len(p)))",
            sample="x: f32[3,4], p=(0, 1)",
        ),
        Rule(
            "whole_slice",
            "slice(x, start=a, stop=b, step=s) -> x",
            when="x.shape == result.shape and s == (1,) * len(s)",
            sample="x: f32[3,4], a=(0, 0), b=(3, 4), s=(1, 1)",
        ),
        Rule(
            "no_padding",
            "pad(x, padding=p, mode=m, value=v) -> x",
            when="x.shape == result.shape and p == ((0, 0),) * len(p)",
            sample="x: f32[3,4], p=((0, 0), (0, 0)), m='constant', v=0.0",
        ),
        Rule("concat_of_one", "concat(x, axis=k) -> x", sample="x: f32[3,4], k=0"),
        Rule("no_axes", "sum(x, axes=a) -> x", when="a == ()", sample="x: f32[3,4], a=()", exact=False),
        Rule("mul_one", "x * 1 -> x"),
        Rule("one_mul", "1 * x -> x"),
        Rule("div_one", "x / 1 -> x"),
        Rule("pow_one", "pow(x, 1) -> x"),
        Rule("add_minus_zero", "x + -0.0 -> x"),
        Rule("minus_zero_add", "-0.0 + x -> x"),
        Rule("sub_zero", "x - 0 -> x"),
        Rule("add_zero", "x + 0 -> x", when="is_whole(x)", sample="x: i32[3,4]"),
        Rule("zero_add", "0 + x -> x", when="is_whole(x)", sample="x: i32[3,4]"),
        Rule("neg_neg", "-(-x) -> x"),
        Rule("not_not", "~(~x) -> x", sample="x: bool[3,4]"),
        Rule("max_same", "max(x, x) -> x"),
        Rule("min_same", "min(x, x) -> x"),
        Rule("and_same", "x & x -> x", sample="x: bool[3,4]"),
        Rule("or_same", "x | x -> x", sample="x: bool[3,4]"),
        Rule("where_same", "where(c, x, x) -> x", sample="c: bool[3,4], x: f32[3,4]"),
        Rule(
            "where_true",
            "where(c, x, y) -> x",
            when="is_true(c)",
            sample="c: true[3,4], x: f32[3,4], y: f32[3,4]",
        ),
        Rule(
            "where_false",
            "where(c, x, y) -> y",
            when="is_false(c)",
            sample="c: false[3,4], x: f32[3,4], y: f32[3,4]",
        ),
    ]
)


def simplify_inference(graph: Graph) -> Graph:
    """The graph without operators that give back their operand; the graph itself when it has none."""
    return RULES.apply(graph)
