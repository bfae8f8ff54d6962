"""Rows with reductions in vectors, in native code: lengths that are no whole vectors, extremes, NaN."""

from __future__ import annotations

import numpy as np

import intaglio

LENGTHS = (12, 17, 31, 50, 63, 64, 67, 75, 127, 128, 143, 197, 260)


def test_softmax_of_any_length() -> None:
    rng = np.random.default_rng(0)
    rows = [(8 * rng.standard_normal((5, n))).astype(np.float32) for n in LENGTHS]
    compiled = intaglio.compile(lambda *xs: tuple(x.softmax(-1) for x in xs), rows)
    for x, found in zip(rows, compiled(*rows), strict=True):
        e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
        np.testing.assert_allclose(found, e / e.sum(-1, keepdims=True), rtol=2e-6, atol=1e-12)


def test_extremes_are_found_wherever_they_are() -> None:
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal((2 * n, n)).astype(np.float32) for n in LENGTHS]
    for x in rows:
        n = x.shape[1]
        x[np.arange(n), np.arange(n)] = 9.0
        x[n + np.arange(n), np.arange(n)] = np.nan
    compiled = intaglio.compile(lambda *xs: tuple(r for x in xs for r in (x.amax(-1), (-x).amin(-1))), rows)
    found = compiled(*rows)
    for k, x in enumerate(rows):
        np.testing.assert_array_equal(found[2 * k], x.max(-1))
        np.testing.assert_array_equal(found[2 * k + 1], -x.max(-1))


def test_exponentials_in_vectors_are_exact_to_two_units() -> None:
    """From where results vanish to where they are infinite, whatever the machine's lanes."""
    x = np.concatenate([np.linspace(-110, 95, 6400), [np.nan, np.inf, -np.inf, 0.0] * 8]).astype(np.float32)
    rows = x[: x.size // 32 * 32].reshape(-1, 32)
    compiled = intaglio.compile(lambda x: (x.exp(), x.exp().sum(-1)), [rows])
    assert "exp_f32x" in compiled.source
    with np.errstate(all="ignore"):
        want = np.exp(rows.astype(np.float64))
        found, total = (np.asarray(y) for y in compiled(rows))
        unit = np.spacing(want.astype(np.float32)).astype(np.float64)
        off = np.abs(found.astype(np.float64) - want) / unit
        rounded = want.astype(np.float32)
        np.testing.assert_allclose(total, found.sum(-1), rtol=1e-5)
    finite = np.isfinite(rounded)
    assert off[finite].max() < 1.6
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
