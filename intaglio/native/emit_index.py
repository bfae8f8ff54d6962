"""Index expressions to C: `i * 64 + k`, with `/` and `%` only where they cannot meet a negative number."""

from __future__ import annotations

from collections.abc import Callable

from intaglio.native.helpers import Helpers
from intaglio.native.tree import Binary, Expr, Invoke, Name, Unary, number
from intaglio.shared.index import Atom, Div, Dynamic, Index, IndexLike, Min, Mod, Product, Var, interval

LARGEST = 2**31 - 1

Spell = Callable[[Dynamic], Expr]


class IndexEmitter:
    """Spells indices of one function: `name` gives a variable's identifier, `dynamic` a run-time value."""

    def __init__(self, helpers: Helpers, name: Callable[[Var], str], dynamic: Spell) -> None:
        self.helpers = helpers
        self.name = name
        self.dynamic = dynamic

    def emit(self, value: IndexLike) -> Expr:
        """The expression in C, terms with a plus first."""
        if isinstance(value, int):
            return number(value)
        coefs = list(dict.fromkeys(coef for _, coef in value.terms))
        coefs.sort(key=lambda coef: coef < 0)
        total: Expr | None = None
        if coefs[0] < 0 and value.const:
            total = number(value.const)
        for coef in coefs:
            term = self._scaled([atom for atom, own in value.terms if own == coef], abs(coef))
            if total is None:
                total = term if coef > 0 else Unary("-", term)
            else:
                total = Binary("+" if coef > 0 else "-", total, term)
        assert total is not None
        if value.const and coefs[0] > 0:
            total = Binary("+" if value.const > 0 else "-", total, number(abs(value.const)))
        return total

    def _scaled(self, atoms: list[Atom], coef: int) -> Expr:
        """`(i + k) * coef`: what has the same factor stands together."""
        spelled = self._atom(atoms[0])
        for atom in atoms[1:]:
            spelled = Binary("+", spelled, self._atom(atom))
        return spelled if coef == 1 else Binary("*", spelled, number(coef))

    def _atom(self, atom: Atom) -> Expr:
        if isinstance(atom, Var):
            return Name(self.name(atom))
        if isinstance(atom, Dynamic):
            return self.dynamic(atom)
        if isinstance(atom, Product):
            return Binary("*", self.emit(atom.a), self.emit(atom.b))
        if isinstance(atom, (Div, Mod)):
            lo, _ = interval(atom.num)
            num, den = self.emit(atom.num), self.emit(atom.den)
            if lo is not None and lo >= 0:
                return Binary("/" if isinstance(atom, Div) else "%", num, den)
            helper = "div_index" if isinstance(atom, Div) else "mod_index"
            return Invoke(self.helpers.use(helper), (num, den))
        helper = "min_index" if isinstance(atom, Min) else "max_index"
        return Invoke(self.helpers.use(helper), (self.emit(atom.a), self.emit(atom.b)))


def fits_int(value: IndexLike) -> bool:
    """Whether the value and every partial sum on the way to it fit into a C int."""
    if isinstance(value, int):
        return abs(value) <= LARGEST
    total = abs(value.const)
    for atom, coef in value.terms:
        largest = _largest(atom)
        if largest is None or not _parts_fit(atom):
            return False
        total += abs(coef) * largest
    return total <= LARGEST


def _largest(atom: Atom) -> int | None:
    lo, hi = interval(Index(0, ((atom, 1),)))
    return None if lo is None or hi is None else max(abs(lo), abs(hi))


def _parts_fit(atom: Atom) -> bool:
    if isinstance(atom, (Var, Dynamic)):
        return True
    parts = (atom.num, atom.den) if isinstance(atom, (Div, Mod)) else (atom.a, atom.b)
    return all(fits_int(part) for part in parts)
