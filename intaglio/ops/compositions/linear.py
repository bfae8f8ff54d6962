"""Matrix products of every kind: NumPy's and PyTorch's `matmul`, `linear`, `einsum`, and relatives."""

from __future__ import annotations

import string
from typing import Any

from intaglio.ops.compositions.basic import convert, dtype_of, expand, rank_of, reshape, shape_of, transpose
from intaglio.ops.contract import contract
from intaglio.ops.dispatch import composition
from intaglio.ops.like import iota_like
from intaglio.ops.registry import prim
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError
from intaglio.shared.index import IndexLike

_LETTERS = string.ascii_lowercase


def matmul(a: Any, b: Any) -> Any:
    """Matrix product by NumPy's rules: vectors are rows on the left and columns on the right, leading
    dimensions are broadcast. Raises ShapeError when the inner dimensions differ."""
    a, b = _same_dtype(a, b)
    left, right = shape_of(a), shape_of(b)
    if not left or not right:
        raise ShapeError(f"matmul: operands are {list(left)} and {list(right)}; both need a dimension")
    inner = right[0] if len(right) == 1 else right[-2]
    if left[-1] != inner:
        raise ShapeError(
            f"matmul: the last dimension of a{list(left)} is {left[-1]} but b{list(right)} wants {inner}"
            f"   [c[*b,m,n] += a[*b,m,k] * b[*b,k,n]]"
        )
    a_axes, b_axes, c_axes = "k", "k", ""
    if len(left) > 1:
        a_axes, c_axes = "mk", "m"
    if len(right) > 1:
        b_axes, c_axes = "kn", c_axes + "n"
    batch_left, batch_right = left[:-2], right[:-2]
    names = [x for x in _LETTERS if x not in "mkn"]
    batch = names[: max(len(batch_left), len(batch_right))]
    a, a_batch = _dropped(a, batch_left, batch_right, batch, len(left) - len(batch_left))
    b, b_batch = _dropped(b, batch_right, batch_left, batch, len(right) - len(batch_right))
    kept = [x for x in batch if x in a_batch + b_batch]
    y = prim.dot(a, b, spec=f"{a_batch}{a_axes},{b_batch}{b_axes}->{''.join(kept)}{c_axes}")
    if len(kept) == len(batch):
        return y
    extents = iter(shape_of(y))
    return reshape(y, [next(extents) if x in kept else 1 for x in batch] + list(extents))


def _same_dtype(a: Any, b: Any) -> tuple[Any, Any]:
    common = dtypes.promote(dtype_of(a), dtype_of(b))
    return convert(a, common), convert(b, common)


def _dropped(
    x: Any, own: tuple[IndexLike, ...], other: tuple[IndexLike, ...], batch: list[str], tail: int
) -> tuple[Any, str]:
    """The operand without batch dimensions of extent 1, and the names of those it keeps."""
    names = batch[len(batch) - len(own) :]
    kept = [k for k, extent in enumerate(own) if extent != 1]
    shape = shape_of(x)
    return reshape(x, [own[k] for k in kept] + list(shape[len(shape) - tail :])), "".join(
        names[k] for k in kept
    )


@composition
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x times the transpose of `weight` [out, in] (or [in]), plus the bias."""
    rank, own = rank_of(x), rank_of(weight)
    if rank == 0 or own not in (1, 2) or shape_of(x)[-1] != shape_of(weight)[-1]:
        raise ShapeError(
            f"linear: x is {list(shape_of(x))} but weight {list(shape_of(weight))} wants "
            f"{shape_of(weight)[-1:]} as last dimension   [y[*b,o] += x[*b,i] * w[o,i]]"
        )
    x, weight = _same_dtype(x, weight)
    names = [n for n in _LETTERS if n not in "io"][: rank - 1]
    batch, out = "".join(names), "o" if own == 2 else ""
    y = prim.dot(x, weight, spec=f"{batch}i,{out}i->{batch}{out}")
    return y if bias is None else y + bias


@composition
def bilinear(a: Any, b: Any, weight: Any, bias: Any = None) -> Any:
    """`y[*n,o] = sum of a[*n,i] * weight[o,i,j] * b[*n,j]`, plus the bias."""
    y = einsum("...i,oij,...j->...o", a, weight, b)
    return y if bias is None else y + bias


def outer(a: Any, b: Any) -> Any:
    """Every product of an element of one vector with one of the other."""
    return prim.mul(reshape(a, (-1, 1)), reshape(b, (1, -1)))


@composition
def einsum(equation: str, *operands: Any) -> Any:
    """Sums of products by Einstein's notation, of any number of operands; `...` stands for leading axes.

    Pairs are contracted from left to right. Raises ArgumentError for an equation that does not fit.
    """
    inputs, output = _parse(equation, [rank_of(x) for x in operands])
    extents: dict[str, IndexLike] = {}
    for names, x in zip(inputs, operands, strict=True):
        for name, extent in zip(names, shape_of(x), strict=True):
            held = extents.setdefault(name, extent)
            if held != extent and 1 not in (held, extent):
                raise ShapeError(f"einsum: axis {name} of {equation!r} is {held} and {extent}")
            if held == 1:
                extents[name] = extent
    terms = []
    for k, (names, x) in enumerate(zip(inputs, operands, strict=True)):
        elsewhere = set(output).union(*(other for j, other in enumerate(inputs) if j != k))
        terms.append(_alone(x, names, extents, elsewhere))
    while len(terms) > 1:
        needed = set(output).union(*(names for _, names in terms[2:]))
        terms[:2] = [_pair(*terms[0], *terms[1], needed)]
    value, names = terms[0]
    value = transpose(value, [names.index(n) for n in output if n in names])
    shape = [extents[n] if n in names else 1 for n in output]
    return expand(reshape(value, shape), [extents[n] for n in output])


def _parse(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Axis names of every operand and of the result, with the ellipsis written out."""
    text = equation.replace(" ", "")
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ranks):
        raise ArgumentError(f"einsum: {equation!r} names {len(inputs)} operands, got {len(ranks)}")
    spare = [n for n in string.ascii_letters if n not in text]
    widths = [rank - len(names.replace("...", "")) for names, rank in zip(inputs, ranks, strict=True)]
    for names, width, rank in zip(inputs, widths, ranks, strict=True):
        if width < 0 or (width > 0 and "..." not in names):
            raise ArgumentError(f"einsum: {names!r} of {equation!r} does not name {rank} dimensions")
    widest = max(widths)
    hidden = "".join(spare[:widest])
    inputs = [names.replace("...", hidden[widest - w :]) for names, w in zip(inputs, widths, strict=True)]
    if arrow:
        output = output.replace("...", hidden)
    else:
        everything = "".join(inputs)
        output = hidden + "".join(
            sorted(n for n in set(everything) if everything.count(n) == 1 and n not in hidden)
        )
    if len(set(output)) != len(output) or not set(output) <= set("".join(inputs)):
        raise ArgumentError(f"einsum: {equation!r} repeats an axis of the result, or makes one")
    return inputs, output


def _alone(x: Any, names: str, extents: dict[str, IndexLike], elsewhere: set[str]) -> tuple[Any, str]:
    """One operand with its diagonals taken, and without axes that only it has or that repeat it."""
    while len(set(names)) != len(names):
        first = next(k for k, n in enumerate(names) if n in names[k + 1 :])
        second = names.index(names[first], first + 1)
        shape = shape_of(x)
        on = prim.eq(iota_like(x, shape, first), iota_like(x, shape, second))
        x, names = prim.sum(prim.where(on, x, 0), axes=(second,)), names[:second] + names[second + 1 :]
    dropped = [k for k, n in enumerate(names) if shape_of(x)[k] == 1 and extents[n] != 1]
    if dropped:
        x = reshape(x, [e for k, e in enumerate(shape_of(x)) if k not in dropped])
        names = "".join(n for k, n in enumerate(names) if k not in dropped)
    summed = tuple(k for k, n in enumerate(names) if n not in elsewhere)
    if summed:
        x, names = prim.sum(x, axes=summed), "".join(n for k, n in enumerate(names) if k not in summed)
    return x, names


def _pair(a: Any, left: str, b: Any, right: str, needed: set[str]) -> tuple[Any, str]:
    """The product of two operands, contracted over the axes that nothing else needs."""
    shared = [n for n in left if n in right]
    batch = [n for n in shared if n in needed]
    output = "".join([*batch, *(n for n in left if n not in shared), *(n for n in right if n not in shared)])
    a, b = _same_dtype(a, b)
    return contract(a, left, b, right, output), output
