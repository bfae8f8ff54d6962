"""Rewrite rules as text: `x * 1 -> x`. Both sides are Python over operators; tests run both sides.

On the left a name stands for any value (the same name for the same value), a number for a constant that
is that number everywhere, `op(..., attr=p)` for an operator whose attribute is called `p`. On the right
names are what the left side bound, `result` is the value replaced, and helpers may be called. `when`
is a condition over the same names.
"""

from __future__ import annotations

import ast
import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from intaglio.graph.ir import Graph, Node, Value
from intaglio.graph.rewrite import Build, Counts, exhaust
from intaglio.ops.registry import REGISTRY
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike

_BINARY: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
_UNARY: dict[type[ast.AST], str] = {ast.USub: "neg", ast.Invert: "not"}
_FREE = ("broadcast", "reshape", "transpose")
MAX_UNIFORM = 4096

Env = dict[str, Any]
Matcher = Callable[[Value, Env], bool]
Pairs = tuple[tuple[IndexLike, IndexLike], ...]


def number_of(value: Value) -> Any:
    """The NumPy number that a constant (seen through views) is everywhere, else None."""
    while value.node is not None and value.node.op.name in _FREE:
        value = value.node.inputs[0]
    data = value.data
    if value.source != "constant" or data is None or not 0 < data.size <= MAX_UNIFORM:
        return None
    first = data.reshape(-1)[0]
    if data.size > 1 and data.tobytes() != first.tobytes() * data.size:
        return None
    return first


def is_number(value: Value, wanted: float) -> bool:
    """Whether the value is this number everywhere; the sign of a zero counts."""
    found = number_of(value)
    if found is None or value.dtype.kind == "bool":
        return False
    number = float(found)
    return number == wanted and (wanted != 0 or math.copysign(1, number) == math.copysign(1, wanted))


@dataclass(frozen=True)
class Rule:
    """`text` is `pattern -> replacement`; see the head of the file.

    `sample` describes operands for the test of the rule, and the attributes the left side names:
    `x: f32[3,4], p=(1, 0)`. `exact` is False where a sum is left out, whose zero has no certain sign.
    """

    name: str
    text: str
    when: str = ""
    sample: str = "x: f32[3,4], y: f32[3,4], z: f32[3,4]"
    exact: bool = True

    @property
    def pattern(self) -> str:
        return self.text.split(" -> ")[0]

    @property
    def replacement(self) -> str:
        return self.text.split(" -> ")[1]

    @cached_property
    def tree(self) -> ast.expr:
        return ast.parse(self.pattern, mode="eval").body

    @cached_property
    def root(self) -> str:
        """The operator the pattern begins with."""
        return _operator(self.tree)

    @cached_property
    def _operands(self) -> Callable[[Sequence[Value], Mapping[str, Any], Env], bool]:
        return _operands_matcher(self.tree)

    @cached_property
    def _condition(self) -> Any:
        return compile(self.when, self.name, "eval") if self.when else None

    @cached_property
    def _code(self) -> Any:
        return compile(self.replacement, self.name, "eval")

    def match(self, node: Node, operands: Sequence[Value]) -> Env | None:
        """What the pattern's names stand for when it fits the node on these operands."""
        env: Env = {}
        if not self._operands(operands, node.attrs, env):
            return None
        env["result"] = node.outputs[0]
        return env if self._condition is None or eval(self._condition, HELPERS, env) else None

    def build(self, env: Env) -> Value:
        """Append the replacement to the graph of the matched values."""
        made = eval(self._code, _functions(len(REGISTRY)), env)
        if isinstance(made, Value):
            return made
        like = next(v for k, v in env.items() if isinstance(v, Value) and k != "result")
        return full(like.graph, made, env["result"])


def _operator(tree: ast.AST) -> str:
    if isinstance(tree, ast.BinOp):
        return _BINARY[type(tree.op)]
    if isinstance(tree, ast.UnaryOp):
        return _UNARY[type(tree.op)]
    assert isinstance(tree, ast.Call)
    assert isinstance(tree.func, ast.Name)
    return tree.func.id.rstrip("_")


def _literal(tree: ast.AST) -> float | None:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float)):
        return tree.value
    if (
        isinstance(tree, ast.UnaryOp)
        and isinstance(tree.op, ast.USub)
        and isinstance(tree.operand, ast.Constant)
    ):
        return -float(str(tree.operand.value))
    return None


def _matcher(tree: ast.AST) -> Matcher:
    number = _literal(tree)
    if number is not None:
        wanted = number
        return lambda value, env: is_number(value, wanted)
    if isinstance(tree, ast.Name):
        name = tree.id
        return lambda value, env: env.setdefault(name, value) is value
    op, inner = _operator(tree), _operands_matcher(tree)

    def matches(value: Value, env: Env) -> bool:
        node = value.node
        return node is not None and node.op.name == op and inner(node.inputs, node.attrs, env)

    return matches


def _operands_matcher(tree: ast.AST) -> Callable[[Sequence[Value], Mapping[str, Any], Env], bool]:
    keywords: list[ast.keyword] = []
    if isinstance(tree, ast.BinOp):
        args: list[ast.expr] = [tree.left, tree.right]
    elif isinstance(tree, ast.UnaryOp):
        args = [tree.operand]
    else:
        assert isinstance(tree, ast.Call)
        args, keywords = tree.args, tree.keywords
    matchers = [_matcher(arg) for arg in args]
    named = [(str(k.arg), k.value) for k in keywords]

    def matches(operands: Sequence[Value], attrs: Mapping[str, Any], env: Env) -> bool:
        if len(operands) != len(matchers):
            return False
        for matcher, operand in zip(matchers, operands, strict=True):
            if not matcher(operand, env):
                return False
        for name, wanted in named:
            if isinstance(wanted, ast.Name):
                held = env.setdefault(wanted.id, attrs[name])
                if held is not attrs[name] and repr(held) != repr(attrs[name]):
                    return False
            elif attrs[name] != ast.literal_eval(wanted):
                return False
        return True

    return matches


def full(graph: Graph, number: Any, like: Value) -> Value:
    """One number in the type of `like`."""
    scalar = graph.constant(np.asarray(number, like.dtype.numpy))
    if not like.shape:
        return scalar
    return graph.append(REGISTRY["broadcast"], [scalar], {"shape": like.shape})[0]


@cache
def _functions(count: int) -> dict[str, Any]:
    """What the right side of a rule may call: every operator (`count` of them) and the helpers."""
    operators = {name + "_" * keyword.iskeyword(name): op for name, op in REGISTRY.items()}
    return {**operators, **HELPERS}


def scalar(value: Value) -> Value:
    """A constant without axes for a value that is one number everywhere."""
    return value.graph.constant(np.asarray(number_of(value), value.dtype.numpy))


def is_spread(value: Value) -> bool:
    """Whether a value is one number along axes."""
    return value.type.rank > 0 and number_of(value) is not None


def moves_only_ones(shape: Sequence[IndexLike], perm: tuple[int, ...]) -> bool:
    """Whether a transpose keeps the order of all axes that are longer than 1."""
    kept = [axis for axis in perm if shape[axis] != 1]
    return kept == sorted(kept)


def add_pairs(p: Pairs, q: Pairs) -> Pairs:
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(p, q, strict=True))


def all_positive(*paddings: Pairs) -> bool:
    return all(isinstance(k, int) and k >= 0 for padding in paddings for pair in padding for k in pair)


def all_ones(steps: Sequence[int]) -> bool:
    return all(step == 1 for step in steps)


def add_each(a: Sequence[IndexLike], b: Sequence[IndexLike]) -> tuple[IndexLike, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def pick(items: Sequence[Any], places: Sequence[int]) -> tuple[Any, ...]:
    return tuple(items[k] for k in places)


def merge_axes(inner: tuple[int, ...], outer: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of two reductions, the inner one first, as axes of its operand."""
    left = [
        k for k in range(max((*inner, *outer), default=0) + len(inner) + len(outer) + 1) if k not in inner
    ]
    return tuple(sorted((*inner, *(left[k] for k in outer))))


def keeps_order(perm: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether the axes that a reduction of a transpose leaves are in the order of its operand."""
    kept = [axis for k, axis in enumerate(perm) if k not in axes]
    return kept == sorted(kept)


def count(shape: Sequence[IndexLike], axes: Sequence[int]) -> int:
    """Number of elements along axes; 0 when it is not known."""
    extents = pick(shape, axes)
    return math.prod(extents) if all(isinstance(extent, int) for extent in extents) else 0


def compose(inner: tuple[int, ...], outer: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation of two transposes, the inner one first."""
    return tuple(inner[k] for k in outer)


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def is_float(value: Value) -> bool:
    return value.dtype.is_float


def is_whole(value: Value) -> bool:
    """Whether the elements are integers or truth values, whose arithmetic is exact."""
    return not value.dtype.is_float


def is_constant(value: Value) -> bool:
    return number_of(value) is not None


def is_true(value: Value) -> bool:
    return value.dtype.kind == "bool" and bool(number_of(value))


def is_false(value: Value) -> bool:
    found = number_of(value) if value.dtype.kind == "bool" else None
    return found is not None and not found


def power_of_two(value: Value) -> bool:
    """Whether the value is one power of two whose reciprocal is a number of the type, too."""
    number = number_of(value)
    if number is None or not value.dtype.is_float:
        return False
    mantissa, _ = math.frexp(float(number))
    with np.errstate(all="ignore"):
        reciprocal = value.dtype.numpy.type(1) / number
    return abs(mantissa) == 0.5 and bool(np.isfinite(reciprocal)) and float(1 / reciprocal) == float(number)


def number(value: Value) -> Any:
    """The number of a uniform constant as Python's."""
    found = number_of(value)
    if found is None:
        raise UnsupportedError(f"{value!r} is not one number")
    return found.item() if not value.dtype.is_float else float(found)


def keeps_values(source: Any, target: Any) -> bool:
    """Whether every number of one element type is exactly one of another."""
    if source == target or source.kind == "bool":
        return True
    if source.is_float:
        wider = {"f16": ("f32", "f64"), "bf16": ("f32", "f64"), "f32": ("f64",)}
        return target.name in wider.get(source.name, ())
    if target.is_float:
        bits = 8 * source.size - (source.kind == "int")
        return bool(bits <= {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}[target.name])
    if source.kind == target.kind:
        return bool(target.size >= source.size)
    return bool(source.kind == "uint" and target.kind == "int" and target.size > source.size)


HELPERS: dict[str, Any] = {
    f.__name__: f
    for f in (
        add_each,
        add_pairs,
        all_ones,
        all_positive,
        compose,
        count,
        inverse,
        is_constant,
        is_false,
        is_float,
        is_number,
        is_true,
        is_whole,
        is_spread,
        keeps_order,
        keeps_values,
        merge_axes,
        moves_only_ones,
        number,
        pick,
        scalar,
        power_of_two,
    )
}


class RuleSet:
    """Rules by the operator they begin with; `firings` counts how often each was used."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.firings = dict.fromkeys((rule.name for rule in rules), 0)
        assert len(self.firings) == len(rules), "two rules have one name"

    @cached_property
    def by_root(self) -> dict[str, list[Rule]]:
        found: dict[str, list[Rule]] = {}
        for rule in self.rules:
            found.setdefault(rule.root, []).append(rule)
        return found

    def find(self, node: Node, operands: Sequence[Value], counts: Counts) -> Build | None:
        """The first rule that fits, ready to be built."""
        for rule in self.by_root.get(node.op.name, ()):
            env = rule.match(node, operands)
            if env is not None:
                return partial(self._build, rule, env)
        return None

    def _build(self, rule: Rule, env: Env) -> list[Value]:
        self.firings[rule.name] += 1
        return [rule.build(env)]

    def apply(self, graph: Graph) -> Graph:
        """The graph with all rules used until none fits; the graph itself when none does."""
        return exhaust(graph, [self.find])
