"""Products of symbols have one form, and are divided by their factors."""

from __future__ import annotations

import itertools

import pytest

from intaglio.shared.index import Index, IndexLike, Var, floordiv, interval, mod, substitute, var_index

B, S, H = (var_index(Var(name, 1, 9)) for name in "bsh")
FACTORS: list[IndexLike] = [2, B, S, 3, S + 1]


def in_order(factors: tuple[IndexLike, ...]) -> IndexLike:
    total: IndexLike = 1
    for factor in factors:
        total = total * factor
    return total


def test_the_order_of_factors_does_not_matter() -> None:
    assert len({in_order(order) for order in itertools.permutations(FACTORS)}) == 1
    assert (B * S) * (H * 2) == B * ((2 * S) * H)
    assert (2 * S + 2) * B == 2 * (B * (S + 1))
    assert (-1 * S) * B == -1 * (S * B)


@pytest.mark.parametrize(
    ("num", "den", "quotient"),
    [
        (B * S * 2, S, 2 * B),
        (4 * (B * S), 2 * S, 2 * B),
        (B * S + 3 * S, S, B + 3),
        (B * S * H, H * B, S),
        (B * (S + 1), S + 1, B),
        (6 * B, 2 * B, 3),
    ],
)
def test_exact_quotients(num: IndexLike, den: IndexLike, quotient: IndexLike) -> None:
    assert floordiv(num, den) == quotient
    assert mod(num, den) == 0


def test_other_quotients_stay() -> None:
    for num, den in [(B * S + H, S), (B * S, 2 * S), (B + S, B), (B * S + 1, S)]:
        quotient, rest = floordiv(num, den), mod(num, den)
        for b, s, h in itertools.product(range(1, 5), repeat=3):
            env = {x.terms[0][0]: v for x, v in ((B, b), (S, s), (H, h))}
            n, d = substitute(num, env), substitute(den, env)  # type: ignore[arg-type]
            assert isinstance(n, int)
            assert isinstance(d, int)
            assert substitute(quotient, env) == n // d  # type: ignore[arg-type]
            assert substitute(rest, env) == n % d  # type: ignore[arg-type]


def test_bounds_of_products() -> None:
    assert interval(B * S * H) == (1, 729)
    assert interval((S - 1) * B) == (0, 72)
    assert isinstance(B * S, Index)
