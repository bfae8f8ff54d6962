"""Integer expressions: loop indices, buffer offsets and symbolic dimensions.

An `Index` is `const + sum(coef * atom)`. An atom is a variable with known bounds, a floor division,
a remainder, a minimum, a maximum, a product of variables, or a value read at run time. Constants are
plain Python ints, so `IndexLike = int | Index` and arithmetic falls back to ints by itself. All
simplification rests on `interval`: inclusive bounds, None where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias, Union

from intaglio.shared.atoms import Atom as Atom
from intaglio.shared.atoms import Div as Div
from intaglio.shared.atoms import Dynamic as Dynamic
from intaglio.shared.atoms import Max as Max
from intaglio.shared.atoms import Min as Min
from intaglio.shared.atoms import Mod as Mod
from intaglio.shared.atoms import Product as Product
from intaglio.shared.atoms import Var as Var

IndexLike: TypeAlias = Union[int, "Index"]
Interval: TypeAlias = tuple[int | None, int | None]


class Index:
    """An immutable integer expression in normal form; build it with operators, never directly."""

    __slots__ = ("_hash", "const", "terms")

    def __init__(self, const: int, terms: tuple[tuple[Atom, int], ...]) -> None:
        self.const = const
        self.terms = terms
        self._hash = hash((const, terms))

    @property
    def is_atom(self) -> bool:
        return self.const == 0 and len(self.terms) == 1 and self.terms[0][1] == 1

    @property
    def variables(self) -> frozenset[Var]:
        """Every variable the expression depends on."""
        found: set[Var] = set()
        for atom, _ in self.terms:
            found |= _atom_variables(atom)
        return frozenset(found)

    def coefficient(self, var: Var) -> int | None:
        """The coefficient of `var` when the expression is affine in it, else None."""
        coef = 0
        for atom, c in self.terms:
            if atom == var:
                coef = c
            elif var in _atom_variables(atom):
                return None
        return coef

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Index):
            return self._hash == other._hash and self.const == other.const and self.terms == other.terms
        return False

    def __str__(self) -> str:
        parts = []
        for atom, coef in self.terms:
            text = str(atom)
            if coef != 1:
                bracketed = isinstance(atom, (Div, Mod, Product))
                text = f"{coef} * ({text})" if bracketed else f"{coef} * {text}"
            parts.append(text)
        if self.const:
            parts.append(str(self.const))
        return " + ".join(parts).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"Index({self})"

    def __add__(self, other: IndexLike) -> IndexLike:
        if isinstance(other, int):
            return Index(self.const + other, self.terms) if other else self
        if not isinstance(other, Index):
            return NotImplemented
        total = dict(self.terms)
        for atom, coef in other.terms:
            total[atom] = total.get(atom, 0) + coef
        return _make(self.const + other.const, total)

    __radd__ = __add__

    def __neg__(self) -> IndexLike:
        return self * -1

    def __sub__(self, other: IndexLike) -> IndexLike:
        return self + (other * -1)

    def __rsub__(self, other: IndexLike) -> IndexLike:
        return self * -1 + other

    def __mul__(self, other: IndexLike) -> IndexLike:
        if isinstance(other, Index):
            return _product(self, other)
        if not isinstance(other, int):
            return NotImplemented
        if other == 0:
            return 0
        if other == 1:
            return self
        return Index(self.const * other, tuple((atom, coef * other) for atom, coef in self.terms))

    __rmul__ = __mul__

    def __floordiv__(self, den: IndexLike) -> IndexLike:
        return floordiv(self, den)

    def __rfloordiv__(self, num: int) -> IndexLike:
        return floordiv(num, self)

    def __mod__(self, den: IndexLike) -> IndexLike:
        return mod(self, den)

    def __rmod__(self, num: int) -> IndexLike:
        return mod(num, self)


def _make(const: int, terms: Mapping[Atom, int]) -> IndexLike:
    kept = [(atom, coef) for atom, coef in terms.items() if coef]
    if not kept:
        return const
    for atom, coef in kept:
        if isinstance(atom, Mod) and (whole := _rejoin(const, dict(kept), atom, coef)) is not None:
            return whole
    kept.sort(key=lambda term: (-abs(term[1]), str(term[0])))
    return Index(const, tuple(kept))


def _rejoin(const: int, terms: dict[Atom, int], mod_: Mod, coef: int) -> IndexLike | None:
    """The sum with `c * n * (x // n) + c * (x % n)` made `c * x`; None when the quotient is not there."""
    quotient = floordiv(mod_.num, mod_.den)
    if not isinstance(mod_.den, int) or not isinstance(quotient, Index) or not quotient.is_atom:
        return None
    if terms.get(quotient.terms[0][0]) != coef * mod_.den:
        return None
    del terms[mod_], terms[quotient.terms[0][0]]
    return _make(const, terms) + mod_.num * coef


def var_index(atom: Atom) -> Index:
    """The expression that is just one atom."""
    return Index(0, ((atom, 1),))


def variable(name: str, extent: IndexLike | None = None, lo: int = 0) -> Index:
    """A variable in `lo .. lo + extent - 1`; the upper bound is open when the extent is not known."""
    if extent is None:
        return var_index(Var(name, lo, None))
    hi = interval(extent)[1]
    return var_index(Var(name, lo, None if hi is None else lo + hi - 1))


def floordiv(num: IndexLike, den: IndexLike) -> IndexLike:
    """`num // den`, simplified where bounds allow it."""
    if isinstance(num, int) and isinstance(den, int):
        return num // den
    if num == den:
        return 1
    if isinstance(den, Index):
        if isinstance(num, int):
            return 0 if num == 0 else var_index(Div(Index(num, ()), den))
        exact = _divide(num, den)
        if exact is not None:
            return exact
        return var_index(Div(num, den))
    assert isinstance(num, Index)
    if den == 1:
        return num
    quotient, rest = _split(num, den)
    lo, hi = interval(rest)
    if lo is not None and hi is not None and lo // den == hi // den:
        return quotient + lo // den
    assert isinstance(rest, Index)
    inner = rest.terms[0][0] if rest.is_atom else None
    if isinstance(inner, Div) and isinstance(inner.den, int):
        return quotient + floordiv(inner.num, inner.den * den)
    return quotient + var_index(Div(rest, den))


def mod(num: IndexLike, den: IndexLike) -> IndexLike:
    """`num % den`, simplified where bounds allow it."""
    if isinstance(num, int) and isinstance(den, int):
        return num % den
    if num == den or den == 1:
        return 0
    if isinstance(den, Index):
        if num == 0 or (isinstance(num, Index) and _divide(num, den) is not None):
            return 0
        return var_index(Mod(num if isinstance(num, Index) else Index(num, ()), den))
    assert isinstance(num, Index)
    _, rest = _split(num, den)
    lo, hi = interval(rest)
    if lo is not None and hi is not None and lo // den == hi // den:
        return rest - den * (lo // den)
    assert isinstance(rest, Index)
    return var_index(Mod(rest, den))


def _product(a: Index, b: Index) -> IndexLike:
    """`a * b` with the numeric factor in front and the others in order, so that equal products are equal."""
    (p, left), (q, right) = _factors(a), _factors(b)
    factors = sorted((*left, *right), key=str)
    total = factors[0]
    for factor in factors[1:]:
        total = var_index(Product(total, factor))
    return total * (p * q)


def _factors(value: Index) -> tuple[int, list[Index]]:
    """A number and factors without one, whose product is the value."""
    if len(value.terms) == 1 and not value.const:
        atom, content = value.terms[0]
        if isinstance(atom, Product):
            return content, [*_factors(atom.a)[1], *_factors(atom.b)[1]]
    else:
        content = math.gcd(value.const, *(coef for _, coef in value.terms))
    terms = tuple((atom, coef // content) for atom, coef in value.terms)
    return content, [Index(value.const // content, terms)]


def _divide(num: Index, den: Index) -> IndexLike | None:
    """`num / den` when every term of `num` has all the factors of `den`; None otherwise."""
    number, wanted = _factors(den)
    total: IndexLike = 0
    for atom, coef in (*num.terms, *([(None, num.const)] if num.const else [])):
        left = [] if atom is None else _factors(var_index(atom))[1]
        for factor in wanted:
            if factor not in left:
                return None
            left.remove(factor)
        if coef % number:
            return None
        total = total + product(tuple(left)) * (coef // number)
    return total


def _split(num: Index, den: int) -> tuple[IndexLike, IndexLike]:
    """`num = den * quotient + rest` with every divisible part in the quotient."""
    quotient: dict[Atom, int] = {}
    rest: dict[Atom, int] = {}
    for atom, coef in num.terms:
        target, value = (quotient, coef // den) if coef % den == 0 else (rest, coef)
        target[atom] = value
    return _make(num.const // den, quotient), _make(num.const % den, rest)


def minimum(a: IndexLike, b: IndexLike) -> IndexLike:
    (alo, ahi), (blo, bhi) = interval(a), interval(b)
    if a == b or (ahi is not None and blo is not None and ahi <= blo):
        return a
    if bhi is not None and alo is not None and bhi <= alo:
        return b
    lowest, highest = interval(a - b)
    if highest is not None and highest <= 0:
        return a
    return b if lowest is not None and lowest >= 0 else var_index(Min(a, b))


def maximum(a: IndexLike, b: IndexLike) -> IndexLike:
    (alo, ahi), (blo, bhi) = interval(a), interval(b)
    if a == b or (alo is not None and bhi is not None and alo >= bhi):
        return a
    if blo is not None and ahi is not None and blo >= ahi:
        return b
    lowest, highest = interval(a - b)
    if lowest is not None and lowest >= 0:
        return a
    return b if highest is not None and highest <= 0 else var_index(Max(a, b))


def interval(value: IndexLike) -> Interval:
    """Inclusive bounds of an expression; None on a side without one."""
    if isinstance(value, int):
        return value, value
    lo: int | None = value.const
    hi: int | None = value.const
    for atom, coef in value.terms:
        alo, ahi = _atom_interval(atom)
        if coef < 0:
            alo, ahi = ahi, alo
        lo = None if lo is None or alo is None else lo + coef * alo
        hi = None if hi is None or ahi is None else hi + coef * ahi
    return lo, hi


def _atom_interval(atom: Atom) -> Interval:
    if isinstance(atom, (Var, Dynamic)):
        return atom.lo, atom.hi
    if isinstance(atom, Mod):
        hi = interval(atom.den)[1]
        return 0, None if hi is None else hi - 1
    if isinstance(atom, Div):
        lo, hi = interval(atom.num)
        if isinstance(atom.den, int):
            return None if lo is None else lo // atom.den, None if hi is None else hi // atom.den
        return (0 if lo is not None and lo >= 0 else None), hi
    (alo, ahi), (blo, bhi) = interval(atom.a), interval(atom.b)
    if isinstance(atom, Product):
        if alo is None or blo is None or alo < 0 or blo < 0:
            return None, None
        return alo * blo, None if ahi is None or bhi is None else ahi * bhi
    pick = min if isinstance(atom, Min) else max
    lo = pick(alo, blo) if alo is not None and blo is not None else None
    hi = pick(ahi, bhi) if ahi is not None and bhi is not None else None
    if isinstance(atom, Min) and hi is None:
        hi = ahi if bhi is None else bhi
    if isinstance(atom, Max) and lo is None:
        lo = alo if blo is None else blo
    return lo, hi


def _atom_variables(atom: Atom) -> frozenset[Var]:
    if isinstance(atom, Var):
        return frozenset((atom,))
    if isinstance(atom, (Div, Mod)):
        parts: tuple[IndexLike, ...] = (atom.num, atom.den)
    elif isinstance(atom, Dynamic):
        found: frozenset[Var] = getattr(atom.value, "variables", frozenset())
        return found
    else:
        parts = (atom.a, atom.b)
    return frozenset(var for part in parts if isinstance(part, Index) for var in part.variables)


def substitute(
    value: IndexLike, env: Mapping[Var, IndexLike], dynamic: Callable[[Dynamic], IndexLike] | None = None
) -> IndexLike:
    """The expression with variables (and, through `dynamic`, run-time values) replaced."""
    if isinstance(value, int):
        return value
    total: IndexLike = value.const
    for atom, coef in value.terms:
        total = total + coef * _substitute_atom(atom, env, dynamic)
    return total


def _substitute_atom(
    atom: Atom, env: Mapping[Var, IndexLike], dynamic: Callable[[Dynamic], IndexLike] | None
) -> IndexLike:
    if isinstance(atom, Var):
        return env.get(atom, var_index(atom))
    if isinstance(atom, Dynamic):
        return dynamic(atom) if dynamic else var_index(atom)
    if isinstance(atom, (Div, Mod)):
        num = substitute(atom.num, env, dynamic)
        den = substitute(atom.den, env, dynamic)
        return floordiv(num, den) if isinstance(atom, Div) else mod(num, den)
    a, b = substitute(atom.a, env, dynamic), substitute(atom.b, env, dynamic)
    if isinstance(atom, Product):
        return a * b
    return minimum(a, b) if isinstance(atom, Min) else maximum(a, b)


def product(values: tuple[IndexLike, ...]) -> IndexLike:
    """The product of extents; 1 for none."""
    total: IndexLike = 1
    for value in values:
        total = total * value
    return total


def upper(value: IndexLike) -> int | None:
    """The largest value the expression can take, or None."""
    return interval(value)[1]
