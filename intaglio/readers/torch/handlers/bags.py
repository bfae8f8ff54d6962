"""Embeddings that are summed, averaged or maximised in bags of words."""

from __future__ import annotations

import math
from typing import Any

from intaglio.ops.compositions import indexing
from intaglio.ops.compositions.basic import convert, dtype_of, shape_of, static, unsqueeze
from intaglio.ops.compositions.reduction import cumsum
from intaglio.ops.like import iota_like
from intaglio.ops.registry import prim
from intaglio.readers.torch.checks import check_index
from intaglio.readers.torch.handlers.indexing import by_frequency_error
from intaglio.readers.torch.registry import FxCall, aten
from intaglio.shared.errors import UnsupportedError

SUM, MEAN, MAX = 0, 1, 2


@aten("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(call: FxCall, weight: Any, index: Any, offsets: Any, by_frequency: bool = False,
                  mode: int = SUM, sparse: bool = False, factors: Any = None, last_offset: bool = False,
                  padding: int = -1) -> Any:  # fmt: skip
    """The bags' embeddings; and, for the derivative, which bag each word is in, how many words (that are
    not padding) each bag has, and which word gave each largest element."""
    if by_frequency and call.importer.trains:
        raise by_frequency_error()
    dtype, integers = dtype_of(weight), dtype_of(offsets)
    words = static(shape_of(index)[0], "embedding_bag")
    bags = static(shape_of(offsets)[0], "embedding_bag") - last_offset
    check_index(call, index, shape_of(weight)[0])
    bag = _bag_of_word(call, offsets, words, bags)
    kept = call.full((words,), True, dtype_of(prim.eq(index, index)))
    if padding >= 0:
        kept = prim.ne(index, padding)
    rows = indexing.embedding(index, weight)
    if factors is not None:
        rows = rows * unsqueeze(factors, 1)
    number = indexing.index_add(call.full((bags,), 0, dtype), 0, bag, convert(kept, dtype))
    result_shape = (bags, shape_of(weight)[1])
    if mode == MAX:
        least = call.full(result_shape, -math.inf, dtype)
        chosen = prim.where(unsqueeze(kept, 1), rows, -math.inf)
        y = prim.scatter(least, chosen, bag, axes=(0,), mode="max")
        y = prim.where(prim.eq(unsqueeze(number, 1), 0), 0, y)
    else:
        chosen = prim.where(unsqueeze(kept, 1), rows, 0)
        y = indexing.index_add(call.full(result_shape, 0, dtype), 0, bag, chosen)
        y = y / unsqueeze(prim.max(number, 1), 1) if mode == MEAN else y
    found = call.node.meta["val"]
    sizes = [call.importer.known_shape(part) for part in found]
    places = convert(bag, integers) if sizes[1] != (0,) else call.full((0,), 0, integers)
    counted = convert(number, integers) if sizes[2] == (bags,) else call.full(sizes[2], 0, integers)
    largest = call.full(sizes[3], 0, integers)
    if mode == MAX:
        largest = convert(_winners(call, y, chosen, bag, index), integers)
    return y, places, counted, largest


def _bag_of_word(call: FxCall, offsets: Any, words: int, bags: int) -> Any:
    """The number of the bag that each word is in: how many bags have started, less one."""
    starts = indexing.slice_axis(offsets, 0, 0, bags)
    marks = indexing.index_add(
        call.full((words + 1,), 0, dtype_of(offsets)), 0, starts, call.full((bags,), 1, dtype_of(offsets))
    )
    return cumsum(indexing.slice_axis(marks, 0, 0, words), 0) - 1


def _winners(call: FxCall, y: Any, rows: Any, bag: Any, index: Any) -> Any:
    """For each element of each bag, the word whose embedding has it: the first such, or word 0."""
    words, width = (static(e, "embedding_bag") for e in shape_of(rows))
    if words == 0:
        return call.full(shape_of(y), 0, dtype_of(index))
    place = iota_like(index, (words, width), 0)
    won = prim.eq(rows, indexing.embedding(bag, y))
    none = call.full(shape_of(y), words, dtype_of(place))
    first = prim.scatter(none, prim.where(won, place, words), bag, axes=(0,), mode="min")
    some = prim.lt(first, words)
    return prim.where(some, indexing.embedding(prim.where(some, first, 0), index), 0)


@aten("_embedding_bag_backward", "_embedding_bag_dense_backward")
def embedding_bag_backward(call: FxCall, g: Any, index: Any, *rest: Any) -> Any:
    """The derivative by the table."""
    if call.node.target._opname == "_embedding_bag_backward":  # type: ignore[union-attr]
        offsets, bag, number, largest, rows, by_frequency, mode, sparse, *last = rest
        if sparse:
            raise UnsupportedError("sparse derivatives", hint="make the module with sparse=False")
        if shape_of(bag) == (0,) != shape_of(index):
            words = static(shape_of(index)[0], "embedding_bag")
            bag = _bag_of_word(call, offsets, words, static(shape_of(g)[0], "embedding_bag"))
    else:
        bag, number, largest, rows, by_frequency, mode, *last = rest
    factors, padding = last[0] if last else None, last[1] if len(last) > 1 else -1
    if by_frequency:
        raise by_frequency_error()
    width = shape_of(g)[1]
    table = call.full((rows, width), 0, dtype_of(g))
    if mode == MAX:
        columns = iota_like(largest, shape_of(largest), 1)
        given = prim.where(prim.eq(unsqueeze(number, 1), 0), 0, g)
        return prim.scatter(table, given, largest, columns, axes=(0, 1), mode="add")
    if mode == MEAN:
        g = g / unsqueeze(prim.max(convert(number, dtype_of(g)), 1), 1)
    parts = indexing.embedding(bag, g)
    if factors is not None:
        parts = parts * unsqueeze(factors, 1)
    if padding >= 0:
        parts = prim.where(unsqueeze(prim.ne(index, padding), 1), parts, 0)
    return indexing.index_add(table, 0, index, parts)


@aten("_embedding_bag_per_sample_weights_backward")
def factors_backward(call: FxCall, g: Any, weight: Any, index: Any, offsets: Any, bag: Any, mode: int,
                     padding: int = -1) -> Any:  # fmt: skip
    """The derivative by the factors of words in sums."""
    if shape_of(bag) == (0,) != shape_of(index):
        words = static(shape_of(index)[0], "embedding_bag")
        bag = _bag_of_word(call, offsets, words, static(shape_of(g)[0], "embedding_bag"))
    products = indexing.embedding(bag, g) * indexing.embedding(index, weight)
    total = prim.sum(products, axes=(1,))
    return prim.where(prim.ne(index, padding), total, 0) if padding >= 0 else total
