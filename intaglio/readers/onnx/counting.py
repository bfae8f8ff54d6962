"""How many steps a loop takes, where what its condition reads is known at import.

Loops of exporters often end by a comparison of a counter that the loop carries itself. The nodes that the
condition needs, and those that compute what it carries, are then evaluated alone, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from intaglio.readers.onnx.bodies import is_known
from intaglio.readers.onnx.isolate import reads_of
from intaglio.readers.onnx.registry import OnnxCall
from intaglio.shared.errors import ShapeError, UnsupportedError

TRUE = np.asarray(True)


def known_steps(
    call: OnnxCall, body: onnx.GraphProto, most: int | None, initial: Sequence[Any], tried: int
) -> int | None:
    """The number of steps of a loop that takes at least one; None when only running it tells.

    Args:
        most: the steps after which it ends whatever its condition says.
        tried: the most steps to look ahead.
    """
    nodes, carried = _cone(body)
    if not all(is_known(initial[k]) for k in carried):
        return None
    part = onnx.GraphProto()
    part.CopyFrom(body)
    del part.node[:], part.output[:]
    part.node.extend(nodes)
    part.output.extend(body.output[k] for k in (0, *(1 + k for k in carried)))
    values = list(initial)
    for step in range(tried if most is None else min(most, tried)):
        found = _evaluated(call, part, [np.asarray(step), TRUE, *values])
        if found is None or found[0].size != 1:
            return None
        if not found[0].item():
            return step + 1
        for k, value in zip(carried, found[1:], strict=True):
            values[k] = value
    return most if most is not None and most <= tried else None


def _cone(body: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[int]]:
    """The nodes behind the condition, and which carried values are among what they read."""
    positions = {info.name: k for k, info in enumerate(body.input[2:])}
    wanted, carried = {body.output[0].name}, set[int]()
    while True:
        nodes = []
        for node in reversed(body.node):
            if any(name in wanted for name in node.output if name):
                wanted.update(reads_of(node))
                nodes.append(node)
        reached = {positions[name] for name in wanted if name in positions}
        if reached == carried:
            return nodes[::-1], sorted(carried)
        carried = reached
        wanted.update(body.output[1 + k].name for k in carried)


def _evaluated(call: OnnxCall, part: onnx.GraphProto, inputs: Sequence[Any]) -> list[Any] | None:
    with call.importer.frames.inner("trial") as frame:
        try:
            results = call.importer.subgraph(part, inputs)
        except (UnsupportedError, ShapeError):
            return None
    return results if all(map(is_known, results)) and not frame.graph.nodes else None
