"""Comments of generated C say what the loops below them compute."""

from __future__ import annotations

from scalar_models import perceptron, softmax_nll, values

from intaglio import scalar
from intaglio.scalar import Value


def comments(source: str) -> list[str]:
    lines = [line.lstrip() for line in source.splitlines() if line.startswith(("/* ", " * "))]
    return [line.strip("/* ").split("  (")[0] for line in lines]


def test_a_perceptron() -> None:
    model = perceptron()
    source = scalar.compile(model.outputs[0], model.inputs, model.parameters, toolchain="tcc").source
    told = comments(source)
    for line in (
        "z1 = b1 + sum of 20 (w1 * x1)",
        "h = relu(z1)",
        "d_z1 = (h > 0) * d_h",
        "w1 -= lr * (x1 * d_z1)",
        "b1 -= lr * d_z1",
    ):
        assert line in told, line
    assert not any("0 + " in line for line in told)


def test_single_numbers_have_their_place() -> None:
    logits, targets = values(6, 1), values(6, 2)
    source = scalar.compile(softmax_nll(logits, targets), [*logits, *targets], toolchain="tcc").source
    told = [line for line in comments(source) if line.startswith("scalars[")]
    assert any(line.endswith("] = e[0] + ... + e[5]") for line in told)
    assert any("] = pow(scalars[" in line for line in told)


def test_brackets_are_those_of_the_order() -> None:
    a, b, c = Value(1.0), Value(2.0), Value(3.0)
    outputs = (a * (b * c), a * b * c, (a + b) * c)
    program = scalar.compile(outputs, [a, b, c], toolchain="tcc", input_gradients=False)
    told = " ".join(comments(program.source))
    for text in ("x[0] * (x[1] * x[2])", "= x[0] * x[1] * x[2]", "(x[0] + x[1]) * x[2]"):
        assert text in told, told
