"""Winograd's convolution: against the operators' NumPy oracles, where it is chosen, and how it rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recipe_cases import AVX2, AVX512, program_of, run, types_of

import intaglio
from intaglio import nn
from intaglio.loop.recipes.winograd_transforms import F2, F4, Transform
from intaglio.ops.registry import lookup
from intaglio.shared.errors import ArgumentError

RNG = np.random.default_rng(0)


def attributes(padding: int | tuple[int, int] = 1, groups: int = 1) -> dict[str, Any]:
    pads = padding if isinstance(padding, tuple) else (padding, padding)
    return {"strides": (1, 1), "dilations": (1, 1), "padding": (pads, pads), "groups": groups}


# n, ins, outs, size, attributes
CASES = [
    (1, 16, 16, (8, 8), attributes()),
    (1, 32, 48, (9, 13), attributes()),
    (2, 17, 40, (7, 7), attributes()),
    (1, 16, 32, (12, 6), attributes(padding=0)),
    (2, 32, 64, (5, 10), attributes(padding=2, groups=2)),
    (1, 16, 16, (6, 7), attributes(padding=(2, 0))),
    (3, 24, 16, (30, 30), attributes(padding=(0, 3))),
    (1, 16, 16, (3, 1), attributes()),
    (2, 32, 16, (14, 14), attributes()),
]


def is_winograd(program: Any) -> bool:
    return any("Winograd" in note for kernel in program.kernels for note in kernel.schedule)


@pytest.mark.parametrize(
    ("op", "target", "accuracy"),
    [
        ("conv", AVX512, "standard"),
        ("conv", AVX2, "relaxed"),
        ("conv_dx", AVX512, "relaxed"),
        ("conv_dx", AVX2, "standard"),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(op, case, target, accuracy) -> None:
    n, ins, outs, size, attrs = case
    x = RNG.standard_normal((n, ins, *size)).astype(np.float32)
    w = RNG.standard_normal((outs, ins // attrs["groups"], 3, 3)).astype(np.float32)
    if op == "conv_dx":
        x = np.ones(lookup("conv").infer(types_of(x, w), attrs)[0].shape, np.float32) * RNG.standard_normal()
        attrs = attrs | {"size": size}
    program = program_of(op, types_of(x, w), attrs, target, accuracy=accuracy)
    assert program is not None
    want = lookup(op).ref(x.astype(np.float64), w.astype(np.float64), **attrs)
    error = 2e-6 if accuracy == "standard" else 1e-5
    np.testing.assert_allclose(run(program, [x, w]), want, atol=error * max(1.0, np.abs(want).max()))


# n, ins, outs, size, attributes; the last ones have parts for threads, and many chunks
WEIGHT_CASES = [
    (2, 16, 16, (8, 8), attributes()),
    (3, 17, 40, (7, 9), attributes(padding=(1, 0))),
    (1, 33, 18, (6, 12), attributes(padding=0)),
    (2, 16, 24, (5, 5), attributes(padding=2)),
    (6, 32, 64, (14, 14), attributes()),
    (4, 128, 130, (7, 7), attributes()),
]


@pytest.mark.parametrize(("target", "accuracy"), [(AVX512, "standard"), (AVX2, "relaxed")], ids=str)
def test_gradients_of_weights(target, accuracy) -> None:
    used = 0
    for n, ins, outs, size, attrs in WEIGHT_CASES:
        x = RNG.standard_normal((n, ins, *size)).astype(np.float32)
        kernel = np.ones((outs, ins, 3, 3), np.float32)
        shape = lookup("conv").infer(types_of(x, kernel), attrs)[0].shape
        g = RNG.standard_normal(shape).astype(np.float32)
        attrs = attrs | {"kernel": (3, 3)}
        program = program_of("conv_dw", types_of(x, g), attrs, target, accuracy=accuracy)
        assert program is not None
        used += is_winograd(program)
        want = lookup("conv_dw").ref(x.astype(np.float64), g.astype(np.float64), **attrs)
        error = (2e-6 if accuracy == "standard" else 2e-5) * np.abs(want).max()
        np.testing.assert_allclose(run(program, [x, g]), want, atol=error)
    assert used >= 3


def test_where_it_is_used() -> None:
    x, w = np.ones((1, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
    for accuracy, expected in (("high", False), ("standard", True), ("relaxed", True)):
        program = program_of("conv", types_of(x, w), attributes(), AVX512, accuracy=accuracy)
        assert is_winograd(program) == expected
    strided = attributes() | {"strides": (2, 2)}
    assert not is_winograd(program_of("conv", types_of(x, w), strided, AVX512))
    few = np.ones((64, 3, 3, 3), np.float32)
    assert not is_winograd(program_of("conv", types_of(x[:, :3], few), attributes(), AVX512))


@pytest.mark.parametrize("transform", [F2, F4], ids=["F2", "F4"])
def test_the_matrices_are_exact_in_one_dimension(transform: Transform) -> None:
    source, kernel, result = (
        np.array(m, np.float64) for m in (transform.source, transform.kernel, transform.result)
    )
    d, g = RNG.standard_normal(transform.frequencies), RNG.standard_normal(3)
    want = [d[k : k + 3] @ g for k in range(transform.tile)]
    np.testing.assert_allclose(result @ ((source @ d) * (kernel @ g)), want, atol=1e-13)


def test_compiled_models_round_as_said() -> None:
    """The largest error over the largest result: tiles of 2 by 2 are as good as the plain sums."""
    layers = [nn.Conv2d(32, 32, 3, padding=1) for _ in range(3)]
    x = RNG.standard_normal((1, 32, 20, 20)).astype(np.float32)
    want = x.astype(np.float64)
    for layer in layers:
        w, b = (np.asarray(p.numpy(), np.float64) for p in (layer.weight, layer.bias))
        want = lookup("conv").ref(want, w, **attributes()) + b[:, None, None]
    errors = {}
    for accuracy in ("high", "standard", "relaxed"):
        compiled = intaglio.compile(nn.Sequential(*layers), [x], accuracy=accuracy)
        assert is_winograd(compiled.program) == (accuracy != "high")
        errors[accuracy] = np.abs(compiled(x) - want).max() / np.abs(want).max()
    assert errors["standard"] < 2 * errors["high"] + 1e-7
    assert errors["relaxed"] < 5e-5
    with pytest.raises(ArgumentError, match="accuracy"):
        intaglio.compile(nn.Sequential(*layers), [x], accuracy="low")
