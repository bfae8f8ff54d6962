"""Integer contractions: exact for all signs, zero points and shapes, by the interpreter and compiled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from recipe_cases import run
from test_recipes_native import build, call

from intaglio.loop.ir import Buffer, Call, Kernel, Program, Slice, Store, block
from intaglio.loop.memory import plan_memory
from intaglio.loop.recipes import lower_anchor
from intaglio.loop.recipes.anchor import Anchor
from intaglio.loop.spec import verify
from intaglio.native.emit import emit_program
from intaglio.native.targets import detect, find_target
from intaglio.ops.expr import Const, Expr, Read, cast
from intaglio.ops.registry import lookup
from intaglio.shared.dtypes import from_numpy, i32
from intaglio.shared.index import variable
from intaglio.shared.target import GENERIC, Target
from intaglio.shared.types import TensorType

RNG = np.random.default_rng(0)
BYTES = Target("bytes", 64, 32, features=frozenset({"avx512", "vnni"}))
PAIRS = Target("pairs", 32, 16, features=frozenset({"avx2"}))
CONV = {"strides": (1, 1), "dilations": (1, 1), "padding": ((1, 1), (1, 1)), "groups": 1}


@dataclass
class Byte:
    """An operand of bytes less a zero point: none, a number, or a scalar of the program."""

    buffer: Buffer
    zero: int | Buffer | None = None
    data: Any = None

    @property
    def type(self) -> TensorType:
        return TensorType(i32, self.buffer.shape)

    def __getitem__(self, index: Any) -> Expr:
        value = cast(Read(self.buffer, index, self.buffer.dtype), i32)
        if self.zero is None:
            return value
        taken = self.zero
        return value - (
            cast(Read(taken, (), taken.dtype), i32) if isinstance(taken, Buffer) else Const(taken, i32)
        )


@dataclass
class Case:
    """A contraction of two arrays of bytes and what it must give."""

    op: str
    arrays: list[np.ndarray[Any, Any]]
    attrs: dict[str, Any]
    zeros: tuple[int | np.ndarray[Any, Any] | None, ...] = (None, None)
    constant: bool = False

    def expected(self) -> np.ndarray[Any, Any]:
        wide = [
            a.astype(np.int64) - (0 if z is None else np.int64(z))
            for a, z in zip(self.arrays, self.zeros, strict=True)
        ]
        return lookup(self.op).ref(*wide, **self.attrs).astype(np.int32)

    def program(
        self, target: Target, shapes: list[tuple[Any, ...]] | None = None
    ) -> tuple[Program, list[Any]] | None:
        """A program with the right operand as an input, or as a constant, and its inputs."""
        shapes = shapes or [a.shape for a in self.arrays]
        buffers = [
            Buffer(n, from_numpy(a.dtype), s, "input")
            for n, a, s in zip("ab", self.arrays, shapes, strict=True)
        ]
        inputs, arrays, operands = list(buffers), list(self.arrays), []
        for k, zero in enumerate(self.zeros):
            held: Any = zero
            if isinstance(zero, np.ndarray):
                held = Buffer(f"zero{k}", from_numpy(zero.dtype), (), "input")
                inputs.append(held)
                arrays.append(zero)
            operands.append(Byte(buffers[k], held))
        if self.constant:
            operands[1].data = self.arrays[1].astype(np.int32) - np.int32(self.zeros[1] or 0)
        result = lookup(self.op).infer([x.type for x in operands], self.attrs)[0]
        out = Buffer("y", result.dtype, result.shape, "output")
        anchor = Anchor(self.op, self.attrs, tuple(operands), result, lambda i, acc: [Store(out, i, acc)])
        nest = lower_anchor(anchor, target)
        if nest is None:
            return None
        params = (*inputs, out, *nest.scratch)
        scratch = [b for b in nest.scratch if b.data is None]
        kernel = Kernel("kernel", params, (out, *scratch), nest.body)
        constants = [b for b in nest.scratch if b.data is not None]
        symbols = {v: None for b in params for e in b.shape if not isinstance(e, int) for v in e.variables}
        program = Program("nest", inputs, [out], [], constants, scratch, list(symbols), [kernel])
        program.phases["forward"] = block(Call(kernel, tuple(map(Slice, params))))
        verify(program)
        return program, arrays


def codes(dtype: str, shape: tuple[int, ...], extreme: bool = False) -> np.ndarray[Any, Any]:
    info = np.iinfo(dtype)
    if extreme:
        return RNG.choice([info.min, info.max], shape).astype(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def check(case: Case, target: Target) -> Program:
    made = case.program(target)
    assert made is not None
    program, arrays = made
    np.testing.assert_array_equal(run(program, arrays), case.expected())
    return program


SIGNS = list(product(("uint8", "int8"), repeat=2))
ZEROS: list[tuple[Any, Any]] = [(None, None), (7, None), (np.uint8(201), -3), (np.int8(-5), np.uint8(9))]


@pytest.mark.parametrize("target", [BYTES, PAIRS], ids=lambda t: t.name)
@pytest.mark.parametrize("signs", SIGNS, ids="-".join)
def test_signs_and_zero_points(signs, target):
    """Also the greatest and least bytes everywhere, where instructions that saturate would go wrong."""
    for zeros, constant in product(ZEROS, (False, True)):
        if constant and isinstance(zeros[1], np.generic):
            continue
        zeros = tuple(np.asarray(z) if isinstance(z, np.generic) else z for z in zeros)
        arrays = [codes(signs[0], (9, 22), zeros[0] is None), codes(signs[1], (22, 40), zeros[0] is None)]
        check(Case("dot", arrays, {"spec": "mk,kn->mn"}, zeros, constant), target)


@pytest.mark.parametrize("target", [BYTES, PAIRS], ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("spec", "left", "right"),
    [
        ("mk,kn->mn", (1, 67), (67, 33)),
        ("mk,nk->mn", (7, 5), (29, 5)),
        ("km,kn->nm", (13, 21), (13, 6)),
        ("bmk,bkn->bmn", (2, 5, 12), (2, 12, 20)),
        ("bmhk,bnhk->bhmn", (2, 6, 3, 8), (2, 9, 3, 8)),
        ("mk,n->mkn", (3, 70), (41,)),
    ],
)
def test_shapes(spec, left, right, target):
    for signs in (("uint8", "int8"), ("int8", "uint8")):
        case = Case("dot", [codes(signs[0], left), codes(signs[1], right)], {"spec": spec}, (3, -2))
        made = case.program(target)
        if spec.endswith("mkn"):
            assert made is None or run(*made).shape == (3, 70, 41)
            continue
        check(case, target)


@pytest.mark.parametrize("target", [BYTES, PAIRS, GENERIC], ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("image", "weights", "attrs"),
    [
        ((2, 8, 5, 6), (20, 8, 1, 1), {"padding": ((0, 0), (0, 0))}),
        ((1, 3, 9, 8), (18, 3, 3, 3), {"strides": (2, 2)}),
        ((1, 12, 6, 7), (9, 12, 3, 2), {"padding": ((1, 0), (2, 1)), "dilations": (1, 2)}),
        ((1, 10, 6, 6), (16, 5, 3, 3), {"groups": 2}),
        ((2, 16, 6, 7), (16, 1, 3, 3), {"groups": 16, "strides": (1, 2)}),
    ],
)
def test_convolutions(image, weights, attrs, target):
    """Windows that leave the image read its zero point."""
    for signs, zeros in (
        (("uint8", "int8"), (131, None)),
        (("int8", "int8"), (-9, 4)),
        (("uint8", "uint8"), (np.asarray(np.uint8(3)), 128)),
    ):
        if weights[1] == 1 and isinstance(zeros[0], np.ndarray):
            continue
        case = Case(
            "conv", [codes(signs[0], image), codes(signs[1], weights)], {**CONV, **attrs}, zeros, True
        )
        made = case.program(target)
        if made is not None:
            np.testing.assert_array_equal(run(*made), case.expected())
        else:
            assert target is GENERIC or isinstance(zeros[0], np.ndarray)


def test_symbolic_rows():
    batch = variable("batch", 64, 1)
    case = Case(
        "dot", [codes("uint8", (11, 18)), codes("int8", (18, 24))], {"spec": "mk,kn->mn"}, (5, 0), True
    )
    made = case.program(BYTES, [(batch, 18), (18, 24)])
    assert made is not None
    np.testing.assert_array_equal(run(*made, symbols={"batch": 11}), case.expected())


@pytest.mark.parametrize("name", ["native", "x86-64-v3", "generic"])
def test_compiled(name):
    """The same sums as C; a machine with the instruction uses it, and none of 16 bits that saturates."""
    target = detect() if name == "native" else find_target(name)
    cases = [
        Case(
            "dot",
            [codes("int8", (19, 45), True), codes("int8", (45, 70), True)],
            {"spec": "mk,kn->mn"},
            (-128, None),
            True,
        ),
        Case(
            "conv",
            [codes("uint8", (1, 8, 9, 9), True), codes("int8", (24, 8, 3, 3), True)],
            CONV,
            (255, None),
            True,
        ),
    ]
    for case in cases:
        made = case.program(target)
        if made is None:
            assert name == "generic"
            continue
        program = plan_memory(made[0])
        if name == "native" and "vnni" in target.features:
            assert "dot4_i32x16" in str(emit_program(program, target))
        if name == "x86-64-v3" and "avx2" not in detect().features:
            continue
        np.testing.assert_array_equal(call(program, build(program, target), made[1]), case.expected())
