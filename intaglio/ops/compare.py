"""Elementwise comparison, logic and bits. `a > b` is `lt(b, a)`, `a >= b` is `le(b, a)`."""

from __future__ import annotations

import numpy as np

from intaglio.ops.registry import op


class Comparison:
    """What all comparisons share: the result is a truth value."""

    result = "bool"
    accepts = "any"


@op
class eq(Comparison):
    """Whether two elements are equal; NaN equals nothing."""

    formula = "c[*i] = eq(a[*i], b[*i])"
    ref = np.equal


@op
class ne(Comparison):
    """Whether two elements differ; NaN differs from everything."""

    formula = "c[*i] = ne(a[*i], b[*i])"
    ref = np.not_equal


@op
class lt(Comparison):
    """Whether a is less than b; false when either is NaN."""

    formula = "c[*i] = a[*i] < b[*i]"
    ref = np.less


@op
class le(Comparison):
    """Whether a is not greater than b; false when either is NaN."""

    formula = "c[*i] = a[*i] <= b[*i]"
    ref = np.less_equal


class Bits:
    """Logic on truth values, bit by bit on integers."""

    accepts = "bits"
    domain = (-100, 100)


@op
class and_(Bits):
    """Bits that both have; whether both hold."""

    formula = "c[*i] = a[*i] & b[*i]"
    ref = np.bitwise_and


@op
class or_(Bits):
    """Bits that one has; whether one holds."""

    formula = "c[*i] = a[*i] | b[*i]"
    ref = np.bitwise_or


@op
class xor(Bits):
    """Bits in which both differ; whether just one holds."""

    formula = "c[*i] = a[*i] ^ b[*i]"
    ref = np.bitwise_xor


@op
class not_(Bits):
    """Every bit the other one; whether it does not hold."""

    formula = "y[*i] = ~x[*i]"
    ref = np.invert


@op
class shl:
    """Bits moved up by n places; 0 when all leave."""

    formula = "y[*i] = x[*i] << n[*i]"
    ref = np.left_shift
    accepts = "int"
    domain = (0, 40)


@op
class shr:
    """Bits moved down by n places, with copies of the sign; what is left when all leave is the sign."""

    formula = "y[*i] = x[*i] >> n[*i]"
    ref = np.right_shift
    accepts = "int"
    domain = (0, 40)
