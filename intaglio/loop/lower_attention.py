"""Attention as one kernel: strips of scores, what is done to their rows, and the second product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from string import ascii_uppercase

from intaglio.graph.ir import Node, Value
from intaglio.loop.access import Place
from intaglio.loop.attention import FEWEST_ROWS, Attention
from intaglio.loop.bands import Band, bands
from intaglio.loop.groups import Fusion, Group
from intaglio.loop.ir import Alloc, Block, Buffer, For, Stmt, Store
from intaglio.loop.lower_anchor import describe_anchor
from intaglio.loop.lower_group import AXES, GroupLowering, total_work
from intaglio.loop.lower_rows import RowSegments
from intaglio.loop.lower_strips import in_place, row_block
from intaglio.loop.places import substitute_block
from intaglio.loop.recipes.anchor import Accuracy, Nest
from intaglio.loop.recipes.axes import Contraction, Dim, Env, count
from intaglio.loop.recipes.contraction import one_type
from intaglio.loop.recipes.nests import Names, loop, parallel, tiled
from intaglio.loop.recipes.strips import StripProduct
from intaglio.loop.recipes.tiles import best_tile
from intaglio.loop.schedule.regions import bytes_of
from intaglio.loop.threads import may_thread, worth_threads
from intaglio.ops.expr import Const, Expr, Read
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.index import IndexLike, product, upper, variable
from intaglio.shared.target import Target

STRIP_BYTES = 128 << 10
"""The most that one array of rows may have on the stack."""
VECTORS = 2
"""Vectors of a tile at most: many rows share what is read of keys and values, and bands end at narrow
panels."""
TASKS = 8
"""Parts that threads should have to choose from."""
LEAST = 1 << 12
"""Multiply-adds of each product from which tiles pay."""


@dataclass(frozen=True)
class Factor:
    """A factor of each row that is taken out of the weights and goes to the results: `node` multiplies `rest`
    by `scalar`, or divides it."""

    node: Node
    rest: Value
    scalar: Value


def row_factor(group: Group, weight: Value, is_free: Callable[[Node], bool]) -> Factor | None:
    """The factor of each row that the last operator of a group brings in, if that is all it does."""
    node, members = weight.node, set(group.nodes)
    if node is None or node.op.name not in ("mul", "div"):
        return None
    left, right = node.inputs
    for rest, scalar in ((left, right), (right, left))[: 1 if node.op.name == "div" else 2]:
        while scalar.node is not None and is_free(scalar.node) and len(scalar.node.inputs) == 1:
            scalar = scalar.node.inputs[0]
        by_row = scalar.node in members and all(e == 1 for e in scalar.shape[group.rows :])
        if by_row and rest.node in members and rest.shape == weight.shape:
            return Factor(node, rest, scalar)
    return None


@dataclass
class AttentionLowering:
    """What the lowering of one attention knows; `lowerings` are those of the first product, of the operators
    on rows and of the second product, which share their names."""

    attention: Attention
    fusion: Fusion
    lowerings: list[GroupLowering]
    target: Target
    accuracy: Accuracy
    first: IndexLike = 0
    independent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        one, middle = self.attention, self.lowerings[1]
        shape = one.score.shape
        self.lead, self.count, self.width = shape[:-2], shape[-2], shape[-1]
        self.factor = row_factor(one.rows, one.weight, self.fusion.free.__contains__)
        kept = one.weight
        if self.factor is not None:
            kept = self.factor.rest
            middle.group = replace(one.rows, nodes=[n for n in one.rows.nodes if n is not self.factor.node])
        middle.stored = {kept}
        self.names = Names(())
        self.names.taken = middle.names
        middle.names |= {AXES[one.rows.rows], "v", "rest"}
        self.values = one.score, kept
        self.arrays = [self.strip(value, 1) for value in self.values]
        self.keep(one.score, 0)
        self.keep(kept, 1)
        self.keep(one.weight, 1)

    def strip(self, value: Value, rows: int) -> Buffer:
        """An array for a few rows of a value: an odd number of vectors each, so that rows do not displace
        each other from a cache."""
        assert isinstance(self.width, int)
        dtype = value.dtype.arithmetic
        lanes = self.target.lanes(dtype.size)
        width = (-(-self.width // lanes) | 1) * lanes
        return Buffer(self.names.fresh(value.name), dtype, (rows, width), "local", "stack")

    def keep(self, value: Value, number: int) -> None:
        """Let all groups find a value's rows in the strip of scores (0) or weights (1)."""

        def at(index: Place) -> tuple[Buffer, Place]:
            return self.arrays[number], (index[-2] - self.first, index[-1])

        for lowering in self.lowerings:
            lowering.kept[value] = at

    def lower(self) -> Nest:
        """The kernel's nest. Raises UnsupportedError, with the reason, when it cannot be made."""
        self.products = self.score_product(), self.weight_product()
        rows = self.rows_at_once()
        parts = self.parts(rows)
        for made, letters in zip(self.products, self.letters, strict=True):
            around = [Dim(e, ((a, e),)) for a, e in zip(letters, self.lead, strict=True) if e != 1]
            made.prepare(rows, around, parts == 1 and (bool(around) or not may_thread(self.work)))
        self.bands = self.cut(parts, rows)
        before = [s for made in self.products for s in made.pack_all()]
        main = self.over(parts, rows)
        work = [total_work(lowering.group) for lowering in self.lowerings]
        total = None if None in work else sum(w or 0 for w in work)
        packs = {s.var.name for s in before if isinstance(s, For)}
        body = parallel([*before, *main], total, packs | self.independent | {self.names["i0"]})
        if self.target.tuning is not None:
            self.target.tuning.made(body)
        notes = [f"{rows} rows of {self.width} scores at a time", *(made.note for made in self.products)]
        if len(self.bands) > 1:
            notes.append(f"{len(self.bands)} bands of rows, each up to the last column that is not masked")
        return Nest(body, tuple(notes), tuple(b for made in self.products for b in made.scratch))

    # The two products

    def described(self, number: int) -> tuple[Contraction, list[str], str]:
        """A product, and the axes of its operands and of its result."""
        lowering = self.lowerings[number]
        anchor = lowering.group.anchor
        assert anchor is not None
        found = describe_anchor(lowering, anchor, self.accuracy)
        if not one_type(found) or not found.dtype.is_float or self.target.lanes(found.dtype.size) == 1:
            raise UnsupportedError("tiles are for floats of one type, on machines with vectors")
        contraction = Contraction.of_dot(found, regular=False)
        contraction.names = self.names
        inputs, out = anchor.attrs["spec"].split("->")
        return contraction, inputs.split(","), out

    def score_product(self) -> StripProduct:
        contraction, _, out = self.described(0)
        self.first_axes = out
        return self.sided(contraction, out[-2], out[-1])

    def weight_product(self) -> StripProduct:
        contraction, inputs, out = self.described(2)
        anchor = self.lowerings[2].group.anchor
        assert anchor is not None
        place = next(k for k, value in enumerate(anchor.inputs) if value is self.attention.weight)
        own, other = inputs[place], inputs[1 - place]
        self.second_axes = own
        row, reduced = own[-2], own[-1]
        columns = [a for a in other if a in out and a not in own and contraction.extents[a] != 1]
        if reduced in out or not {*own[:-1]} <= {*out} or not columns or len(columns) > 1:
            raise UnsupportedError("the second product does not go along rows")
        if set(other) - {*out, reduced}:
            raise UnsupportedError("the second product adds up more than rows")
        return self.sided(contraction, row, columns[0])

    def sided(self, contraction: Contraction, row: str, column: str) -> StripProduct:
        """A product with the factor that has the rows on the left."""
        for side in (contraction, contraction.swap()):
            if row not in side.right.axes and column not in side.left.axes:
                return StripProduct(side, row, column, self.target)
        raise UnsupportedError("rows and columns belong to one operand")

    @property
    def letters(self) -> tuple[str, str]:
        """The axes around rows and columns, as either product calls them."""
        return self.first_axes[:-2], self.second_axes[:-2]

    # Loops

    def rows_at_once(self) -> int:
        """Rows of a strip: those of a register tile, fewer where strips would leave the cache."""
        product_ = self.products[0]
        assert isinstance(self.count, int)
        if any((made.work or LEAST) < LEAST for made in self.products):
            raise UnsupportedError("the products are too small for tiles")
        depth, lanes = count(product_.reduced), product_.lanes
        columns = min(product_.columns, VECTORS * lanes)
        rows, _, _ = best_tile(self.count, columns, depth, lanes, self.target)
        most = STRIP_BYTES // bytes_of(self.arrays[0])
        if min(rows, most) < min(FEWEST_ROWS, rows):
            raise UnsupportedError(f"{FEWEST_ROWS} rows of {self.width} scores do not stay in a cache")
        return min(rows, most)

    def parts(self, rows: int) -> int:
        """Into how many parts all rows are cut for threads, where axes around them do not give enough."""
        heads = product(self.lead)
        assert isinstance(self.count, int)
        part = None if self.work is None else self.work // TASKS
        if not isinstance(heads, int) or heads == 1 or heads >= TASKS or not worth_threads(part):
            return 1
        fits = [k for k in range(1, max(2, self.count // (2 * rows) + 1)) if self.count % k == 0]
        return next((k for k in fits if k >= TASKS), fits[-1])

    def cut(self, parts: int, rows: int) -> list[Band]:
        """The rows of a part, cut where a mask leaves many columns out."""
        assert isinstance(self.count, int)
        assert isinstance(self.width, int)
        width = self.products[0].panel_width
        if parts > 1 or width is None:
            return [Band(0, self.count // parts, self.width)]
        return bands(self.attention, width, rows)

    @property
    def work(self) -> int | None:
        """Additions that both products are worth."""
        work = total_work(self.lowerings[0].group)
        return None if work is None else 2 * work

    def over(self, parts: int, rows: int) -> list[Stmt]:
        """Loops over everything around a strip."""
        letters, _ = self.letters
        axes = [(a, e) for a, e in zip(letters, self.lead, strict=True) if e != 1]
        part = next(a for a in ascii_uppercase if a not in letters)
        axes += [(part, parts)] if parts > 1 else []
        axes.sort(key=lambda axis: -(upper(axis[1]) or TASKS))  # the outermost loop is for threads
        dims = [Dim(e, ((a, e),)) for a, e in axes]
        start: Env = dict.fromkeys((*letters, part), 0)

        def inside(left: list[Dim], env: Env) -> list[Stmt]:
            if not left:
                return self.strips(tuple(env[a] for a in letters), env[part], parts, rows)
            first, *rest = left
            name = self.names.axis(first.names)
            self.independent.add(name)
            return loop(name, first.extent, lambda index: inside(rest, env | first.bind(index)))

        return inside(dims, start)

    def strips(self, lead: Place, part: IndexLike, parts: int, rows: int) -> list[Stmt]:
        """All strips of one part of the rows of one head."""
        assert isinstance(self.count, int)
        envs = [
            made.contraction.fixed | dict(zip(letters, lead, strict=True))
            for made, letters in zip(self.products, self.letters, strict=True)
        ]
        before = [s for made, env in zip(self.products, envs, strict=True) for s in made.pack_here(env)]
        return [
            *before,
            *(
                s
                for band in self.bands
                for s in tiled(
                    self.names["i0"],
                    band.stop - band.start,
                    rows,
                    lambda start, size: self.one_strip(
                        lead, envs, part * band.stop + (band.start + start), size, band.columns
                    ),
                )
            ),
        ]

    def one_strip(
        self, lead: Place, envs: list[Env], first: IndexLike, rows: int, columns: int
    ) -> list[Stmt]:
        """Scores of some rows, what is done to them, and the rows of the result."""
        limit = None if columns == self.width else columns
        self.first = first
        self.arrays = [self.strip(value, rows) for value in self.values]
        scores, weights = self.arrays
        first_product, second_product = self.products
        made = first_product.make(envs[0], first, rows, lambda _, value: value, columns=limit)
        between, scale = self.between(lead, first, rows, limit)
        behind = second_product.make(envs[1], first, rows, scale, depth=columns)
        self.first = 0
        body = Block((*made, *between, *behind))
        if in_place(list(body), scores, weights):
            return [Alloc(scores), *substitute_block(body, {}, {weights: scores})]
        return [Alloc(scores), Alloc(weights), *body]

    def between(
        self, lead: Place, first: IndexLike, rows: int, limit: int | None
    ) -> tuple[list[Stmt], Callable[[IndexLike, Expr], Expr]]:
        """What is done to some rows of scores, and to the results of each in the end."""
        lowering, one = self.lowerings[1], self.attention
        lowering.bound.clear()
        row: IndexLike = 0 if rows == 1 else variable(self.names["row"], rows)
        segments = RowSegments(lowering, (*lead, first + row), self.target)
        segments.limit = limit
        segments.add_all()
        if len(lowering.stored) > 1:
            raise UnsupportedError("what lies between is too large to be kept for a few rows")
        if self.factor is None:
            found = row_block(segments, row, rows, self.names, (), STRIP_BYTES)
            return [*map(Alloc, found.arrays), *found.body], lambda _, value: value
        place = (*lead, first + row, *(0 for _ in self.factor.scalar.shape[one.rows.rows :]))
        held = lowering.bound[self.factor.scalar](place)
        assert isinstance(held, Read) and isinstance(held.source, Buffer)  # noqa: PT018
        found = row_block(segments, row, rows, self.names, (held.source,), STRIP_BYTES)
        scalar = found.held[held.source]
        made = [*map(Alloc, found.arrays), *found.body]
        if self.factor.node.op.name == "div":
            inverse = Buffer(self.names.fresh("inverse"), scalar.dtype, (rows,), "local", "stack")
            value = Const(1.0, scalar.dtype) / Read(scalar, (row,), scalar.dtype)
            made += [
                Alloc(inverse),
                *loop(self.names["row"], rows, lambda _: [Store(inverse, (row,), value)]),
            ]
            scalar = inverse
        return made, lambda i, value: value * Read(scalar, (i,), scalar.dtype)
