"""Elementwise functions of analysis. Integers are converted to f32 first."""

from __future__ import annotations

import math

import numpy as np

from intaglio.ops.registry import op, prim


class Analytic:
    """What all of them share."""

    accepts = "float"
    tolerance = 4


@op
class exp(Analytic):
    """Exponential."""

    formula = "y[*i] = exp(x[*i])"
    ref = np.exp
    grad = lambda g, x, y: [g * y]


@op
class expm1(Analytic):
    """exp(x) - 1, exact near 0."""

    formula = "y[*i] = expm1(x[*i])"
    ref = np.expm1
    grad = lambda g, x, y: [g * (y + 1)]


@op
class log(Analytic):
    """Natural logarithm."""

    formula = "y[*i] = log(x[*i])"
    ref = np.log
    grad = lambda g, x, y: [g / x]
    domain = (0.5, 4.0)


@op
class log1p(Analytic):
    """log(1 + x), exact near 0."""

    formula = "y[*i] = log1p(x[*i])"
    ref = np.log1p
    grad = lambda g, x, y: [g / (x + 1)]
    domain = (-0.5, 4.0)


@op
class sqrt(Analytic):
    """Square root."""

    formula = "y[*i] = sqrt(x[*i])"
    ref = np.sqrt
    grad = lambda g, x, y: [g * 0.5 / y]
    domain = (0.5, 4.0)
    tolerance = 1


@op
class sin(Analytic):
    """Sine."""

    formula = "y[*i] = sin(x[*i])"
    ref = np.sin
    grad = lambda g, x, y: [g * prim.cos(x)]


@op
class cos(Analytic):
    """Cosine."""

    formula = "y[*i] = cos(x[*i])"
    ref = np.cos
    grad = lambda g, x, y: [-g * prim.sin(x)]


@op
class tan(Analytic):
    """Tangent."""

    formula = "y[*i] = tan(x[*i])"
    ref = np.tan
    grad = lambda g, x, y: [g * (y * y + 1)]
    domain = (-1.2, 1.2)


@op
class asin(Analytic):
    """Arc sine."""

    formula = "y[*i] = asin(x[*i])"
    ref = np.arcsin
    grad = lambda g, x, y: [g / prim.sqrt(1 - x * x)]
    domain = (-0.9, 0.9)


@op
class acos(Analytic):
    """Arc cosine."""

    formula = "y[*i] = acos(x[*i])"
    ref = np.arccos
    grad = lambda g, x, y: [-g / prim.sqrt(1 - x * x)]
    domain = (-0.9, 0.9)


@op
class atan(Analytic):
    """Arc tangent."""

    formula = "y[*i] = atan(x[*i])"
    ref = np.arctan
    grad = lambda g, x, y: [g / (x * x + 1)]


@op
class sinh(Analytic):
    """Hyperbolic sine."""

    formula = "y[*i] = sinh(x[*i])"
    ref = np.sinh
    grad = lambda g, x, y: [g * prim.cosh(x)]


@op
class cosh(Analytic):
    """Hyperbolic cosine."""

    formula = "y[*i] = cosh(x[*i])"
    ref = np.cosh
    grad = lambda g, x, y: [g * prim.sinh(x)]


@op
class tanh(Analytic):
    """Hyperbolic tangent."""

    formula = "y[*i] = tanh(x[*i])"
    ref = np.tanh
    grad = lambda g, x, y: [g * (1 - y * y)]


@op
class asinh(Analytic):
    """Inverse of sinh."""

    formula = "y[*i] = asinh(x[*i])"
    ref = np.arcsinh
    grad = lambda g, x, y: [g / prim.sqrt(x * x + 1)]


@op
class acosh(Analytic):
    """Inverse of cosh."""

    formula = "y[*i] = acosh(x[*i])"
    ref = np.arccosh
    grad = lambda g, x, y: [g / prim.sqrt(x * x - 1)]
    domain = (1.2, 4.0)


@op
class atanh(Analytic):
    """Inverse of tanh."""

    formula = "y[*i] = atanh(x[*i])"
    ref = np.arctanh
    grad = lambda g, x, y: [g / (1 - x * x)]
    domain = (-0.9, 0.9)


_erf = np.frompyfunc(math.erf, 1, 1)


@op
class erf(Analytic):
    """Error function: 2 / sqrt(pi) times the integral of exp(-t * t) from 0 to x."""

    formula = "y[*i] = erf(x[*i])"
    ref = lambda x: np.asarray(_erf(np.asarray(x, np.float64)), np.float64).astype(x.dtype)
    grad = lambda g, x, y: [g * (2 / math.sqrt(math.pi)) * prim.exp(-(x * x))]


@op
class sigmoid(Analytic):
    """Logistic function. It has a derivative of its own because that of its formula overflows."""

    formula = "y[*i] = 1 / (1 + exp(-x[*i]))"
    ref = lambda x: 1 / (1 + np.exp(-x))
    grad = lambda g, x, y: [g * y * (1 - y)]
