"""One input of the fuzzer: it is refused with an error of ours, or every way to run it agrees."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from intaglio.compile import Settings, compile_graph, finish, lower_graph, optimise
from intaglio.graph.ir import Graph
from intaglio.graph.passes import PASSES
from intaglio.graph.spec import verify
from intaglio.graph.text import arrays_of, parse_graph, print_graph
from intaglio.loop.eval import evaluate
from intaglio.loop.ir import Program
from intaglio.ops.budget import Budget, OverBudget
from intaglio.ops.dispatch import evaluate as apply_operator
from intaglio.readers.onnx import load
from intaglio.shared.errors import IntaglioError, ParseError, ToolchainError, VerifyError
from intaglio.shared.index import Index

LONGEST_MESSAGE = 20_000
MOST_ELEMENTS = 200_000
MOST_FLOPS = 5_000
RUN = {"array_bytes": 1 << 24, "total_bytes": 1 << 28, "work": 1 << 26, "operators": 20_000}
"""What one run of a mutant by NumPy may cost."""


class Finding(Exception):
    """Something that must not happen."""


@dataclass(frozen=True)
class Outcome:
    """What became of an input: `refused`, `loaded`, `ran` or `compared`; of a refusal, what caused it."""

    kind: str
    cause: str = ""


def examine(data: bytes, seed: int, depth: int) -> Outcome:
    """Import a file; with `depth` 1 verify and optimise it, 2 run it, 3 compare with ONNX, 4 compile it too.

    Raises:
        Finding: or any error that is not one of Intaglio's own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = load(data)
        except IntaglioError as error:
            return _refusal(error)
        if depth == 0:
            return Outcome("loaded")
        verify(graph)
        try:
            return _run(graph, data, seed, depth)
        except OverBudget:
            return Outcome("loaded", "large")
        except (VerifyError, ParseError, ToolchainError):
            raise
        except IntaglioError as error:
            return _refusal(error)


def _refusal(error: IntaglioError) -> Outcome:
    if len(str(error)) > LONGEST_MESSAGE:
        raise Finding(f"the message has {len(str(error))} characters")
    cause = error.__cause__
    if isinstance(cause, (MemoryError, RecursionError)):
        raise Finding(f"only the machine stopped it: {type(cause).__name__}") from error
    return Outcome("refused", type(cause).__name__ if cause else type(error).__name__)


def _run(graph: Graph, data: bytes, seed: int, depth: int) -> Outcome:
    """Optimise at every level and with one pass left out; results stay."""
    rng = np.random.default_rng(seed)
    names = [one.name for one in PASSES]
    disabled = (names[seed % len(names)],)
    done = [optimise(graph, Settings(opt_level=level)) for level in (1, 2, 3)]
    done.append(optimise(graph, Settings(disabled_passes=disabled)))
    for one in done:
        verify(one)
    text = print_graph(graph)
    if print_graph(parse_graph(text, arrays_of(graph))) != text:
        raise Finding("the text does not parse back")
    if depth < 2:
        return Outcome("loaded")
    given = {var for value in graph.inputs for extent in value.shape for var in variables_of(extent)}
    sizes = {var: min(2, var.hi or 2) for var in given}
    fixed = graph.specialise(sizes)
    if any(not isinstance(v.type.size, int) or v.type.size > MOST_ELEMENTS for v in fixed.values()):
        lower_graph(fixed, Settings())
        return Outcome("loaded", "large")
    inputs = [_array(rng, v.type) for v in fixed.inputs]
    with Budget(**RUN).spent():
        expected = fixed.run(*inputs)
        near = _Near(fixed, inputs, expected)
        for one in done:
            _agree("optimised", one.specialise(sizes).run(*inputs), expected, near)
    for level in (0, 3):
        lowered = lower_graph(fixed, Settings(opt_level=level))
        finish(lowered, fixed)
        empty = any(0 in buffer.shape for buffer in lowered.program.buffers)
        if not empty and sum(kernel.flops for kernel in lowered.program.kernels) < MOST_FLOPS:
            _agree(f"loops of level {level}", run_loops(lowered.program, inputs), expected, near)
    if depth >= 3:
        _with_onnx(data, fixed, inputs, expected, near)
    if depth >= 4 and (lowered.program.arena_bytes or 0) < 1 << 24:
        compiled = compile_graph(fixed, threads=1, opt="fast-compile")
        _agree("compiled", compiled.run_arrays(inputs), expected, near)
    return Outcome("compared" if depth >= 3 else "ran")


def variables_of(extent: Any) -> Any:
    return extent.variables if isinstance(extent, Index) else ()


def run_loops(program: Program, inputs: list[Any]) -> list[Any]:
    """The outputs of a lowered program, by the interpreter of loops."""
    arrays = {b.name: np.ascontiguousarray(x) for b, x in zip(program.inputs, inputs, strict=True)}
    for buffer in program.outputs:
        arrays[buffer.name] = np.zeros(tuple(map(int, buffer.shape)), buffer.dtype.numpy)  # type: ignore[arg-type]
    evaluate(program, arrays)
    return [arrays[b.name] for b in program.outputs]


def _array(rng: np.random.Generator, type_: Any) -> Any:
    shape = tuple(map(int, type_.shape))
    if type_.dtype.kind == "bool":
        return rng.random(shape) < 0.5
    if type_.dtype.is_integer:
        return rng.integers(0, 3, shape).astype(type_.dtype.numpy)
    return np.asarray(rng.standard_normal(shape), type_.dtype.numpy)


class _Near:
    """What rounding every intermediate result a little differently would give, computed when asked for."""

    def __init__(self, graph: Graph, inputs: list[Any], expected: Any) -> None:
        self.graph, self.inputs, self.expected = graph, inputs, expected

    @cached_property
    def results(self) -> list[list[Any]]:
        """The results of some runs with noise, one list per output."""
        with Budget(**RUN).spent():
            runs = [self.noisy(np.random.default_rng(seed)) for seed in range(8)]
        return [list(column) for column in zip(*runs, strict=True)]

    def noisy(self, rng: np.random.Generator) -> list[Any]:
        held = dict(zip(self.graph.inputs, self.inputs, strict=True))
        held |= {v: np.asarray(v.data) for v in (*self.graph.constants, *self.graph.states)}
        for node in self.graph.nodes:
            made = apply_operator(node.op, [held[v] for v in node.inputs], node.attrs)
            many = made if isinstance(made, tuple) else (made,)
            moved = many if node.op.kind == "view" else [_nudged(rng, x) for x in many]
            held.update(zip(node.outputs, moved, strict=True))
        return [held[v] for v in self.graph.outputs]


def _nudged(rng: np.random.Generator, x: Any) -> Any:
    """The array with its last bits changed."""
    if x.dtype.kind in "biu":
        return x
    step = 2.0**-21 if x.itemsize >= 4 else 2.0**-9
    with np.errstate(all="ignore"):
        return np.asarray(x.astype(np.float64) * (1 + step * rng.standard_normal(x.shape)), x.dtype)


def _agree(what: str, got: Any, expected: Any, near: _Near) -> None:
    """Results are the same up to what rounding differently would change."""
    if len(got) != len(expected):
        raise Finding(f"{what}: {len(got)} results, expected {len(expected)}")
    for k, (a, b) in enumerate(zip(got, expected, strict=True)):
        a = np.asarray(a)
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise Finding(f"{what}: result {k} is {a.dtype}{a.shape}, expected {b.dtype}{b.shape}")
        if not _close(a, b, [b]) and not _close(a, b, near.results[k]):
            raise Finding(f"{what}: result {k} differs: {a.reshape(-1)[:6]} and {b.reshape(-1)[:6]}")


def _close(a: Any, b: Any, noisy: list[Any]) -> bool:
    if a.dtype.kind in "biu":
        return np.array_equal(a, b) or any(not np.array_equal(b, c) for c in noisy)
    with np.errstate(all="ignore"):
        a, b = a.astype(np.float64), b.astype(np.float64)
        wild = ~np.isfinite(b) | (np.abs(b) > 1e30)
        moved = np.zeros(())
        for c in (np.asarray(c, np.float64) for c in noisy):
            wild |= ~np.isfinite(c)
            moved = np.maximum(moved, np.max(np.abs(b - c)[~wild], initial=0.0))
        scale = np.max(np.abs(b[~wild]), initial=0.0)
        same = np.abs(a - b) <= 2e-3 * scale + 20 * moved + 1e-30
    return bool(np.all(same | wild))


def _with_onnx(data: bytes, graph: Graph, inputs: list[Any], expected: Any, near: _Near) -> None:
    """Compare with ONNX's reference evaluator; where it differs, ONNX Runtime decides."""
    proto = onnx.ModelProto.FromString(data)
    feed = dict(zip((v.name for v in graph.inputs), inputs, strict=True))
    theirs = _reference(proto, feed)
    if theirs is None or _same(expected, theirs, near):
        return
    runtime = _runtime(data, feed)
    if runtime is not None and not _same(expected, runtime, near):
        _agree("ONNX Runtime", expected, [np.asarray(r) for r in runtime], near)


def _same(ours: Any, theirs: Any, near: _Near) -> bool:
    try:
        _agree("onnx", ours, [np.asarray(t) for t in theirs], near)
    except (Finding, TypeError, ValueError):
        return False
    return True


def _reference(proto: onnx.ModelProto, feed: dict[str, Any]) -> list[Any] | None:
    from onnx.reference import ReferenceEvaluator

    try:
        return _flat(ReferenceEvaluator(proto).run(None, feed))
    except Exception:  # whatever its NumPy code raises; then there is nothing to compare with
        return None


def _runtime(data: bytes, feed: dict[str, Any]) -> list[Any] | None:
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return _flat(session.run(None, feed))
    except Exception:  # not installed, or it refuses the model
        return None


def _flat(results: Any) -> list[Any]:
    """The tensors of some outputs, those of sequences one by one."""
    return [x for one in results for x in (one if isinstance(one, list) else [one])]
