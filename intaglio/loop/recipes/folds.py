"""`fold`, the sum of windows that overlap: what the derivative of pooling is.

Where at most one element of each window is not zero (the derivative of a maximum), every window is added to
that place of a local plane; of windows side by side, each place takes what its window has if it is the one.
Otherwise each place gathers the windows that meet it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import product as combinations
from math import prod

import numpy as np

from intaglio.loop.ir import Alloc, Buffer, Reduce, Stmt, Store
from intaglio.loop.lower_group import combine_identity
from intaglio.loop.recipes.anchor import Anchor, Nest, Place
from intaglio.loop.recipes.images import Window
from intaglio.loop.recipes.nests import Names, along_lanes, loop, parallel, ranged
from intaglio.loop.recipes.sections import SPATIAL, Phase, Section, over_sections, place_sections
from intaglio.ops.expr import FUNCTIONS, Apply, Const, Expr, IndexValue, Read, apply, as_index, cast, where
from intaglio.ops.movement import flat_index, split_index
from intaglio.shared import dtypes
from intaglio.shared.index import IndexLike, product, upper, variable
from intaglio.shared.target import Target

MOST_TERMS = 320  # reads of all sections together, which are written out
MOST_PHASES = 4  # results side by side in one iteration
LARGEST_PLANE = 1 << 16  # elements of a plane on the stack
LARGEST_WINDOW = 1 << 8


def lower_fold(anchor: Anchor, target: Target) -> Nest | None:
    """A nest for `fold`; None where plain loops do."""
    u, size = anchor.operands[0], anchor.result.shape[2:]
    rank = len(size)
    out, kernel = u.type.shape[2 : 2 + rank], u.type.shape[2 + rank :]
    if not all(isinstance(e, int) for e in (*size, *out, *kernel)):
        return None
    settings = (anchor.attrs[name] for name in ("strides", "dilations", "padding"))
    axes = zip(size, out, kernel, *settings, strict=True)
    windows = tuple(Window(n, p, k, s, d, low) for n, p, k, s, d, (low, _) in axes)
    forms = (_Repeated, _Scattered, _Gathered)
    nests = (form(anchor, windows, target.lanes(anchor.dtype.size)).nest() for form in forms)
    return next((nest for nest in nests if nest is not None), None)


@dataclass
class _Fold:
    """What both forms share."""

    anchor: Anchor
    windows: tuple[Window, ...]
    lanes: int

    def __post_init__(self) -> None:
        self.names = Names(self.anchor.names)
        self.zero = combine_identity("add", self.anchor.dtype)

    def over_planes(self, body: Callable[[Place], list[Stmt]], note: str) -> Nest:
        """`body(image)` for every channel of every image."""
        names, (batch, channels, *_) = self.names, self.anchor.result.shape
        loops = loop(names["n"], batch, lambda n: loop(names["c"], channels, lambda c: body((n, c))))
        work = upper(product(self.anchor.result.shape))
        return Nest(parallel(loops, None if work is None else 4 * work, {names["n"], names["c"]}), (note,))

    @abstractmethod
    def nest(self) -> Nest | None:
        """The loops; None where the form does not fit."""

    def term(self, image: Place, place: Place, taps: Place) -> Expr:
        """An element of a window."""
        return self.anchor.operands[0][(*image, *place, *taps)]

    def chooses(self) -> bool:
        """Whether element number k of each window is something where one number is k, and else zero."""
        kernel = tuple(w.kernel for w in self.windows)
        if prod(kernel) > LARGEST_WINDOW:
            return False
        image = tuple(variable(f"i{k}", e) for k, e in enumerate(self.anchor.result.shape[:2]))
        place = tuple(variable(f"p{k}", w.out) for k, w in enumerate(self.windows))
        found = [_choice(self.term(image, place, r)) for r in combinations(*map(range, kernel))]
        if any(choice is None for choice in found):
            return False
        numbers, values, constants = zip(*found, strict=True)
        same = all(n == numbers[0] for n in numbers) and all(v == values[0] for v in values)
        return same and numbers[0].dtype.kind == "uint" and constants == tuple(range(len(constants)))

    def chosen(self, image: Place, place: Place) -> tuple[Expr, Expr]:
        """The number of the element of a window that is not zero, and what it is."""
        found = _choice(self.term(image, place, (0,) * len(place)))
        assert found is not None
        return found[:2]


class _Gathered(_Fold):
    """Each place sums the elements of the windows that meet it; edges apart."""

    def nest(self) -> Nest | None:
        axes = [place_sections(w.size, w) for w in self.windows]
        terms = prod(sum(section.terms for section in axis) for axis in axes)
        if terms > MOST_TERMS or self.windows[-1].stride > MOST_PHASES:
            return None
        return self.over_planes(
            lambda image: over_sections(self.names, axes, lambda *chosen: self.results(image, *chosen)),
            "gathered from the windows that meet each place, edges apart",
        )

    def results(self, image: Place, place: Place, chosen: tuple[Section, ...]) -> list[Stmt]:
        """The results of all phases of the strides."""
        return [
            s
            for phases in combinations(*(section.phases for section in chosen))
            for s in self.result(image, place, phases)
        ]

    def result(self, image: Place, place: Place, phases: tuple[Phase, ...]) -> list[Stmt]:
        at = (a * w.stride + f.first for w, a, f in zip(self.windows, place, phases, strict=True))
        terms = [
            self.term(
                image,
                tuple(a - back for a, (_, back) in zip(place, taps, strict=True)),
                tuple(r for r, _ in taps),
            )
            for taps in combinations(*(phase.taps for phase in phases))
        ]
        value: Expr = reduce(lambda a, b: a + b, terms) if terms else self.zero
        return self.anchor.finish((*image, *at), value)


class _Repeated(_Fold):
    """Windows side by side: number and value of each are repeated along the last axis, so that loops over
    places read them at unit stride."""

    def nest(self) -> Nest | None:
        windows = self.windows
        beside = all(w.kernel == w.stride and w.dilation == 1 and not w.low for w in windows)
        inside = all(w.out * w.kernel <= w.size for w in windows)
        self.outs, self.times = tuple(w.out for w in windows), windows[-1].kernel
        size = prod(self.outs) * self.times
        if not beside or not inside or self.times > MOST_PHASES or size > LARGEST_PLANE or not self.chooses():
            return None
        self.value = Buffer(self.names.fresh("value"), self.anchor.dtype, (size,), "local", "stack")
        self.number = Buffer(self.names.fresh("number"), dtypes.i32, (size,), "local", "stack")
        return self.over_planes(self.body, "each place takes its window's element if it is the one")

    def body(self, image: Place) -> list[Stmt]:
        """All windows of a channel, and then all places."""
        return [
            *(
                s
                for buffer in (self.value, self.number)
                for s in (Alloc(buffer), *self.repeat(buffer, image))
            ),
            *self.rows(image, (), ()),
        ]

    def repeat(self, buffer: Buffer, image: Place) -> list[Stmt]:
        """Values, or numbers less the places along the last axis."""

        def window(x: IndexLike) -> list[Stmt]:
            number, value = self.chosen(image, split_index(x, self.outs))
            place = cast(number, dtypes.i32)
            return [
                Store(buffer, (x * self.times + r,), value if buffer is self.value else place - r)
                for r in range(self.times)
            ]

        return loop(self.names["x"], prod(self.outs), window)

    def rows(self, image: Place, windows: Place, spot: tuple[int, ...]) -> list[Stmt]:
        """Loops over windows along all axes but the last, each place of theirs written out; zeros behind."""
        axis = len(windows)
        w = self.windows[axis]
        behind = self.zeros(image, windows, spot, axis)
        if axis == len(self.windows) - 1:
            size = w.out * w.kernel
            row = along_lanes(self.names, size, self.lanes, lambda x: self.element(image, windows, spot, x))
            return [*row, *behind]

        def window(p: IndexLike) -> list[Stmt]:
            return [s for r in range(w.kernel) for s in self.rows(image, (*windows, p), (*spot, r))]

        return [*loop(self.names[SPATIAL[axis]], w.out, window), *behind]

    def place(self, windows: Place, spot: tuple[int, ...]) -> Place:
        return tuple(p * w.kernel + r for p, r, w in zip(windows, spot, self.windows, strict=False))

    def element(self, image: Place, windows: Place, spot: tuple[int, ...], x: IndexLike) -> list[Stmt]:
        """A place of the result."""
        at = flat_index((*windows, x), (*self.outs[:-1], self.outs[-1] * self.times))
        number = flat_index((*spot, 0), tuple(w.kernel for w in self.windows))
        assert isinstance(number, int)
        value, held = (Read(buffer, (at,), buffer.dtype) for buffer in (self.value, self.number))
        found = where(apply("eq", held, number), value, self.zero)
        return self.anchor.finish((*image, *self.place(windows, spot), x), found)

    def zeros(self, image: Place, windows: Place, spot: tuple[int, ...], axis: int) -> list[Stmt]:
        """Places behind the last window of an axis."""

        def over(place: Place) -> list[Stmt]:
            k = len(place)
            if k == len(self.windows):
                return self.anchor.finish((*image, *place), self.zero)
            w = self.windows[k]
            start = w.out * w.kernel if k == axis else 0
            return ranged(self.names[f"y{k}"], start, w.size, lambda y: over((*place, y)))

        return over(self.place(windows, spot))


class _Scattered(_Fold):
    """Each window adds its one element to a local plane, which then goes through the epilogue."""

    def nest(self) -> Nest | None:
        windows = self.windows
        self.kernel = tuple(w.kernel for w in windows)
        self.extents = tuple(max(w.last + 1, w.low + w.size) for w in windows)
        if prod(self.extents) > LARGEST_PLANE or not self.chooses():
            return None
        self.plane = Buffer(
            self.names.fresh("plane"), self.anchor.dtype, (prod(self.extents),), "local", "stack"
        )
        return self.over_planes(self.body, "each window's element added to its place in a local plane")

    def body(self, image: Place) -> list[Stmt]:
        """All windows of a channel, and then all places."""
        size = prod(self.extents)
        zeros = loop(self.names["e"], size, lambda e: [Store(self.plane, (e,), self.zero)])
        return [Alloc(self.plane), *zeros, *self.over_windows(image, ()), *self.finish(image)]

    def over_windows(self, image: Place, place: Place) -> list[Stmt]:
        axis = len(place)
        if axis == len(self.windows):
            return self.window(image, place)
        extent = self.windows[axis].out
        return loop(self.names[SPATIAL[axis]], extent, lambda p: self.over_windows(image, (*place, p)))

    def window(self, image: Place, place: Place) -> list[Stmt]:
        """One window; a number that is none of its elements adds nothing."""
        number, value = self.chosen(image, place)
        last = prod(self.kernel) - 1
        held = Buffer(self.names.fresh("number"), number.dtype, (), "local", "register")
        at = as_index(Read(held, (), held.dtype), 0, last)
        taps = split_index(at, self.kernel)
        index = flat_index(
            tuple(p * w.stride + r * w.dilation for w, p, r in zip(self.windows, place, taps, strict=True)),
            self.extents,
        )
        value = where(apply("le", number, last), value, self.zero)
        apart = all(w.stride > (w.kernel - 1) * w.dilation for w in self.windows)
        add = Store(self.plane, (index,), value) if apart else Reduce(self.plane, (index,), "add", value)
        return [Alloc(held), Store(held, (), apply("min", number, last)), add]

    def finish(self, image: Place) -> list[Stmt]:
        """Every place of the plane through the epilogue."""
        names, windows = self.names, self.windows
        size = tuple(w.size for w in windows)

        def along(place: Place) -> list[Stmt]:
            if len(place) < len(size):
                extent = size[len(place)]
                return loop(names[f"y{len(place)}"], extent, lambda y: along((*place, y)))
            at = flat_index(tuple(y + w.low for y, w in zip(place, windows, strict=True)), self.extents)
            return self.anchor.finish((*image, *place), Read(self.plane, (at,), self.plane.dtype))

        if size == self.extents:
            return loop(names["y"], prod(size), lambda y: along(split_index(y, size)))
        return along(())


def _choice(term: Expr) -> tuple[Expr, Expr, int] | None:
    """`(n, v, k)` of a term that is v where n is k, and else zero."""
    if not isinstance(term, Apply) or term.fn != "where" or term.args[2] != Const(0, term.dtype):
        return None
    condition, value, _ = term.args
    if not isinstance(condition, Apply) or condition.fn != "eq":
        return None
    for number, other in (condition.args, condition.args[::-1]):
        constant = _constant(other)
        if constant is not None and number.dtype.kind == "uint":
            return number, value, constant
    return None


def _constant(value: Expr) -> int | None:
    """The number that an integer expression without reads always is."""
    if isinstance(value, Const):
        return int(value.value)
    if isinstance(value, IndexValue):
        return value.index if isinstance(value.index, int) else None
    if not isinstance(value, Apply) or value.fn not in ("cast", "add", "mul"):
        return None
    arguments = [_constant(a) for a in value.args]
    if any(a is None for a in arguments) or value.dtype.kind not in ("int", "uint"):
        return None
    if value.fn == "cast":
        return arguments[0]
    made = FUNCTIONS[value.fn].numpy(*(np.asarray(a, value.dtype.numpy) for a in arguments))
    return int(made)
