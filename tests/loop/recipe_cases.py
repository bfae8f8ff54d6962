"""Programs of one anchor each, for tests and benchmarks of recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Buffer, Call, Kernel, Program, Slice, Stmt, Store, block
from intaglio.loop.recipes import lower_anchor
from intaglio.loop.recipes.anchor import Accuracy, Anchor
from intaglio.loop.spec import verify
from intaglio.ops.expr import Expr, Read
from intaglio.ops.registry import lookup
from intaglio.shared.dtypes import from_numpy
from intaglio.shared.index import IndexLike
from intaglio.shared.target import Target
from intaglio.shared.types import TensorType

AVX512 = Target("avx512", vector_bytes=64, registers=32, l2=1 << 20)
AVX2 = Target("avx2", vector_bytes=32, registers=16)

Finish = Callable[[Buffer, tuple[IndexLike, ...], Expr], list[Stmt]]


@dataclass
class Stored:
    """An operand that is an array of the program."""

    buffer: Buffer

    @property
    def type(self) -> TensorType:
        return TensorType(self.buffer.dtype, self.buffer.shape)

    @property
    def data(self) -> None:
        return None

    def __getitem__(self, index: Any) -> Expr:
        return Read(self.buffer, index if isinstance(index, tuple) else (index,), self.buffer.dtype)


def program_of(
    op: str,
    operands: list[TensorType],
    attrs: dict[str, Any],
    target: Target,
    finish: Finish | None = None,
    extra: tuple[Buffer, ...] = (),
    accuracy: Accuracy = "standard",
) -> Program | None:
    """One kernel made by the recipe for an operator; None when the recipe leaves it to plain loops."""
    inputs = [Buffer(name, t.dtype, t.shape, "input") for name, t in zip("abcd", operands, strict=False)]
    result = lookup(op).infer(operands, attrs)[0]
    out = Buffer("y", result.dtype, result.shape, "output")
    store: Finish = finish or (lambda y, index, acc: [Store(y, index, acc)])
    anchor = Anchor(
        op,
        attrs,
        tuple(map(Stored, inputs)),
        result,
        lambda index, acc: store(out, index, acc),
        accuracy=accuracy,
    )
    nest = lower_anchor(anchor, target)
    if nest is None:
        return None
    params = (*inputs, *extra, out, *nest.scratch)
    kernel = Kernel("kernel", params, (out, *nest.scratch), nest.body, schedule=nest.notes)
    symbols = {v: None for p in params for e in p.shape if not isinstance(e, int) for v in e.variables}
    program = Program(
        "nest",
        inputs=[*inputs, *extra],
        outputs=[out],
        scratch=list(nest.scratch),
        symbols=list(symbols),
        kernels=[kernel],
    )
    program.phases["forward"] = block(Call(kernel, tuple(map(Slice, params))))
    verify(program)
    return program


def run(program: Program, arrays: list[np.ndarray], symbols: dict[str, int] | None = None) -> np.ndarray:
    """The result of a program by the interpreter."""
    held = {b.name: a for b, a in zip(program.inputs, arrays, strict=True)}
    out = program.outputs[0]
    shape = tuple(e if isinstance(e, int) else (symbols or {})[str(e)] for e in out.shape)
    held["y"] = np.full(shape, 77, out.dtype.numpy)
    evaluate(program, held, symbols)
    return held["y"]


def types_of(*arrays: np.ndarray) -> list[TensorType]:
    return [TensorType(from_numpy(a.dtype), a.shape) for a in arrays]
