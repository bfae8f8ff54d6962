"""Recipes as compiled C: right results, no accumulator that leaves its register."""

from __future__ import annotations

import ctypes
import re
import subprocess
from shutil import which
from typing import Any

import numpy as np
import pytest
from recipe_cases import program_of, types_of

from intaglio.loop.ir import Program
from intaglio.loop.memory import plan_memory
from intaglio.native.emit import emit_program
from intaglio.native.targets import detect
from intaglio.native.toolchain import Toolchain, available, build_shared
from intaglio.ops.registry import lookup
from intaglio.shared.target import GENERIC, Target

RNG = np.random.default_rng(0)
ONE = {"strides": (1, 1), "dilations": (1, 1), "padding": ((1, 1), (1, 1)), "groups": 1}
CASES: dict[str, tuple[str, list[tuple[int, ...]], dict[str, Any]]] = {
    "columns": ("dot", [(33, 70), (70, 58)], {"spec": "mk,kn->mn"}),
    "dots": ("dot", [(9, 131), (21, 131)], {"spec": "mk,nk->mn"}),
    "packed": ("dot", [(40, 50), (300, 50)], {"spec": "mk,nk->mn"}),
    "blocks of a long reduction": ("dot", [(66, 1024), (1024, 58)], {"spec": "mk,kn->mn"}),
    "blocks of rows far apart": ("dot", [(20, 1024), (20, 70)], {"spec": "km,kn->mn"}),
    "outer": ("dot", [(20, 65), (20, 43)], {"spec": "km,kn->mn"}),
    "batch": ("dot", [(2, 17, 3, 20), (2, 19, 3, 20)], {"spec": "bmhk,bnhk->bhmn"}),
    "sum of columns": ("sum", [(37, 70)], {"axes": (0,)}),
    "maximum of channels": ("reduce_max", [(3, 5, 4, 9)], {"axes": (0, 2, 3)}),
    "convolution": ("conv", [(2, 3, 13, 12), (10, 3, 3, 3)], ONE),
    "convolution with strides": ("conv", [(2, 3, 13, 12), (10, 3, 3, 3)], {**ONE, "strides": (2, 2)}),
    "gradient of the image": ("conv_dx", [(2, 10, 13, 12), (10, 3, 3, 3)], {**ONE, "size": (13, 12)}),
    "gradient of the weights": ("conv_dw", [(2, 3, 13, 12), (2, 10, 13, 12)], {**ONE, "kernel": (3, 3)}),
}


def compiler() -> Toolchain:
    found = [t for t in available() if t.kind in ("gcc", "clang")]
    if not found:
        pytest.skip("no gcc or clang")
    return found[0]


def build(program: Program, target: Target) -> ctypes.CDLL:
    source = emit_program(program, target)
    return ctypes.CDLL(str(build_shared(source, target=target, toolchain=compiler(), name="nest")))


def call(program: Program, library: ctypes.CDLL, arrays: list[np.ndarray]) -> np.ndarray:
    out = program.outputs[0]
    y = np.full(out.shape, np.nan if out.dtype.is_float else 77, out.dtype.numpy)
    arena = np.full((program.arena_bytes or 0) + 64, 0xFF, np.uint8)
    start = -arena.ctypes.data % 64
    constants = [b.data for b in program.constants if b.data is not None]
    held = [*(np.ascontiguousarray(a) for a in arrays), y, *constants, arena[start:]]
    pointers = (ctypes.c_void_p * len(held))(*(a.ctypes.data for a in held))
    assert library.nest_run(pointers, None, None) == 0
    return y


@pytest.mark.parametrize("target", [detect(), GENERIC], ids=["native", "generic"])
@pytest.mark.parametrize("name", CASES)
def test_compiled_recipes(name, target):
    op, shapes, attrs = CASES[name]
    arrays = [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]
    program = program_of(op, types_of(*arrays), attrs, target)
    assert program is not None
    program = plan_memory(program)
    want = lookup(op).ref(*(a.astype(np.float64) for a in arrays), **attrs)
    got = call(program, build(program, target), arrays)
    np.testing.assert_allclose(got, want, atol=3e-6 * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("sizes", [(128, 784, 128), (49, 160, 320), (64, 64, 96), (32, 48, 64)], ids=str)
@pytest.mark.skipif(which("objdump") is None, reason="no objdump")
def test_accumulators_stay_in_registers(sizes):
    """A vector moved to or from the stack in a product's kernel is an accumulator that did not fit."""
    if "avx512" not in detect().features:
        pytest.skip("tiles are tuned for 32 vector registers")
    m, k, n = sizes
    shapes = [np.zeros((m, k), np.float32), np.zeros((k, n), np.float32)]
    program = program_of("dot", types_of(*shapes), {"spec": "mk,kn->mn"}, detect())
    assert program is not None
    library = build(plan_memory(program), detect())
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library._name], capture_output=True, text=True, check=True
    ).stdout
    assert len(re.findall(r"vfmadd", code)) >= 8
    assert not re.findall(r"vmov\w+\s+(?:%zmm\d+,.*\(%r[sb]p\)|.*\(%r[sb]p\),%zmm\d+)", code)
