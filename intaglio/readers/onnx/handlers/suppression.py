"""NonMaxSuppression: boxes by falling score, each kept unless it overlaps one that was kept before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.graph.ir import Value
from intaglio.ops.compositions import indexing
from intaglio.ops.like import full_like, iota_like
from intaglio.ops.registry import prim
from intaglio.readers.onnx.bodies import emit, is_known, scalar, stack
from intaglio.readers.onnx.handlers.selection import coordinates, true_places
from intaglio.readers.onnx.registry import OnnxCall, Operand, onnx_op
from intaglio.shared import dtypes
from intaglio.shared.errors import ShapeError
from intaglio.shared.types import TensorType


@onnx_op("NonMaxSuppression", 10)
def non_max_suppression(
    call: OnnxCall,
    boxes: Operand,
    scores: Operand,
    most: Operand | None = None,
    overlap: Operand | None = None,
    threshold: Operand | None = None,
) -> Any:
    if len(boxes.shape) != 3 or boxes.shape[2] != 4 or len(scores.shape) != 3:
        raise ShapeError(f"NonMaxSuppression: boxes {list(boxes.shape)} and scores {list(scores.shape)}")
    if most is None or (is_known(most) and int(np.asarray(most).reshape(())) <= 0):
        return np.zeros((0, 3), np.int64)
    importer = call.importer
    limit, overlap_limit = (
        scalar(importer.as_value(np.float32(0) if x is None else x)) for x in (most, overlap)
    )
    ranked, order = prim.sort(importer.as_value(scores), axis=2, descending=True)
    batch = iota_like(ranked, ranked.shape, 0)
    corners = _corners(
        prim.gather(importer.as_value(boxes), batch, order, axes=(0, 1)), call.attr("center_point_box", 0)
    )
    alive = full_like(ranked, True, dtype=dtypes.bool_)
    if threshold is not None:
        alive = prim.lt(scalar(importer.as_value(threshold)), ranked)
    kept = _greedily(alive, corners, limit, overlap_limit)
    places = true_places(call, kept, "selected")
    image, class_, rank = coordinates(places, ranked.shape)
    box = prim.gather(order, image, class_, rank, axes=(0, 1, 2))
    return stack(importer, [image, class_, box], 1)


def _corners(boxes: Value, centered: bool) -> Value:
    """Lower corner, upper corner and area of boxes: the last axis becomes `y1, x1, y2, x2, area`."""
    a, b, c, d = (indexing.select(boxes, 3, k) for k in range(4))
    if centered:
        low, high = [b - d / 2, a - c / 2], [b + d / 2, a + c / 2]
    else:
        low, high = [prim.min(a, c), prim.min(b, d)], [prim.max(a, c), prim.max(b, d)]
    area = (high[0] - low[0]) * (high[1] - low[1])
    return indexing.stack([*low, *high, area], 3)  # type: ignore[no-any-return]


def _greedily(alive: Value, corners: Value, limit: Value, overlap_limit: Value) -> Value:
    """Which boxes are kept, going through the ranks one by one for all images and classes at once."""
    graph, (images, classes, ranks) = alive.graph, alive.shape
    body = type(graph)("rank")
    left = body.input(alive.type, "alive")
    kept = body.input(TensorType(limit.dtype, (images, classes)), "kept")
    rank = body.input(TensorType(dtypes.i64, ()), "rank")
    box = body.input(TensorType(corners.dtype, (images, classes, 5)), "box")
    every, most, bound = (body.input(v.type, v.name) for v in (corners, limit, overlap_limit))
    at = prim.eq(iota_like(left, left.shape, 2), rank)
    chosen = prim.reduce_or(prim.and_(left, at), axes=(2,))
    chosen = prim.and_(chosen, prim.lt(kept, most))
    near = prim.lt(bound, _overlap(prim.reshape(box, shape=(images, classes, 1, 5)), every))
    gone = prim.and_(prim.reshape(chosen, shape=(images, classes, 1)), near)
    body.set_outputs([prim.and_(left, prim.not_(gone)), kept + prim.cast(chosen, dtype=kept.dtype), chosen])
    numbers = iota_like(alive, (ranks,), 0)
    streams = [numbers, prim.transpose(corners, perm=(2, 0, 1, 3))]
    start = [alive, full_like(limit, 0, (images, classes))]
    _, _, rows = emit(
        graph, "scan", [*start, *streams, corners, limit, overlap_limit],
        body=body, n_carry=2, n_xs=2, reverse=False, length=ranks,
    )  # fmt: skip
    return prim.transpose(rows, perm=(1, 2, 0))  # type: ignore[no-any-return]


def _overlap(one: Value, every: Value) -> Value:
    """Intersection over union; 0 for boxes without area."""
    a, b = ([indexing.select(x, 3, k) for k in range(5)] for x in (one, every))
    sides = [prim.max(prim.min(a[k + 2], b[k + 2]) - prim.max(a[k], b[k]), 0.0) for k in range(2)]
    shared = sides[0] * sides[1]
    union = a[4] + b[4] - shared
    return prim.where(prim.lt(0.0, shared), prim.div(shared, union), 0.0)  # type: ignore[no-any-return]
