"""Elementwise arithmetic, comparison, logic and functions of one element."""

from __future__ import annotations

import numpy as np

from intaglio.ops.registry import op

# Ties and edges, as PyTorch has them: the derivative of abs, max and min at a tie or zero goes half to
# each side (max, min) or is zero (abs).


@op
class add:
    """Sum of two elements."""

    formula = "c[*i] = a[*i] + b[*i]"
    ref = np.add
    grad = lambda g, a, b, c: [g, g]


@op
class mul:
    """Product of two elements."""

    formula = "c[*i] = a[*i] * b[*i]"
    ref = np.multiply
    grad = lambda g, a, b, c: [g * b, g * a]


@op
class exp:
    """Exponential."""

    formula = "y[*i] = exp(x[*i])"
    ref = np.exp
    grad = lambda g, x, y: [g * y]
    accepts = "float"
    tolerance = 4


@op
class lt:
    """Whether a is less than b; false when either is NaN."""

    formula = "c[*i] = a[*i] < b[*i]"
    ref = np.less
    result = "bool"
    accepts = "any"
