"""Walks an FX graph of ATen operators and builds ours.

Numbers, lists and shapes are plain Python; tensors are graph values. Every result is checked against the
type that PyTorch found for it, so that an operator whose meaning differs is an error, not a wrong answer.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from intaglio.graph.ir import Graph, Value
from intaglio.ops.compositions import random
from intaglio.ops.compositions.basic import static
from intaglio.ops.dispatch import type_of
from intaglio.readers.torch import handlers
from intaglio.readers.torch.arrays import array_of, dtype_of_torch
from intaglio.readers.torch.checks import IndexChecks
from intaglio.readers.torch.handlers.control import HIGHER_ORDER
from intaglio.readers.torch.registry import FxCall, find_handler
from intaglio.shared.atoms import Var
from intaglio.shared.errors import ArgumentError, IntaglioError, UnsupportedError
from intaglio.shared.index import Index, IndexLike
from intaglio.shared.where import Where

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torch.fx import Node as FxNode

assert handlers.LOADED

_NOTHING = {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range",
            "sym_constrain_range_for_size"}  # fmt: skip


class RandomState:
    """The random generator of a program: a state, from the first draw on, that every draw moves on."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph = graph
        self.seed = seed
        self.state: Value | None = None
        self.now: Any = None

    def draw(self, shape: Sequence[Any]) -> Any:
        """The generator's state for one draw of this shape."""
        if self.state is None:
            self.state = self.now = self.graph.state(random.state_of(self.seed), "random_state")
        state = self.now
        self.now = random.advance(state, static(random.words(shape), "random numbers"))
        return state

    def finish(self) -> None:
        """The next call goes on where this one ended."""
        if self.state is not None:
            self.graph.update(self.state, self.now)


class Importer:
    """Imports one FX graph; `env` maps its nodes to graph values and plain Python objects.

    `sizes` are the numbers that a caller gave for PyTorch's symbols. `places` has the places of true elements
    by tensor, `counts` how many there are by the symbol that stands for it. `draws` are the inputs that take
    random numbers and what draws them at every call; None when there is nobody to draw. `checks` are the
    indices to look at; None when there is nobody to tell.
    """

    def __init__(self, module: GraphModule, graph: Graph) -> None:
        self.module = module
        self.graph = graph
        self.env: dict[FxNode, Any] = {}
        self.tensors: dict[str, Value] = {}
        self.random: RandomState | None = None
        self.sizes: dict[str, int] = {}
        self._evaluated: dict[Any, int | None] = {}
        self.places: dict[Value, Value] = {}
        self.counts: dict[Var, Value] = {}
        self.draws: dict[Value, Callable[[], torch.Tensor]] | None = None
        self.checks: IndexChecks | None = None

    @property
    def trains(self) -> bool:
        """Whether the graph is differentiated after it is imported: PyTorch gives no derivatives then."""
        return self.random is not None

    def run(self, placeholders: Mapping[str, Any]) -> Any:
        """Import every node; returns what the graph's output node holds.

        Args:
            placeholders: what each placeholder is, by name.
        """
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.env[node] = placeholders[node.name]
            elif node.op == "get_attr":
                self.env[node] = self.attribute(node.target)
            elif node.op == "call_function":
                self.env[node] = self.call(node)
            elif node.op == "output":
                return self.resolve(node.args[0])
            else:
                raise UnsupportedError(
                    f"FX node {node.op} {node.target} is not supported", where=place_of(node)
                )
        raise ArgumentError("the FX graph has no output")

    def resolve(self, argument: Any) -> Any:
        """An FX argument with its nodes replaced by what they are."""
        if isinstance(argument, torch.fx.Node):
            return self.env[argument]
        if isinstance(argument, (list, tuple)):
            return [self.resolve(a) for a in argument]
        if isinstance(argument, dict):
            return {k: self.resolve(v) for k, v in argument.items()}
        return argument

    def call(self, node: FxNode) -> Any:
        args, kwargs = self.resolve(node.args), self.resolve(node.kwargs)
        if node.target is operator.getitem:
            return args[0][args[1]]
        shown, place, made = str(node.target), place_of(node), len(self.graph.nodes)
        try:
            if isinstance(node.target, torch._ops.OpOverload):
                if node.target._opname in _NOTHING:
                    return None
                result = find_handler(shown)(FxCall(self, node, place), *args, **kwargs)
            else:
                result = self.python(node.target, args, kwargs)
            self.check(node, result)
        except IntaglioError as error:
            if shown not in error.message:
                error.message = f"{shown}: {error.message}"
            error.where = place or error.where
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise UnsupportedError(
                f"{shown}: this use is not supported ({type(error).__name__}: {error})", where=place
            ) from error
        for own in self.graph.nodes[made:]:
            own.where = place or own.where
        return result

    def python(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Arithmetic on extents, which exported programs write as plain Python, and nested graphs."""
        name = getattr(function, "__name__", str(function))
        if name in HIGHER_ORDER:
            return HIGHER_ORDER[name](self, *args, **kwargs)
        if getattr(function, "__module__", "") in ("_operator", "math", "builtins", "torch"):
            if name in _COMPARISONS and any(isinstance(a, Index) for a in args):
                return None  # only asserted: PyTorch has no other use for it in one graph
            replaced: Callable[..., Any] = _EXTENTS.get(name, function)
            return replaced(*args, **kwargs)
        raise UnsupportedError(f"function {name} is not supported")

    def inner(self, module: GraphModule, operands: Sequence[Any]) -> Any:
        """Import a nested graph in place."""
        nested = Importer(module, self.graph)
        nested.tensors, nested.random, nested.draws = self.tensors, self.random, self.draws
        nested.checks = self.checks
        nested.sizes, nested.places, nested.counts = self.sizes, self.places, self.counts
        names = [n.name for n in module.graph.nodes if n.op == "placeholder"]
        return nested.run(dict(zip(names, operands, strict=True)))

    def attribute(self, target: str) -> Any:
        """A tensor or nested graph held by the module."""
        held: Any = self.module
        for part in target.split("."):
            held = getattr(held, part)
        return self.constant(held, target) if isinstance(held, torch.Tensor) else held

    def constant(self, tensor: torch.Tensor, name: str) -> Value:
        if name not in self.tensors:
            self.tensors[name] = self.graph.constant(array_of(tensor), name.replace(".", "_"))
        return self.tensors[name]

    def check(self, node: FxNode, result: Any) -> None:
        """Compare a result's types with PyTorch's. Raises UnsupportedError where they differ."""
        expected = node.meta.get("val")
        if isinstance(expected, torch.Tensor):
            self._check_one(result, expected)
        elif isinstance(expected, (list, tuple)) and isinstance(result, (list, tuple)):
            for own, theirs in zip(result, expected, strict=False):
                if isinstance(theirs, torch.Tensor) and own is not None:
                    self._check_one(own, theirs)

    def _check_one(self, result: Any, expected: torch.Tensor) -> None:
        if expected.device.type != "cpu":
            raise UnsupportedError(
                f"a tensor on {expected.device} is not supported", hint="keep it on the CPU"
            )
        type_ = type_of(result)
        shape = [self.known_size(extent) for extent in expected.shape]
        known = [(a, b) for a, b in zip(type_.shape, shape, strict=False)
                 if isinstance(a, int) and b is not None]  # fmt: skip
        same_rank = len(type_.shape) == expected.dim()
        if type_.dtype != dtype_of_torch(expected.dtype) or not same_rank or any(a != b for a, b in known):
            raise UnsupportedError(
                f"the result would be {type_}, PyTorch has {expected.dtype}{list(expected.shape)}"
            )

    def extents(self, shape: Iterable[Any]) -> tuple[IndexLike, ...]:
        """A shape argument: integers and symbolic extents."""
        return tuple(e if isinstance(e, Index) else int(e) for e in shape)

    def as_value(self, result: Any) -> Value:
        """A graph value for a result: arrays and numbers become constants."""
        if isinstance(result, Value):
            return result
        if isinstance(result, Index):
            return self.size(result)
        return self.graph.constant(np.asarray(result))

    def known_size(self, extent: Any) -> int | None:
        """An extent that PyTorch has found, when it is a number or the caller has given its symbols ones."""
        if isinstance(extent, int):
            return extent
        expression = extent.node.expr
        if expression not in self._evaluated:
            given = {s: self.sizes[str(s)] for s in expression.free_symbols if str(s) in self.sizes}
            number = expression.subs(given)
            self._evaluated[expression] = int(number) if number.is_Integer else None
        return self._evaluated[expression]

    def known_shape(self, tensor: torch.Tensor) -> tuple[int, ...]:
        """The shape that PyTorch has found, in numbers. Raises UnsupportedError where it has symbols."""
        shape = [self.known_size(extent) for extent in tensor.shape]
        known = tuple(extent for extent in shape if extent is not None)
        if len(known) < len(shape):
            raise UnsupportedError(f"a result of the symbolic shape {list(tensor.shape)} is not supported",
                                   hint="give its sizes numbers")  # fmt: skip
        return known

    def size(self, extent: Index) -> Value:
        """An extent of symbols that the program itself found as a number of the program."""
        total: Any = self.graph.constant(np.asarray(extent.const, np.int64))
        for atom, coefficient in extent.terms:
            if not isinstance(atom, Var) or atom not in self.counts:
                raise UnsupportedError(f"the symbolic size {extent} as a result")
            total = total + self.counts[atom] * coefficient
        found: Value = total
        return found


def _integral(value: Any) -> Any:
    return value if isinstance(value, Index) else int(value)


OUTSIDE = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))
"""Where files lie that are not the user's: those of PyTorch and of this package."""
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_EXTENTS: dict[str, Callable[..., Any]] = {
    "sym_int": _integral,
    "trunc": _integral,
    "sym_float": lambda value: value if isinstance(value, Index) else float(value),
}


def place_of(node: FxNode) -> Where | None:
    """The line of the user's program that made a node, as far as its stack trace tells: the innermost outside
    of PyTorch. Where all are inside of it, the part of the user's module is named too."""
    found = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [place for place in found if not place[0].startswith(OUTSIDE)]
    if own:
        return Where(own[-1][0], int(own[-1][1]))
    file, line = found[-1] if found else ("module", "0")
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return Where(file, int(line)) if found else None
    path, kind = stack[-1]
    name = re.sub(r"^L\['\w+'\]\.?", "", path)
    part = f"in {str(getattr(kind, '__qualname__', kind)).rpartition('.')[2]} {name}".strip()
    text = Where(file, int(line)).text
    return Where(file, int(line), f"{text}  ({part})" if text else part)
