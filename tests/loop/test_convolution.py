"""Convolution recipes against the operators' NumPy oracles, by the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recipe_cases import AVX2, AVX512, program_of, run, types_of

from intaglio.loop.text import print_program
from intaglio.ops.registry import lookup
from intaglio.shared.dtypes import f32
from intaglio.shared.index import variable
from intaglio.shared.types import TensorType

RNG = np.random.default_rng(0)


def window(rank: int, stride=1, dilation=1, padding=(0, 0), groups=1) -> dict[str, Any]:
    many = lambda v: v if isinstance(v, tuple) and isinstance(v[0], tuple) else (v,) * rank
    return {"strides": many(stride), "dilations": many(dilation), "padding": many(padding), "groups": groups}


# n, ins, outs, size, kernel, window
CASES = [
    (2, 1, 16, (28, 28), (3, 3), window(2, padding=(1, 1))),
    (2, 1, 6, (28, 28), (5, 5), window(2)),
    (3, 16, 32, (14, 14), (3, 3), window(2, padding=(1, 1))),
    (2, 4, 8, (7, 7), (5, 5), window(2, padding=(2, 2))),
    (1, 3, 5, (9, 12), (3, 2), window(2, padding=((1, 0), (0, 1)))),
    (2, 3, 8, (11, 13), (3, 3), window(2, stride=2, padding=(1, 1))),
    (2, 3, 8, (12, 13), (3, 4), window(2, stride=3, padding=((1, 2), (0, 2)))),
    (2, 3, 8, (12, 13), (3, 3), window(2, dilation=2, padding=(2, 2))),
    (2, 4, 6, (9, 9), (3, 3), window(2, stride=2, dilation=2, padding=(2, 2), groups=2)),
    (2, 8, 8, (10, 10), (3, 3), window(2, padding=(1, 1), groups=8)),
    (3, 8, 12, (6, 6), (1, 1), window(2)),
    (3, 8, 12, (6, 6), (1, 1), window(2, stride=2)),
    (2, 3, 4, (40,), (5,), window(1, padding=(2, 2))),
    (2, 3, 4, (5, 6, 7), (3, 2, 3), window(3, padding=(1, 1))),
    (1, 2, 4, (70, 90), (3, 3), window(2, padding=(1, 1))),
    (2, 2, 4, (8, 8), (3, 3), window(2, padding=(-1, -1))),
    (1, 1, 12, (220,), (100,), window(1, stride=120)),
    (2, 2, 8, (24, 24), (12, 12), window(2, stride=12)),
    (2, 2, 8, (20, 23), (9, 10), window(2, stride=4, padding=((3, 2), (-1, 4)))),
]


def arrays(case) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    n, ins, outs, size, kernel, attrs = case
    x = RNG.standard_normal((n, ins, *size)).astype(np.float32)
    w = RNG.standard_normal((outs, ins // attrs["groups"], *kernel)).astype(np.float32)
    shape = lookup("conv").infer(types_of(x, w), attrs)[0].shape
    return x, w, RNG.standard_normal(shape).astype(np.float32), attrs


def check(op: str, a: np.ndarray, b: np.ndarray, attrs: dict[str, Any], target) -> None:
    program = program_of(op, types_of(a, b), attrs, target)
    assert program is not None
    want = lookup(op).ref(a.astype(np.float64), b.astype(np.float64), **attrs)
    np.testing.assert_allclose(run(program, [a, b]), want, atol=2e-6 * max(1.0, np.abs(want).max()) * 8)


@pytest.mark.parametrize("target", [AVX512, AVX2], ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case, target):
    x, w, _, attrs = arrays(case)
    check("conv", x, w, attrs, target)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_of_the_image(case):
    x, w, g, attrs = arrays(case)
    check("conv_dx", g, w, {**attrs, "size": x.shape[2:]}, AVX512)


def test_symbolic_batch():
    x, w, _, attrs = arrays(CASES[2])
    batch = variable("batch", 8, lo=1)
    program = program_of("conv", [TensorType(f32, (batch, *x.shape[1:])), types_of(w)[0]], attrs, AVX512)
    assert program is not None
    want = lookup("conv").ref(x, w, **attrs)
    np.testing.assert_allclose(run(program, [x, w], {"batch": 3}), want, atol=1e-4)


@pytest.mark.parametrize("case", [c for c in CASES if c[2] // c[5]["groups"] >= 4], ids=str)
def test_gradient_of_the_weights(case):
    x, w, g, attrs = arrays(case)
    check("conv_dw", x, g, {**attrs, "kernel": w.shape[2:]}, AVX512)


def test_long_strides_are_not_written_out() -> None:
    x, w = (TensorType(f32, shape) for shape in ((1, 1, 640), (258, 1, 256)))
    program = program_of("conv", [x, w], window(1, stride=128), AVX512)
    assert program is not None
    assert len(print_program(program).splitlines()) < 200
    apart = TensorType(f32, (4, 1, 256))
    many = TensorType(f32, (1, 4, 640))
    assert program_of("conv", [many, apart], window(1, stride=128, groups=4), AVX512) is None
