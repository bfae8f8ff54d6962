"""The registry tests itself: shape rule, loops and C against the oracle, derivative, errors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from cases import CONTROL, Case, cases, ulps

from intaglio.compile import compile_graph
from intaglio.graph.eval import evaluate as evaluate_graph
from intaglio.graph.grad import gradient
from intaglio.graph.ir import Graph
from intaglio.loop.eval import evaluate as evaluate_loops
from intaglio.loop.lower import lower
from intaglio.loop.memory import plan_memory
from intaglio.loop.spec import verify
from intaglio.ops import all_ops, evaluate, lookup, type_of
from intaglio.shared.dtypes import bool_, f32, i64
from intaglio.shared.errors import DTypeError, IntaglioError
from intaglio.shared.target import GENERIC, Target
from intaglio.shared.types import TensorType

ALL = list(cases())
IDS = [case.label for case in ALL]


def graph_of(case: Case) -> Graph:
    graph = Graph("g")
    values = [graph.input(type_of(a), f"x{k}") for k, a in enumerate(case.arrays)]
    graph.set_outputs(graph.append(case.op, values, case.attrs))
    return graph


def expected(case: Case) -> tuple[Any, ...]:
    results = evaluate(case.op, case.arrays, case.attrs)
    return results if isinstance(results, tuple) else (results,)


def tolerance(case: Case) -> float:
    return case.op.tolerance + 1


@pytest.mark.parametrize("case", ALL, ids=IDS)
def test_shape_rule_agrees_with_the_oracle(case: Case) -> None:
    inferred = case.op.infer([type_of(a) for a in case.arrays], case.attrs)
    with np.errstate(all="ignore"):
        raw = case.op.ref(*case.arrays, **case.attrs)
    results = raw if isinstance(raw, tuple) else (raw,)
    assert [t.shape for t in inferred] == [np.shape(r) for r in results]


@pytest.mark.parametrize("vector_bytes", [0, 64])
@pytest.mark.parametrize("case", ALL, ids=IDS)
def test_loops_agree_with_the_oracle(case: Case, vector_bytes: int) -> None:
    target = Target("test", vector_bytes, 32) if vector_bytes else GENERIC
    program = plan_memory(lower(graph_of(case), target)[0])
    verify(program)
    arrays = {f"x{k}": np.array(a, order="C") for k, a in enumerate(case.arrays)}
    for buffer in program.outputs:
        arrays[buffer.name] = np.zeros([int(e) for e in buffer.shape], buffer.dtype.numpy)
    evaluate_loops(program, arrays)
    for want, buffer in zip(expected(case), program.outputs, strict=True):
        assert ulps(want, arrays[buffer.name]) <= tolerance(case)


@pytest.mark.parametrize("case", ALL, ids=IDS)
def test_c_agrees_with_the_oracle(case: Case) -> None:
    compiled = compile_graph(graph_of(case), threads=1, opt_level=0, opt="fast-compile", target="generic")
    for want, got in zip(expected(case), compiled.run_arrays(case.arrays), strict=True):
        assert want.dtype == got.dtype
        assert ulps(want, got) <= tolerance(case)


def differentiable() -> list[Case]:
    """Cases of f64 with a derivative, but for `detach`, whose is not that of its values, and roundings."""
    return [
        case
        for case in cases(("f8",))
        if case.op.grad is not None
        and case.op.name != "detach"
        and any(np.asarray(a).dtype.kind == "f" and np.size(a) for a in case.arrays)
        and any(
            t.dtype.is_float and t.dtype.size >= 4
            for t in case.op.infer([type_of(a) for a in case.arrays], case.attrs)
        )
    ]


def weighted(case: Case) -> tuple[Graph, list[Any], list[Any]]:
    """A graph of sum(weights * results), its inputs, and those to differentiate by."""
    arrays = [np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else a for a in case.arrays]
    graph = graph_of(Case(case.op, tuple(arrays), case.attrs, case.label))
    rng = np.random.default_rng(5)
    total: Any = None
    for y in graph.outputs:
        if y.dtype.is_float:
            weights = graph.constant(rng.standard_normal(y.shape))
            part = y * weights
            part = lookup("sum")(part, axes=tuple(range(part.type.rank))) if part.type.rank else part
            total = part if total is None else total + part
    graph.set_outputs([total])
    floats = [v for v in graph.inputs if v.dtype.is_float]
    return graph, arrays, floats


@pytest.mark.parametrize("case", differentiable(), ids=lambda c: c.label)
def test_derivative_agrees_with_finite_differences(case: Case) -> None:
    graph, arrays, floats = weighted(case)
    rng = np.random.default_rng(9)
    gradients = gradient(graph, graph.outputs[0], floats)
    direction = {v: rng.standard_normal(v.shape) for v in floats}
    step = 1e-6

    def value(t: float) -> float:
        moved = [
            a + t * direction[v] if v in direction else a for v, a in zip(graph.inputs, arrays, strict=True)
        ]
        plain, _, _ = weighted(Case(case.op, tuple(moved), case.attrs, case.label))
        return float(evaluate_graph(plain, moved)[0][0])

    slope = (value(step) - value(-step)) / (2 * step)
    graph.set_outputs(gradients)
    results, _ = evaluate_graph(graph, arrays)
    got = sum(float(np.sum(np.asarray(r) * direction[v])) for r, v in zip(results, floats, strict=True))
    assert got == pytest.approx(slope, rel=2e-5, abs=1e-6)


def test_every_operator_has_a_case_and_a_doc() -> None:
    covered = {case.op.name for case in ALL} | set(CONTROL)
    for op in all_ops():
        assert op.name in covered
        assert op.doc.endswith((".", ")")), f"{op.name} has no sentence saying what it is"


@pytest.mark.parametrize("op", [o for o in all_ops() if o.name not in CONTROL], ids=lambda o: o.name)
def test_wrong_calls_are_refused_with_the_formula(op: Any) -> None:
    """Too many operands, none, and an attribute that does not exist: each error names the operator."""
    case = next(c for c in ALL if c.op is op)
    types = [type_of(a) for a in case.arrays]
    wrong = [(types, {**case.attrs, "colour": 1})]
    if op.infer_rule is None or not any(
        p.kind == p.VAR_POSITIONAL for p in inspect.signature(op.infer_rule).parameters.values()
    ):
        wrong.append(([*types, TensorType(f32, (2,))], case.attrs))
    if types:
        wrong.append(([], case.attrs))
    for operands, attrs in wrong:
        with pytest.raises(IntaglioError) as caught:
            op.infer(operands, attrs)
        assert str(caught.value).startswith(op.name)
        assert op.formula in str(caught.value)


@pytest.mark.parametrize(
    "op", [o for o in all_ops() if "any" not in o.accepts and o.name not in CONTROL], ids=lambda o: o.name
)
def test_wrong_element_types_are_refused(op: Any) -> None:
    """Every operator names itself, the operand and what it takes."""
    case = next(c for c in ALL if c.op is op)
    wrong = {"float": i64, "number": bool_, "int": f32, "bits": f32, "bool": f32}[op.accepts[0]]
    types = [TensorType(wrong, type_of(a).shape) for a in case.arrays]
    with pytest.raises(DTypeError) as caught:
        op.infer(types, case.attrs)
    assert str(caught.value).startswith(f"{op.name}: operand 0 is {types[0]}")
    assert op.formula in str(caught.value)
