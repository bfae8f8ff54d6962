"""Ensembles of decision trees (`ai.onnx.ml`): all trees of all samples go down one level at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.ops.compositions.basic import convert, dtype_of, expand, iota_like, reshape, shape_of
from intaglio.ops.compositions.functions import isnan
from intaglio.ops.registry import prim
from intaglio.readers.onnx.classical import (
    as_float,
    complemented,
    labelled,
    labels_of,
    ml_op,
    numbers_in,
    opposed,
    transform_of,
    transformed,
)
from intaglio.readers.onnx.handlers.recurrent import scan
from intaglio.readers.onnx.registry import Array, OnnxCall, Operand
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, FileFormatError, UnsupportedError

BRANCHES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER")
LEAF = -1
MEMBER = BRANCHES.index("MEMBER")
COMPARISONS: tuple[Any, ...] = (
    lambda x, split: prim.le(x, split),
    lambda x, split: prim.lt(x, split),
    lambda x, split: prim.le(split, x),
    lambda x, split: prim.lt(split, x),
    lambda x, split: prim.eq(x, split),
    lambda x, split: prim.ne(x, split),
)
MOST_WEIGHTS = 1 << 26  # numbers in the table of all nodes and targets
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass(frozen=True)
class Trees:
    """All nodes of all trees. A leaf is its own successor, and has a weight for each target it counts for."""

    feature: Array
    split: Array
    mode: Array
    yes: Array
    no: Array
    missing: Array
    roots: Array
    weights: Array
    counts: Array

    def depth(self) -> int:
        """Steps to the deepest leaf. Raises FileFormatError when nodes form a cycle or do not exist."""
        count = len(self.mode)
        if any(((t < 0) | (t >= count)).any() for t in (self.yes, self.no, self.roots)):
            raise FileFormatError("a node of a tree has a successor that does not exist")
        level, depth = np.unique(self.roots), 0
        while True:
            level = level[self.mode[level] != LEAF]
            if not level.size:
                return depth
            level, depth = np.unique(np.concatenate([self.yes[level], self.no[level]])), depth + 1
            if depth > count:
                raise FileFormatError("the nodes of a tree form a cycle")

    def leaves(self, call: OnnxCall, x: Operand) -> Any:
        """The leaf that each sample reaches in each tree, `[n, trees]`."""
        samples = shape_of(x)[0]
        start = expand(reshape(self.roots.astype(np.int32), (1, -1)), (samples, len(self.roots)))
        depth = self.depth()
        modes = sorted({int(m) for m in self.mode if m != LEAF})
        tables = [self.feature, self.split, self.yes, self.no, self.mode, self.missing]

        def step(carry: list[Any], _: list[Any], held: list[Any]) -> tuple[list[Any], list[Any]]:
            x, *tables = held
            feature, split, yes, no, mode, missing = (prim.gather(t, carry[0], axes=(0,)) for t in tables)
            sample = iota_like(x, shape_of(carry[0]), 0)
            value = prim.gather(x, sample, feature, axes=(0, 1))
            taken = COMPARISONS[modes[0]](value, split)
            for other in modes[1:]:
                taken = prim.where(prim.eq(mode, other), COMPARISONS[other](value, split), taken)
            if self.missing.any():
                taken = prim.or_(taken, prim.and_(isnan(value), missing))
            return [prim.where(taken, yes, no)], []

        if not depth:
            return start
        return scan(call, step, [start], [], [x, *tables], depth)[0][0]

    def aggregated(self, leaf: Any, how: str) -> Any:
        """For each target the weights of the leaves reached; 0 where none of them counts for it."""
        weights = prim.gather(self.weights, leaf, axes=(0,))
        if how in ("SUM", "AVERAGE"):
            total = prim.sum(weights, axes=(1,))
            return total / float(len(self.roots)) if how == "AVERAGE" else total
        if how not in AGGREGATES:
            raise ArgumentError(f"aggregate_function {how!r} is not one of {', '.join(AGGREGATES)}")
        counts = prim.gather(self.counts, leaf, axes=(0,))
        reduce, nothing = (prim.reduce_min, np.inf) if how == "MIN" else (prim.reduce_max, -np.inf)
        found = reduce(prim.where(counts, weights, nothing), axes=(1,))
        return prim.where(prim.reduce_or(counts, axes=(1,)), found, 0)


@dataclass
class Node:
    """A test of one feature, or a leaf; successors are places in the list of nodes."""

    mode: int
    feature: int
    split: float
    yes: int
    no: int
    missing: bool = False


def assembled(
    nodes: Sequence[Node],
    roots: Sequence[int],
    dtype: Any,
    weights: Sequence[tuple[int, int, Any]],
    targets: int,
) -> Trees:
    """The trees of a list of nodes with splits of a type, and of weights: each of a leaf for a target."""
    if not 0 < targets <= MOST_WEIGHTS // max(len(nodes), 1):
        raise UnsupportedError(f"trees of {len(nodes)} nodes for {targets} targets are not supported")
    kind = weights[0][2].dtype if weights else dtype
    table, counts = np.zeros((len(nodes), targets), kind), np.zeros((len(nodes), targets), bool)
    for place, target, weight in weights:
        if not 0 <= target < targets:
            raise FileFormatError(f"a leaf counts for target {target} of {targets}")
        table[place, target] += weight
        counts[place, target] = True
    return Trees(
        feature=np.array([n.feature for n in nodes], np.int32),
        split=np.array([n.split for n in nodes], dtype),
        mode=np.array([n.mode for n in nodes], np.int32),
        yes=np.array([n.yes for n in nodes], np.int32),
        no=np.array([n.no for n in nodes], np.int32),
        missing=np.array([n.missing for n in nodes], bool),
        roots=np.array(roots, np.int32),
        weights=table,
        counts=counts,
    )


def named_trees(call: OnnxCall, role: str, targets: int) -> Trees:
    """The trees of a classifier or regressor, whose nodes are named by tree and number."""
    names = list(zip(call.required("nodes_treeids"), call.required("nodes_nodeids"), strict=True))
    place = {name: k for k, name in enumerate(names)}
    if len(place) != len(names):
        raise FileFormatError("a tree has two nodes of the same number")
    modes = [m.removeprefix("BRANCH_") for m in call.required("nodes_modes")]
    splits = numbers_in(call, "nodes_values")
    missing = call.attr("nodes_missing_value_tracks_true") or [0] * len(names)
    features, yes, no = (
        call.required(f"nodes_{part}") for part in ("featureids", "truenodeids", "falsenodeids")
    )
    nodes: list[Node] = []
    inner: set[int] = set()
    for k, (tree, _) in enumerate(names):
        if modes[k] == "LEAF":
            nodes.append(Node(LEAF, 0, 0.0, k, k))
            continue
        ends = place[tree, yes[k]], place[tree, no[k]]
        nodes.append(Node(BRANCHES.index(modes[k]), features[k], splits[k], *ends, bool(missing[k])))
        inner.update(ends)
    roots = [k for k in range(len(names)) if k not in inner]
    if len(roots) != len({tree for tree, _ in names}):
        raise FileFormatError("a tree has no root, or more than one")
    ids = (call.required(f"{role}_{part}") for part in ("treeids", "nodeids", "ids"))
    values = numbers_in(call, f"{role}_weights")
    weights = [(place[t, n], target, value) for t, n, target, value in zip(*ids, values, strict=True)]
    dtype = np.float32 if splits is None else splits.dtype
    return assembled(nodes, roots, dtype, weights, targets)


def _add_base(call: OnnxCall, scores: Any) -> Any:
    base = numbers_in(call, "base_values")
    return scores if base is None else scores + base.astype(dtype_of(scores).numpy)


@ml_op("TreeEnsembleRegressor")
def tree_ensemble_regressor(call: OnnxCall, x: Operand) -> Any:
    trees = named_trees(call, "target", call.attr("n_targets", 1))
    total = trees.aggregated(trees.leaves(call, as_float(x)), call.attr("aggregate_function", "SUM"))
    return convert(transformed(_add_base(call, total), transform_of(call)), dtypes.f32)


@ml_op("TreeEnsembleClassifier")
def tree_ensemble_classifier(call: OnnxCall, x: Operand) -> Any:
    """Weights of the first of two classes only decide for the second by their sign, or from one half on when
    all of them are positive."""
    labels, transform = labels_of(call), transform_of(call)
    if len(labels) < 2:
        raise UnsupportedError("TreeEnsembleClassifier with a single label is not supported")
    trees = named_trees(call, "class", len(labels))
    total = trees.aggregated(trees.leaves(call, as_float(x)), "SUM")
    ids = set(call.required("class_ids"))
    if len(labels) > 2 or len(ids) > 1:
        scores = _add_base(call, total)
        label = labelled(prim.argmax(scores, axes=(1,)), labels)
        return label, convert(transformed(scores, transform), dtypes.f32)
    positive = bool((trees.weights >= 0).all())
    base = numbers_in(call, "base_values")
    if base is not None and (len(base) > 1 or ids == {1}):
        raise UnsupportedError("TreeEnsembleClassifier: base values of two classes with weights of one")
    (own,) = ids
    score = prim.gather(total, np.array(own), axes=(1,))
    score = score if base is None else score + base.astype(dtype_of(score).numpy)
    label = prim.where(prim.lt(0.5 if positive else 0, score), labels[1], labels[0])
    if own == 1:
        return label, convert(transformed(total, transform), dtypes.f32)
    both = (complemented if positive else opposed)(reshape(score, (-1, 1)), transform)
    return label, convert(both, dtypes.f32)


def member_sets(call: OnnxCall, modes: Sequence[int]) -> list[list[float]]:
    """The members that each MEMBER node tests for, in order of the nodes."""
    values = call.attr("membership_values")
    groups: list[list[float]] = [[]]
    for value in () if values is None else values.reshape(-1).tolist():
        if np.isnan(value):
            groups.append([])
        else:
            groups[-1].append(value)
    wanted = sum(m == MEMBER for m in modes)
    if len(groups) - 1 != wanted:
        raise ArgumentError(
            f"TreeEnsemble: {wanted} nodes test for members, {len(groups) - 1} sets are given"
        )
    return groups[:-1]


@ml_op("TreeEnsemble", 5)
def tree_ensemble(call: OnnxCall, x: Operand) -> Any:
    trees = numbered_trees(call)
    number = call.attr("aggregate_function", 1)
    how = AGGREGATES[number] if 0 <= number < len(AGGREGATES) else str(number)
    total = trees.aggregated(trees.leaves(call, x), how)
    return transformed(total, transform_of(call))


def numbered_trees(call: OnnxCall) -> Trees:
    """Trees whose leaves are listed apart: here they stand behind the nodes. A test for members becomes a
    chain of tests for equality."""
    modes = [int(m) for m in call.required("nodes_modes")]
    if any(not 0 <= m <= MEMBER for m in modes):
        raise ArgumentError(f"TreeEnsemble: nodes_modes are numbers from 0 to {MEMBER}")
    count, values, splits = (
        len(modes),
        call.required("leaf_weights").reshape(-1),
        call.required("nodes_splits"),
    )
    missing = call.attr("nodes_missing_value_tracks_true") or [0] * count

    def successors(side: str) -> list[int]:
        ids, ends = call.required(f"nodes_{side}nodeids"), call.required(f"nodes_{side}leafs")
        return [int(n) + (count if end else 0) for n, end in zip(ids, ends, strict=True)]

    columns = (modes, call.required("nodes_featureids"), splits.reshape(-1).tolist())
    ends = (successors("true"), successors("false"), map(bool, missing))
    nodes = [Node(*row) for row in zip(*columns, *ends, strict=True)]
    nodes += [Node(LEAF, 0, 0.0, count + k, count + k) for k in range(len(values))]
    for members, node in zip(member_sets(call, modes), [n for n in nodes if n.mode == MEMBER], strict=True):
        _chain(node, members, nodes)
    ids = call.required("leaf_targetids")
    weights = [(count + k, target, value) for k, (target, value) in enumerate(zip(ids, values, strict=True))]
    roots, targets = call.required("tree_roots"), call.attr("n_targets", 1)
    return assembled(nodes, roots, splits.dtype, weights, targets)


def _chain(node: Node, members: Sequence[float], nodes: list[Node]) -> None:
    """Make a node test for the first of its members, and nodes at the end of the list for the others."""
    node.mode, otherwise = BRANCHES.index("EQ"), node.no
    node.split = members[0] if members else float("nan")
    for member in members[1:]:
        further = Node(node.mode, node.feature, member, node.yes, otherwise)
        node.no = len(nodes)
        nodes.append(further)
        node = further
