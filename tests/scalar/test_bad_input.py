"""What is wrong with a graph or a call: an error that says so, or what the interpreter does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from intaglio import scalar
from intaglio.scalar import Value
from intaglio.scalar.program import Program
from intaglio.shared.errors import (
    ArgumentError,
    DTypeError,
    IntaglioError,
    ShapeError,
    TraceError,
    UnsupportedError,
)

ENGINES: dict[str, dict[str, Any]] = {
    "interpreted": {"engine": "interpreted"},
    "straight": {"engine": "straight", "toolchain": "tcc"},
    "rerolled": {"toolchain": "tcc"},
}


def cycle(length: int) -> Program:
    first = Value(1.0)
    last = first
    for _ in range(length):
        last = last * 2
    middle = last._prev[0] if length > 1 else last
    middle._prev = (last, *middle._prev[1:]) if middle._prev else (last, last)
    return scalar.compile(last, [])


def foreign() -> Program:
    engine = pytest.importorskip("micrograd.engine")
    return scalar.compile(Value(1.0) * 2, [engine.Value(1.0)])


def of(expression: Callable[..., Any], **options: Any) -> Program:
    """A program of one input 1.0 and one parameter 2.0."""
    a, w = Value(1.0), Value(2.0)
    return scalar.compile(expression(a, w), [a], [w], toolchain="tcc", **options)


WRONG_GRAPHS: list[tuple[Callable[[], Any], type[IntaglioError], str]] = [
    (lambda: cycle(1), TraceError, "a value depends on itself: the graph has a cycle"),
    (lambda: cycle(5), TraceError, "a value depends on itself: the graph has a cycle"),
    (lambda: scalar.compile(3.0, []), ArgumentError, "output 0 is a float, not a Value"),
    (lambda: scalar.compile(Value(1.0), [1.0]), ArgumentError, "input 0 is a float, not a Value"),
    (lambda: scalar.compile(Value(1.0), Value(1.0)), ArgumentError, "inputs is a Value, not a sequence"),
    (lambda: scalar.compile([], []), ArgumentError, "there is no output"),
    (
        lambda: of(lambda a, w: scalar.compile(a * w, [a], [a])),
        ArgumentError,
        "parameter 0 is already input 0",
    ),
    (lambda: of(lambda a, w: scalar.compile(a * w, [a], [w, w])), ArgumentError, "already parameter 0"),
    (
        lambda: of(lambda a, w: scalar.compile(a * w, [a, a], [w])),
        ArgumentError,
        "input 1 is already input 0",
    ),
    (
        lambda: of(lambda a, w: scalar.compile(a, [a], [w * 2])),
        ArgumentError,
        r"parameter 0 is computed \(\*\)",
    ),
    (foreign, ArgumentError, "input 0 is a micrograd.engine.Value, unlike output 0"),
    (lambda: scalar.compile(Value("a"), []), ArgumentError, r"'a' \(leaf\) is no double"),  # type: ignore[arg-type]
    (lambda: scalar.compile(Value(10**400), []), ArgumentError, "is no double: int too large"),
    (
        lambda: scalar.compile(Value(1.0, (Value(2.0),), "sin"), []),
        UnsupportedError,
        "operator 'sin' is not known",
    ),
    (lambda: scalar.compile(Value(1.0, (Value(2.0),), "+"), []), TraceError, r"'\+' takes 2 operands, not 1"),
    (lambda: scalar.compile(Value(1.0, (Value(2.0),) * 3, "+"), []), UnsupportedError, "has 3 operands"),
    (lambda: scalar.compile(Value(1.0), [], engine="x"), ArgumentError, "engine is 'x'"),  # type: ignore[arg-type]
    (lambda: scalar.compile(Value(1.0), [], level="-O9"), ArgumentError, "level is '-O9'"),
]


@pytest.mark.parametrize(("make", "error", "text"), WRONG_GRAPHS)
def test_a_wrong_graph_is_refused(make: Callable[[], Any], error: type[IntaglioError], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


WRONG_OPERANDS: list[tuple[Callable[[Value], Any], type[Exception], str]] = [
    (lambda v: v + "a", DTypeError, "the other operand is a str, neither a Value nor a number"),  # type: ignore[operator]
    (lambda v: None * v, DTypeError, "the other operand is a NoneType"),  # type: ignore[operator]
    (lambda v: v * np.ones(2), DTypeError, "the other operand is a numpy.ndarray"),
    (lambda v: v.max([1]), DTypeError, "max: the other operand is a list"),  # type: ignore[arg-type]
    (lambda v: v**v, DTypeError, "the exponent is a Value, not an int or a float"),  # type: ignore[operator]
    (lambda v: (v * -1) ** 0.5, DTypeError, "-1.0 to the power 0.5 is no real number"),
    (lambda v: (v * 0) ** -1, ZeroDivisionError, "negative power"),
    (lambda v: 1 / (v * 0), ZeroDivisionError, "negative power"),
    (lambda v: (v * -1).log(), ValueError, "math domain error"),
    (lambda v: (v * 1000).exp(), OverflowError, "math range error"),
]


@pytest.mark.parametrize(("apply", "error", "text"), WRONG_OPERANDS)
def test_a_wrong_operand_is_refused(apply: Callable[[Value], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        apply(Value(1.0))


def test_values_of_two_packages_do_not_mix() -> None:
    engine = pytest.importorskip("micrograd.engine")
    with pytest.raises(
        DTypeError, match=r"micrograd.engine.Value, neither a Value nor a number\n.*one package"
    ):
        Value(1.0) + engine.Value(2.0)
    mixed = engine.Value(2.0) * Value(1.0)
    with pytest.raises(ArgumentError):
        scalar.compile(mixed, [])


def test_numbers_of_numpy_are_operands() -> None:
    assert (Value(2.0) * np.float32(1.5) + np.int64(3)).data == 6.0


PARTIAL: dict[str, tuple[Callable[[Value, Value], Value], float, type[Exception]]] = {
    "0 ** -1": (lambda a, w: a**-1 * w, 0.0, ZeroDivisionError),
    "log of a negative": (lambda a, w: a.log() * w, -1.0, ValueError),
    "log of 0": (lambda a, w: a.log() * w, 0.0, ValueError),
    "root of a negative": (lambda a, w: a**0.5 * w, -1.0, ArgumentError),
    "exp of a large number": (lambda a, w: (a * w).exp() + w, 1000.0, OverflowError),
    "power too large": (lambda a, w: (a * w) ** 3, 1e200, OverflowError),
    "derivative of a root at 0": (lambda a, w: (a * w) ** 0.5, 0.0, ZeroDivisionError),
    "derivative too large": (lambda a, w: (a * w) ** -1, 1e-200, OverflowError),
    "log of NaN's opposite": (lambda a, w: (a * w - a * w * 2).log(), 3.0, ValueError),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PARTIAL)
def test_what_python_refuses_is_refused_and_changes_nothing(name: str, engine: str) -> None:
    expression, x, error = PARTIAL[name]
    a, w = Value(1.0), Value(2.0)
    try:
        loss = expression(a, w)
    except ValueError:
        a = Value(-1.0)
        loss = expression(a, w)
    program = scalar.compile((loss, w), [a], [w], **ENGINES[engine])
    with pytest.raises(error):
        program.step([x], 0.1)
    assert program.data(w) == 2.0
    with pytest.raises(error):
        program.train(np.array([[a.data], [x]]), 0.0)
    before = program.step([a.data], 0.0)
    assert before == (loss.data, 2.0)


NUMBERS = [float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, -0.0, 0.0, 3, True]


@pytest.mark.parametrize("engine", ["straight", "rerolled"])
def test_numbers_of_every_kind_go_as_the_interpreter_has_them(engine: str) -> None:
    def build(options: dict[str, Any]) -> tuple[Program, list[Value]]:
        a, b, w = Value(1.0), Value(2.0), Value(-3.0)
        loss = (a * w).relu() + a.max(b) * a + (b * w).tanh() - w.max(b * a)
        return scalar.compile((loss, a.max(b)), [a, b], [w], **options), [a, b, w]

    (expected, values), (found, own) = build(ENGINES["interpreted"]), build(ENGINES[engine])
    for x in NUMBERS:
        for y in NUMBERS:
            for p, q in zip(values, own, strict=True):
                p.data = q.data = {0: x, 1: y}.get(len(values), -3.0)
            expected.load()
            found.load()
            np.testing.assert_array_equal(found.step([x, y], 0.1), expected.step([x, y], 0.1))
            for p, q in zip(values, own, strict=True):
                assert repr(found.data(q)) == repr(expected.data(p))
                assert repr(found.grad(q)) == repr(expected.grad(p))


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_may_be_leaves_constants_and_repeated(engine: str) -> None:
    a, w, k = Value(3.0), Value(2.0), Value(5.0) * 2
    loss = a * w
    program = scalar.compile((loss, a, w, k, loss), [a], [w], **ENGINES[engine])
    assert program.step([4.0], 0.5) == (8.0, 4.0, 2.0, 10.0, 8.0)
    assert program.step([4.0], 0.5) == (0.0, 4.0, 0.0, 10.0, 0.0)
    assert (program.data(w), program.grad(w), program.grad(k)) == (-2.0, 4.0, 0.0)
    results = program.train(np.full((2, 1), 4.0), 0.5)
    np.testing.assert_array_equal(results[:, 2], [-2.0, -4.0])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loss_may_be_a_leaf_or_a_constant(engine: str) -> None:
    w = Value(2.0)
    program = scalar.compile(w, [], [w], **ENGINES[engine])
    assert (program.step([], 0.25), program.data(w), program.grad(w)) == (2.0, 1.75, 1.0)
    a = Value(2.0)
    program = scalar.compile(a, [a], [], **ENGINES[engine])
    assert (program.step([7], 0.1), program.grad(a)) == (7.0, 1.0)
    constant = Value(2.0) * 3
    program = scalar.compile(constant, [], [], **ENGINES[engine])
    assert (program.step([], 0.1), program.grad(constant)) == (6.0, 1.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_values_no_output_depends_on(engine: str) -> None:
    a, w, unread, unused = Value(3.0), Value(2.0), Value(1.0), Value(5.0)
    program = scalar.compile(a * w, [a, unread], [w, unused], **ENGINES[engine])
    assert program.step([1, 9], 0.5) == 2.0
    assert [program.data(v) for v in (a, unread, w, unused)] == [1.0, 9.0, 1.5, 5.0]
    assert [program.grad(v) for v in (unread, unused)] == [0.0, 0.0]
    with pytest.raises(ArgumentError, match="no output, input or parameter of the program"):
        program.data(Value(3.0))


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_calls(engine: str) -> None:
    a, w = Value(3.0), Value(2.0)
    program = scalar.compile(a * w, [a], [w], **ENGINES[engine])
    with pytest.raises(ShapeError, match="has 1 inputs but 2 values were given"):
        program.step([1.0, 2.0], 0.1)
    for wrong in (["x"], ["1.5"], None, [None], [1j], np.array(["2020-01-01"], "M8[D]")):
        with pytest.raises(DTypeError, match="inputs must be numbers"):
            program.step(wrong, 0.1)
        with pytest.raises(DTypeError, match="inputs must be numbers"):
            program.train([wrong], 0.1)
    with pytest.raises(DTypeError, match="the learning rate is 'x', which is no number"):
        program.step([1.0], "x")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no gradients yet"):
        program.update(0.1)
    with pytest.raises(ArgumentError, match="no gradients yet"):
        program.grad(w)
    with pytest.raises(ArgumentError, match="no results yet"):
        program.backward()
    program.set_input(np.array([2], np.uint8))
    assert program.forward() == 4.0
    with pytest.raises(ArgumentError, match="no gradients yet"):
        program.update(0.1)
    program.backward()
    program.update(0.5)
    assert (program.data(w), program.grad(w)) == (1.0, 2.0)
    program.set_input([5.0])
    with pytest.raises(ArgumentError, match="no gradients yet"):
        program.grad(w)


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_of_inputs_raise_where_there_are_no_parameters(engine: str) -> None:
    a = Value(1.0)
    program = scalar.compile((a * 1.0) ** 0.5, [a], **ENGINES[engine])
    assert program.step([4.0], 0.1) == 2.0
    with pytest.raises(ZeroDivisionError):
        program.step([0.0], 0.1)
