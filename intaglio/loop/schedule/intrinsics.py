"""tensorize: an inner nest that is one of the declared patterns takes the form that machines run fastest.

A pattern is index notation: `v` are the lanes, which lie side by side in every array that has them; other
letters are loops that are written out; an array without a letter is the same along that loop.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from intaglio.loop import places
from intaglio.loop.ir import Block, Buffer, Comment, For, Reduce, Stmt, Store, block
from intaglio.loop.schedule.lanes import vectorized
from intaglio.loop.schedule.loops import unrolled
from intaglio.loop.schedule.nest import Nest, Path, chain, rebuilt
from intaglio.loop.schedule.records import Record
from intaglio.loop.schedule.regions import Place
from intaglio.ops.expr import Apply, Read
from intaglio.shared.errors import UnsupportedError

INTRINSICS = {
    "outer_product": "acc[i, j, v] += a[i] * b[j, v]",
    "axpy": "y[v] += a * x[v]",
    "dot_product": "acc += x[v] * y[v]",
    "copy": "y[v] = x[v]",
}


@dataclass(frozen=True)
class Pattern:
    """A pattern: its letters in order, those of the array it writes, those of the factors of its value."""

    letters: str
    target: str
    factors: tuple[str, ...]
    adds: bool

    @staticmethod
    def of(formula: str) -> Pattern:
        """The pattern of a formula."""
        statement = ast.parse(formula).body[0]
        adds = isinstance(statement, ast.AugAssign)
        assert isinstance(statement, (ast.AugAssign, ast.Assign))
        target = statement.target if isinstance(statement, ast.AugAssign) else statement.targets[0]
        value = statement.value
        parts = [value.left, value.right] if isinstance(value, ast.BinOp) else [value]
        factors = tuple(map(_letters, parts))
        letters = "".join(dict.fromkeys("".join((_letters(target), *factors))))
        return Pattern(letters, _letters(target), factors, adds)


def _letters(node: ast.expr) -> str:
    """The indices of an array of a formula."""
    if isinstance(node, ast.Subscript):
        return "".join(name.id for name in ast.walk(node.slice) if isinstance(name, ast.Name))
    return ""


@dataclass(frozen=True)
class Tensorize(Record, verb="tensorize"):
    """The perfect nest from a loop inwards must be the pattern of that name: it is written out around
    vectors, and its accumulators and operands are checked to have the places that this needs."""

    made: ClassVar[tuple[int, ...]] = (0,)
    loop: str
    intrinsic: str

    def apply(self, nest: Nest) -> None:
        if self.intrinsic not in INTRINSICS:
            known = ", ".join(INTRINSICS)
            raise UnsupportedError(f"{self}: there is no such intrinsic", hint=f"there are {known}")
        formula = INTRINSICS[self.intrinsic]
        pattern = Pattern.of(formula)

        def made(loop: For, _: Path) -> Iterable[Stmt]:
            loops = chain(loop)
            why = _mismatch(pattern, loops)
            if why:
                raise UnsupportedError(f"{self}: the nest is not {formula}: {why}")
            body: Block = Block((vectorized(nest, loops[-1]),))
            return block(
                Comment(f"{self.intrinsic}: {formula}"), rebuilt([unrolled(one) for one in loops[:-1]], body)
            )

        found = [one for one, _ in nest.loops(self.loop)]
        fitting = [one for one in found if not _mismatch(pattern, chain(one))]
        if not fitting:
            made(found[0], ())
        nest.rewrite_these(fitting, made)


def _mismatch(pattern: Pattern, loops: list[For]) -> str:
    """Why a nest is not a pattern; nothing when it is."""
    if len(loops) != len(pattern.letters):
        return f"it has {len(loops)} loops in a row"
    statements = [s for s in loops[-1].body if not isinstance(s, Comment)]
    if len(statements) != 1 or not isinstance(statements[0], Reduce if pattern.adds else Store):
        return f"{loops[-1].var} holds other statements"
    statement = statements[0]
    assert isinstance(statement, (Store, Reduce))
    if isinstance(statement, Reduce) and (statement.combine != "add" or statement.ordered):
        return "it is no sum of free order"
    value = statement.value
    factors = list(value.args) if isinstance(value, Apply) and value.fn == "mul" else [value]
    reads = [factor for factor in factors if isinstance(factor, Read)]
    if len(reads) != len(pattern.factors) or len(reads) != len(factors):
        return f"its value is {value}"
    why = _places(pattern, pattern.target, statement.buffer, statement.index, loops)
    if why:
        return why
    for order in permutations(reads):
        found = [
            _places(pattern, letters, read.source, read.index, loops)
            for letters, read in zip(pattern.factors, order, strict=True)
        ]
        why = why or next((one for one in found if one), "")
        if not any(found):
            return ""
    return why


def _places(pattern: Pattern, letters: str, buffer: object, index: Place, loops: list[For]) -> str:
    """Why an array's places do not move along the loops as its letters say."""
    assert isinstance(buffer, Buffer)
    for letter, loop in zip(pattern.letters, loops, strict=True):
        stride = places.stride(buffer, index, loop.var)
        wanted = 1 if letter == "v" else stride
        if letter not in letters:
            wanted = 0
        if stride is None or stride != wanted or (letter in letters and not stride):
            return f"{buffer.name} moves by {stride} along {loop.var}"
    return ""
