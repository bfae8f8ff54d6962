"""One operator, one declaration.

A class decorated with `@op` (its bases give shared fields) becomes an `Op`: formula, NumPy oracle,
derivative, accepted types, test domain and tolerance on one screen. What the formula does not say (views,
windows, data-dependent indices) is a function beside it. Everything else in the package, and the tests,
walks the registry.

Fields of a declaration:

* `formula`: index notation. For a `map`, `y[*i] = f(x[*i])`; for a reduction, `y[*i] += x[*i,*r]`.
* `ref`: NumPy oracle, `ref(*arrays, **attrs)`; a tuple when there are several results.
* `grad`: `grad(g, *operands, y, **attrs)` -> one gradient per operand, written with tensor operations,
  so that one rule serves the eager tape, the graph and the tests. A gradient may be None (zero) or a
  function without arguments, called only when that operand is differentiated by; `constant` stands for
  zero gradients. `g` and `y` are tuples when the operator has several results.
* `infer`: `infer(*types, **attrs)` -> type or tuple of types; derived from the formula if absent.
* `element`: `element(i, *operands, **attrs)` -> the scalar at output index `i`, for views; an operand
  is read by `x[index]` and has `.type`.
* `extents`, `term`: for reductions that are not plain formulas: the extents of the reduced axes, and
  the term at output index `i` and reduction index `r`.
* `accepts`: element types of the operands (`float`, `number`, `int`, `bits`, `bool`, `any`).
* `domain`: interval of the test inputs; `tolerance`: ULPs of the result that C may differ from `ref`.
* `samples`: `((operands, attrs), ...)`, an operand given by its shape or as an array, where test inputs
  cannot be derived from the formula.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from intaglio.ops import expr
from intaglio.ops import formula as notation
from intaglio.ops.expr import Expr
from intaglio.shared import dtypes
from intaglio.shared.dtypes import DType
from intaglio.shared.errors import ArgumentError, DTypeError
from intaglio.shared.index import IndexLike
from intaglio.shared.types import TensorType

Kind = Literal["map", "view", "reduce", "opaque"]
Accepts = Literal["float", "number", "int", "bits", "bool", "any"]
_ACCEPTED: dict[str, tuple[str, ...]] = {
    "float": ("float",),
    "number": ("float", "int", "uint"),
    "int": ("int", "uint"),
    "bits": ("int", "uint", "bool"),
    "bool": ("bool",),
    "any": ("float", "int", "uint", "bool"),
}
REGISTRY: dict[str, Op] = {}


@dataclass(frozen=True, eq=False)
class Op:
    """A primitive operator. Calling it applies it to arrays, tensors or graph values alike."""

    name: str
    doc: str
    kind: Kind
    formula: str
    ref: Callable[..., Any]
    grad: Callable[..., Sequence[Any]] | None
    infer_rule: Callable[..., Any] | None
    element_rule: Callable[..., Expr] | None
    extents_rule: Callable[..., tuple[IndexLike, ...]] | None
    term_rule: Callable[..., Expr] | None
    combine: str | None
    result: str
    accepts: tuple[Accepts, ...]
    domain: tuple[float, float]
    tolerance: int
    ordered: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Callable[[str], Op], tuple[str]]:
        return lookup, (self.name,)

    def __call__(self, *operands: Any, **attrs: Any) -> Any:
        from intaglio.ops.dispatch import dispatch

        return dispatch(self, operands, attrs)

    @property
    def parsed(self) -> notation.Formula:
        return notation.parse(self.formula)

    def check_types(self, types: Sequence[TensorType]) -> None:
        """Raise a DTypeError when an operand's element type is not accepted."""
        for position, type_ in enumerate(types):
            accepts = self.accepts[min(position, len(self.accepts) - 1)]
            if type_.dtype.kind not in _ACCEPTED[accepts]:
                raise DTypeError(
                    f"{self.name}: operand {position} is {type_} but {accepts} elements are expected"
                    f"   [{self.formula}]",
                    hint="convert it with cast / .to(dtype)",
                )

    def infer(self, types: Sequence[TensorType], attrs: dict[str, Any]) -> tuple[TensorType, ...]:
        """Types of the results. Raises ShapeError or DTypeError with the formula."""
        self.check_types(types)
        if self.infer_rule is not None:
            try:
                inferred = self.infer_rule(*types, **attrs)
            except TypeError:
                self._check_call(types, attrs)
                raise
            return inferred if isinstance(inferred, tuple) else (inferred,)
        if attrs:
            raise ArgumentError(f"{self.name}: takes no attribute {next(iter(attrs))}   [{self.formula}]")
        extents = notation.bind_extents(self.name, self.parsed, [t.shape for t in types])
        shape = tuple(e for axis in self.parsed.axes[self.parsed.result] for e in extents[axis])
        return (TensorType(self._result_dtype(types), shape),)

    def _check_call(self, types: Sequence[TensorType], attrs: dict[str, Any]) -> None:
        """Raise an ArgumentError when the shape rule cannot be called like this."""
        assert self.infer_rule is not None
        signature = inspect.signature(self.infer_rule)
        try:
            signature.bind(*types, **attrs)
        except TypeError as error:
            takes = ", ".join(signature.parameters)
            raise ArgumentError(
                f"{self.name}: takes {takes}, but got {len(types)} operands and attributes "
                f"{', '.join(attrs) or 'none'} ({error})   [{self.formula}]"
            ) from None

    def _result_dtype(self, types: Sequence[TensorType]) -> DType:
        if self.result == "bool":
            return dtypes.bool_
        last = types[-1].dtype
        for position, type_ in enumerate(types):
            if type_.dtype != last and not (position == 0 and type_.dtype == dtypes.bool_):
                raise DTypeError(
                    f"{self.name}: operand {position} is {type_} but operand {len(types) - 1} "
                    f"is {types[-1]}   [{self.formula}]",
                    hint="cast one of them",
                )
        return last

    def element(self, i: Sequence[IndexLike], operands: Sequence[Any], attrs: dict[str, Any]) -> Expr:
        """The scalar at output index `i` of a map or view."""
        if self.element_rule is not None:
            return self.element_rule(tuple(i), *operands, **attrs)
        parsed = self.parsed
        return parsed.element(notation.binding(parsed.axes[parsed.result], [tuple(i)]), operands)

    def extents(self, types: Sequence[TensorType], attrs: dict[str, Any]) -> tuple[IndexLike, ...]:
        """Extents of the reduced axes of a reduction."""
        assert self.extents_rule is not None
        return self.extents_rule(*types, **attrs)

    def term(
        self, i: Sequence[IndexLike], r: Sequence[IndexLike], operands: Sequence[Any], attrs: dict[str, Any]
    ) -> Expr:
        """The term of a reduction at output index `i` and reduction index `r`."""
        assert self.term_rule is not None
        return self.term_rule(tuple(i), tuple(r), *operands, **attrs)


def op(declaration: type) -> Op:
    """Register a declaration; its class name is the operator's name, `_` at the end is dropped."""
    fields = {k: v for base in reversed(declaration.__mro__[:-1]) for k, v in vars(base).items()}
    name = declaration.__name__.rstrip("_")
    text: str = fields["formula"]
    accepts = fields.get("accepts", "number")
    made = Op(
        name=name,
        doc=(declaration.__doc__ or "").strip(),
        kind=fields.get("kind", "map"),
        formula=text,
        ref=_plain(fields["ref"]),
        grad=_plain(fields.get("grad")),
        infer_rule=_plain(fields.get("infer")),
        element_rule=_plain(fields.get("element")),
        extents_rule=_plain(fields.get("extents")),
        term_rule=_plain(fields.get("term")),
        combine=fields.get("combine"),
        result=fields.get("result", "same"),
        accepts=accepts if isinstance(accepts, tuple) else (accepts,),
        domain=fields.get("domain", (-2.0, 2.0)),
        tolerance=fields.get("tolerance", 1),
        ordered=fields.get("ordered", False),
        extra={k: v for k, v in fields.items() if k in ("samples",)},
    )
    if name in REGISTRY:
        raise ValueError(f"operator {name} is declared twice")
    REGISTRY[name] = made
    if made.kind == "map" and name not in expr.FUNCTIONS:
        expr.FUNCTIONS[name] = expr.Function(name, made.ref, made.result)
    return made


def _plain(function: Any) -> Any:
    return function.__func__ if isinstance(function, staticmethod) else function


def constant(*operands: Any, **attrs: Any) -> Sequence[Any]:
    """The derivative of an operator that is constant almost everywhere: zero for every operand."""
    return [None] * (len(operands) - 2)


class Primitives:
    """Every primitive operator as an attribute, looked up at its use: `prim.exp(x)`, `prim.and_(a, b)`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return REGISTRY[name.rstrip("_")]
        except KeyError:
            raise AttributeError(f"there is no primitive operator {name!r}") from None


prim = Primitives()


def lookup(name: str) -> Op:
    """The operator of that name; KeyError when there is none."""
    return REGISTRY[name]


def all_ops() -> Iterator[Op]:
    """Every declared operator, in order of declaration."""
    return iter(REGISTRY.values())
