"""Functions made of functions: derivatives with respect to arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from intaglio.array import tape
from intaglio.array.mode import enable_grad, mode
from intaglio.array.tensor import Tensor, lifted, seed_of
from intaglio.array.tree import flatten, unflatten
from intaglio.ops.like import full_like
from intaglio.shared.errors import ArgumentError, DTypeError
from intaglio.shared.where import caller

Argnums = int | tuple[int, ...]


def grad(function: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the derivative of `function`, which gives one number, by some of its arguments.

    Args:
        argnums: position of the argument, or positions; the result is then a tuple.
        has_aux: whether `function` gives a pair of the number and something else, which is given back too.
    """
    both = value_and_grad(function, argnums, has_aux=has_aux)

    @wraps(function)
    def derivative(*args: Any, **kwargs: Any) -> Any:
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return derivative


def value_and_grad(
    function: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives what `function` gives, and its derivative by some of its arguments.

    The arguments are float tensors, or tuples, lists and dicts of them; the derivative has their structure.
    It can be differentiated again.

    Raises:
        ArgumentError: the function does not give one number.
    """

    @wraps(function)
    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        changed = list(args)
        wanted: list[Tensor] = []
        trees = []
        for position in (argnums,) if isinstance(argnums, int) else argnums:
            if not -len(args) <= position < len(args):
                raise ArgumentError(f"grad: there is no argument {position} of {len(args)}", where=caller())
            leaves: list[Any] = []
            tree = flatten(args[position], leaves)
            own = [_differentiable(x) for x in leaves]
            changed[position] = unflatten(tree, own)
            trees.append((tree, len(wanted), len(wanted) + len(own)))
            wanted += own
        outer = mode.grad
        with enable_grad():
            result = function(*changed, **kwargs)
            value = _single(result[0] if has_aux else result)
            again = outer and tape.depends_on_others(value, wanted)
            gradients = _gradients(value, wanted, again)
        if not again:
            result = (value.detach(), result[1]) if has_aux else value.detach()
        found = tuple(unflatten(tree, gradients[a:b]) for tree, a, b in trees)
        return result, found[0] if isinstance(argnums, int) else found

    return both


def _differentiable(x: Any) -> Tensor:
    """A tensor to differentiate by, connected to what it was computed from."""
    given = x if isinstance(x, Tensor) else lifted(x)
    if not given.dtype.is_float:
        raise DTypeError(f"grad: an argument is {given.type}; derivatives are by floats only", where=caller())
    if given.requires_grad:
        own: Tensor = given.clone()
        return own
    alias: Tensor = given.detach()
    alias._leaf = True
    return alias


def _single(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shown = value.type if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(f"grad: the function gave {shown}, expected one number", where=caller())
    return value


def _gradients(value: Tensor, wanted: list[Tensor], again: bool) -> list[Tensor]:
    """Zeros for what the value does not depend on."""
    pairs: list[tuple[Any, Any]] = []
    if value.requires_grad:
        pairs = tape.derivatives(
            [value], [seed_of(value, None)], wanted, create_graph=again, retain_graph=again
        )
    found = {id(x): g for x, g in pairs}
    return [found[id(x)] if id(x) in found else full_like(x.detach(), 0) for x in wanted]
