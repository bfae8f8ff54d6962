"""Index expressions: whatever is simplified keeps its value, and intervals hold what can occur."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.shared.index import (
    Div,
    Dynamic,
    Index,
    IndexLike,
    Max,
    Min,
    Mod,
    Product,
    Var,
    interval,
    maximum,
    minimum,
    product,
    substitute,
    upper,
    var_index,
    variable,
)

VARIABLES = (Var("i", 0, 6), Var("j", -3, 2), Var("k", 2, 9), Var("n", 1, None))
Env = dict[Var, int]
Meaning = Callable[[Env], int]


def value_of(index: IndexLike, env: Env) -> int:
    """The value of a normal form, straight from its terms."""
    if isinstance(index, int):
        return index
    return index.const + sum(coef * atom_value(atom, env) for atom, coef in index.terms)


def atom_value(atom: object, env: Env) -> int:
    if isinstance(atom, Var):
        return env[atom]
    if isinstance(atom, (Div, Mod)):
        num, den = value_of(atom.num, env), value_of(atom.den, env)
        return num // den if isinstance(atom, Div) else num % den
    assert isinstance(atom, (Min, Max, Product))
    a, b = value_of(atom.a, env), value_of(atom.b, env)
    return a * b if isinstance(atom, Product) else min(a, b) if isinstance(atom, Min) else max(a, b)


def leaves() -> st.SearchStrategy[tuple[IndexLike, Meaning]]:
    constants = st.integers(-12, 12).map(lambda c: (c, lambda env: c))
    variables = st.sampled_from(VARIABLES).map(lambda v: (var_index(v), lambda env: env[v]))
    return constants | variables


def grow(
    inner: st.SearchStrategy[tuple[IndexLike, Meaning]],
) -> st.SearchStrategy[tuple[IndexLike, Meaning]]:
    def combine(kind: str, a: tuple[IndexLike, Meaning], b: tuple[IndexLike, Meaning], n: int):
        (x, f), (y, g) = a, b
        return {
            "add": lambda: (x + y, lambda env: f(env) + g(env)),
            "sub": lambda: (x - y, lambda env: f(env) - g(env)),
            "scale": lambda: (x * n, lambda env: f(env) * n),
            "times": lambda: (x * y, lambda env: f(env) * g(env)),
            "div": lambda: (x // n, lambda env: f(env) // n),
            "mod": lambda: (x % n, lambda env: f(env) % n),
            "min": lambda: (minimum(x, y), lambda env: min(f(env), g(env))),
            "max": lambda: (maximum(x, y), lambda env: max(f(env), g(env))),
        }[kind]()

    kinds = st.sampled_from(("add", "add", "sub", "scale", "times", "div", "div", "mod", "mod", "min", "max"))
    return st.builds(combine, kinds, inner, inner, st.sampled_from((1, 2, 3, 4, 6, 8, 12)))


expressions = st.recursive(leaves(), grow, max_leaves=12)
environments = st.fixed_dictionaries(
    {v: st.integers(v.lo, v.hi if v.hi is not None else 40) for v in VARIABLES}
)


@settings(max_examples=600, deadline=None)
@given(expressions, environments)
def test_simplification_keeps_the_value(built: tuple[IndexLike, Meaning], env: Env) -> None:
    index, meaning = built
    assert value_of(index, env) == meaning(env)


@settings(max_examples=400, deadline=None)
@given(expressions, environments)
def test_the_interval_holds_the_value(built: tuple[IndexLike, Meaning], env: Env) -> None:
    index, meaning = built
    lo, hi = interval(index)
    assert lo is None or lo <= meaning(env)
    assert hi is None or meaning(env) <= hi


@settings(max_examples=400, deadline=None)
@given(expressions, environments)
def test_substitution_is_evaluation(built: tuple[IndexLike, Meaning], env: Env) -> None:
    index, meaning = built
    assert substitute(index, dict(env)) == meaning(env)
    some = {VARIABLES[0]: variable("t", 7) + 0, VARIABLES[2]: 5}
    moved = substitute(index, some)
    renamed = {**env, VARIABLES[2]: 5, Var("t", 0, 6): env[VARIABLES[0]]}
    assert value_of(moved, renamed) == meaning({**env, VARIABLES[2]: 5})


@settings(max_examples=300, deadline=None)
@given(expressions, expressions)
def test_equal_sums_are_equal_objects(a: tuple[IndexLike, Meaning], b: tuple[IndexLike, Meaning]) -> None:
    assert a[0] + b[0] == b[0] + a[0]
    assert a[0] - a[0] == 0
    assert hash(a[0] + b[0]) == hash(b[0] + a[0])
    assert str(a[0] + b[0]) == str(b[0] + a[0])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_a_flat_index_comes_apart_again(shape: list[int], data: st.DataObject) -> None:
    """Row-major position and back, as a reshape to the same shape has it, leaves the index alone."""
    index = [variable(f"i{k}", extent) if extent > 1 else 0 for k, extent in enumerate(shape)]
    flat: IndexLike = 0
    for k, extent in zip(index, shape, strict=True):
        flat = flat * extent + k
    rest, found = flat, []
    for extent in reversed(shape[1:]):
        found.insert(0, rest % extent)
        rest = rest // extent
    assert [rest, *found] == index
    split = data.draw(st.sampled_from(shape))
    assert (flat // split) * split + flat % split == flat


def test_variables_and_coefficients() -> None:
    i, j = variable("i", 7), variable("j", 3)
    index = i * 4 + j % 2 + 5
    assert isinstance(index, Index)
    assert {v.name for v in index.variables} == {"i", "j"}
    assert index.coefficient(Var("i", 0, 6)) == 4
    assert index.coefficient(Var("j", 0, 2)) is None
    assert str(index) == "4 * i + (j) % 2 + 5"


@pytest.mark.parametrize(
    ("index", "shown"),
    [
        (variable("i", 8) // 8, "0"),
        (variable("i", 8) % 8, "i"),
        ((variable("i", 8) * 6 + variable("k", 6)) // 6, "i"),
        ((variable("i", 8) * 6 + variable("k", 6)) % 6, "k"),
        ((variable("i", 64) // 4) // 2, "(i) // 8"),
        (variable("i") // 3 * 3 + variable("i") % 3, "i"),
        (minimum(variable("i", 8), 9), "i"),
        (maximum(variable("i", 8), 9), "9"),
        (variable("n") * variable("m") // variable("m"), "n"),
        (variable("i", 8) - variable("i", 8), "0"),
    ],
)
def test_known_simplifications(index: IndexLike, shown: str) -> None:
    assert str(index) == shown


def test_sizes() -> None:
    n = variable("n", lo=1)
    assert product((2, 3, 4)) == 24
    assert product(()) == 1
    assert product((n, 4)) == n * 4
    assert upper(variable("i", 8) * 2 + 1) == 15
    assert upper(n) is None


def test_values_read_at_run_time_keep_their_bounds() -> None:
    found = var_index(Dynamic("row", 0, 9))
    assert interval(found * 3 + 1) == (1, 28)
    assert substitute(found + 1, {}, lambda atom: 4) == 5
    assert minimum(found, 9) == found


def test_the_smaller_of_two_that_differ_by_a_number() -> None:
    n = var_index(Var("n", 1, None))
    assert minimum(n, n + 1) == n == minimum(n + 1, n)
    assert maximum(n, n + 1) == n + 1 == maximum(n + 1, n)
