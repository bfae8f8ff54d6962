"""An ONNX model compiled by us beside ONNX Runtime, and, when they differ, the operator that differs first.

The search goes from the narrow to the wide. Each operator is given what ONNX Runtime gave it: interpreted
(is its import right?), then compiled by itself (is its C right?). When all agree, the graph passes are
replayed one by one, and at last the model is compiled up to an operator, for ever fewer operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.compile import Settings, compile_graph, optimise
from intaglio.graph.ir import Graph
from intaglio.readers.onnx import isolate
from intaglio.readers.onnx.elements import plain_type
from intaglio.readers.onnx.importer import Importer, load
from intaglio.readers.onnx.limits import Limits
from intaglio.readers.onnx.model import named_extent, read_model
from intaglio.readers.onnx.specialise import Specialised, input_names, load_for
from intaglio.shared.errors import ArgumentError, FileFormatError, UnsupportedError
from intaglio.shared.types import TensorType
from intaglio.view.compare import Difference, difference
from intaglio.view.samples import random_input

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Run = Callable[[Graph, Arrays], dict[str, Array]]
SEED = 0
TOGETHER = 16
"""Operators that are compiled in one program, each by itself."""
STAGES = {
    "import": "interpreted, given what ONNX Runtime gives it",
    "alone": "compiled by itself, given what ONNX Runtime gives it",
    "together": "compiled with all operators before it",
}


@dataclass(frozen=True)
class Culprit:
    """Where a model goes wrong.

    Attributes:
        stage: `import`, `alone`, the name of a graph pass, or `together`.
        node: the ONNX operator; none when a pass is to blame.
        primitives: what the operator was imported as, with formulas.
        differences: of its results.
        saved: files with its inputs, with the results of both sides, and with itself as a model.
    """

    stage: str
    node: onnx.NodeProto | None
    primitives: tuple[str, ...]
    differences: tuple[Difference, ...]
    saved: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """One line: the operator with its attributes, or the pass."""
        return f"graph pass {self.stage}" if self.node is None else isolate.title(self.node)

    def describe(self) -> str:
        """What is to blame, in lines."""
        lines = [f"first difference: {self.title}, {STAGES.get(self.stage, 'after this graph pass')}"]
        lines += [
            f"  {d.name}: {d.type}, {d.ulp:.3g} ULP, relative error {d.relative:.3g}"
            for d in self.differences
        ]
        lines += [f"  {formula}" for formula in self.primitives]
        lines += [f"  saved {path}" for path in self.saved]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """The outputs of a model against ONNX Runtime's, and what is to blame when they differ."""

    differences: tuple[Difference, ...]
    tolerance: float
    culprit: Culprit | None = None

    @property
    def agrees(self) -> bool:
        return all(one.relative <= self.tolerance for one in self.differences)


def verify_onnx(
    source: str | Path | bytes,
    inputs: Arrays | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    tolerance: float = 1e-4,
    save: Path | None = None,
    **settings: Any,
) -> Report:
    """Compare a model with ONNX Runtime on the same input; find the first operator that differs.

    Args:
        inputs: arrays by name; missing ones are random, always the same.
        sizes: of the symbolic dimensions of random inputs; default 1.
        tolerance: largest error accepted, relative to the largest element of an output.
        save: directory for the differing operator: its inputs and results, and itself as a model.
        settings: as of `compile_graph`.
    """
    search = _Search(source, inputs or {}, sizes or {}, tolerance, save, settings)
    differences = search.whole()
    report = Report(tuple(differences), tolerance)
    return report if report.agrees else Report(report.differences, tolerance, search.culprit())


@dataclass
class _Search:
    """One model, its inputs, and what is known about its values so far."""

    source: str | Path | bytes
    given: Arrays
    sizes: Mapping[str, int]
    tolerance: float
    save: Path | None
    settings: dict[str, Any]
    model: onnx.ModelProto = field(init=False)
    feeds: dict[str, Array] = field(init=False)
    seen: dict[str, Array] = field(init=False)
    known: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        model, directory = read_model(self.source)
        self.model = isolate.with_weights(model, directory)
        self.feeds = make_inputs(self.model, self.given, self.sizes)
        self.settings.setdefault("threads", 1)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.feeds.items()}

    def graph(self, model: onnx.ModelProto) -> Graph:
        return self.special(model).graph

    def special(self, model: onnx.ModelProto) -> Specialised:
        """A model for the shapes of the inputs, and for the values of those that decide shapes."""
        return load_for(model, model, [self.feeds[name] for name in input_names(model)])

    def run(self, graph: Graph, feeds: Arrays) -> dict[str, Array]:
        """The outputs of a graph, compiled."""
        return compile_graph(graph, **self.settings).run({v.name: feeds[v.name] for v in graph.inputs})

    def whole(self) -> list[Difference]:
        """The differences of the model's outputs."""
        got = self.run(self.graph(self.model), self.feeds)
        results = runtime(self.model, self.feeds)
        if not all(isinstance(result, np.ndarray) for result in results):
            raise UnsupportedError("an output is no tensor", hint="models of tensors can be verified")
        expected = dict(zip(got, results, strict=True))
        return [difference(name, expected[name], array) for name, array in got.items()]

    def culprit(self) -> Culprit | None:
        """The first place that differs, by ever wider searches."""
        self._unfold()
        alone = self._alone(_interpreted, "import") or self._alone(self.run, "alone")
        return alone or self._passes() or self._together()

    def _unfold(self) -> None:
        """Replace branches by what they do on these inputs, and learn every value."""
        for _ in range(isolate.MAX_ROUNDS):
            wanted = isolate.conditions_of(self.model)
            if not wanted:
                break
            values = self._values(wanted)
            self.model = isolate.without_branches(
                self.model, {n: bool(a.reshape(-1)[0]) for n, a in values.items()}
            )
        self.seen = self._values(isolate.results_of(self.model)) | self.feeds
        importer = Importer(self.model, None, {}, self.shapes, {}, Limits())
        special = self.special(self.model)
        importer.given.update({name: self.feeds[name] for name in (*special.known, *special.fixed)})
        with importer.budget.spent():
            importer.run()
        self.known = {
            name: self.seen.get(name, value)
            for name, value in importer.scope.items()
            if isinstance(value, np.ndarray) and value.dtype != object
        }

    def _values(self, names: Sequence[str]) -> dict[str, Array]:
        """What ONNX Runtime computes for some values."""
        weights = isolate.weights_of(self.model)
        fixed = {n: (self.feeds | weights)[n] for n in names if n in self.feeds or n in weights}
        rest = [name for name in names if name not in fixed]
        made = isolate.with_outputs(self.model, rest)
        results = runtime(made, self.feeds, optimised=False) if rest else []
        return fixed | isolate.as_arrays(dict(zip(rest, results, strict=True)))

    def _alone(self, run: Run, stage: str) -> Culprit | None:
        """The first operator that differs although it reads what ONNX Runtime reads."""
        nodes = list(self.model.graph.node)
        for start in range(0, len(nodes), TOGETHER):
            chunk = nodes[start : start + TOGETHER]
            got = self._results(run, chunk)
            for node in chunk:
                found = self._differences(node, got)
                if self._differs(found):
                    return self._found(stage, node, got, found)
        return None

    def _results(self, run: Run, nodes: list[onnx.NodeProto]) -> dict[str, Array]:
        """What the operators give one by one; nothing of those that cannot stand by themselves."""
        try:
            graph = load(isolate.alone(self.model, nodes, self.known, self.seen))
            return run(graph, {value.name: self.seen[value.name] for value in graph.inputs})
        except (UnsupportedError, FileFormatError):
            half = len(nodes) // 2
            return self._results(run, nodes[:half]) | self._results(run, nodes[half:]) if half else {}

    def _differs(self, found: Sequence[Difference]) -> bool:
        return any(one.relative > self.tolerance for one in found)

    def _differences(self, node: onnx.NodeProto, got: Arrays) -> tuple[Difference, ...]:
        used = isolate.used_in(self.model)
        names = [name for name in node.output if name in self.seen and name in used]
        pairs = [(name, got.get(isolate.separated(name))) for name in names]
        return tuple(difference(name, self.seen[name], array) for name, array in pairs if array is not None)

    def _passes(self) -> Culprit | None:
        """The first graph pass after which the model, interpreted, gives something else than before."""
        graph = self.graph(self.model)
        arrays = [self.feeds[value.name] for value in graph.inputs]
        before = graph.run(*arrays)
        found: list[Culprit] = []

        def compare(name: str, after: Graph) -> None:
            pairs = zip(graph.output_names, before, after.run(*arrays), strict=True)
            rows = tuple(difference(output, a, b) for output, a, b in pairs)
            if not found and self._differs(rows):
                found.append(Culprit(name, None, (), rows))

        chosen = {k: v for k, v in self.settings.items() if k in ("opt_level", "disabled_passes")}
        optimise(graph, Settings(**chosen), after=compare)
        return found[0] if found else None

    def _together(self) -> Culprit | None:
        """The first operator that goes wrong when all before it are compiled with it."""
        nodes = [n for n in self.model.graph.node if not all(o in self.known for o in n.output if o)]
        low, high = 0, len(nodes)
        last: Culprit | None = None
        while low < high:
            middle = (low + high) // 2
            node = nodes[middle]
            names = [name for name in node.output if name in self.seen and name not in self.known]
            made = isolate.with_outputs(self.model, names)
            got = {isolate.separated(n): a for n, a in self.run(self.graph(made), self.feeds).items()}
            found = self._differences(node, got)
            if self._differs(found):
                high, last = middle, self._found("together", node, got, found)
            else:
                low = middle + 1
        return last

    def _found(self, stage: str, node: onnx.NodeProto, got: Arrays, found: tuple[Difference, ...]) -> Culprit:
        model = isolate.alone(self.model, [node], self.known, self.seen)
        values = self.known | self.seen
        results = [name for name in node.output if name in self.seen]
        arrays = {
            "input": [values[name] for name in isolate.reads_of(node)],
            "expected": [self.seen[name] for name in results],
            "got": [got[isolate.separated(name)] for name in results if isolate.separated(name) in got],
        }
        saved = () if self.save is None else _save(self.save, model, arrays)
        return Culprit(stage, node, _formulas(load(model)), found, saved)


def _save(directory: Path, model: onnx.ModelProto, groups: Mapping[str, list[Array]]) -> tuple[Path, ...]:
    """Files that reproduce a difference: arrays by number, since names of the model may be anything."""
    directory.mkdir(parents=True, exist_ok=True)
    named = {f"{group}_{k}": array for group, arrays in groups.items() for k, array in enumerate(arrays)}
    numbers, proto = directory / "operator.npz", directory / "operator.onnx"
    np.savez(numbers, **named)  # type: ignore[arg-type]
    proto.write_bytes(model.SerializeToString())
    return numbers, proto


def _formulas(graph: Graph) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{node.op.name}: {node.op.formula}" for node in graph.nodes))


def _interpreted(graph: Graph, feeds: Arrays) -> dict[str, Array]:
    results = graph.run(*(feeds[value.name] for value in graph.inputs))
    return dict(zip(graph.output_names, results, strict=True))


def make_inputs(model: onnx.ModelProto, given: Arrays, sizes: Mapping[str, int]) -> dict[str, Array]:
    """The arrays given, and random ones for the other inputs of a model."""
    names = input_names(model)
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ArgumentError(
            f"the model has no input {unknown[0]!r}", hint=f"its inputs are {', '.join(names)}"
        )
    rng = np.random.default_rng(SEED)
    made = {}
    for info in model.graph.input:
        if info.name not in names:
            continue
        if info.type.WhichOneof("value") != "tensor_type":
            raise UnsupportedError(
                f"input {info.name!r} is no tensor", hint="models of tensors can be verified"
            )
        tensor = info.type.tensor_type
        extents = [named_extent(dim) for dim in tensor.shape.dim]
        shape = tuple(size if isinstance(size, int) else sizes.get(size, 1) for size in extents)
        drawn = random_input(TensorType(plain_type(tensor.elem_type), shape), rng)
        made[info.name] = np.asarray(given.get(info.name, drawn))
    return made


def runtime(model: onnx.ModelProto, feeds: Arrays, *, optimised: bool = True) -> list[Any]:
    """The outputs of a model by ONNX Runtime, on one thread."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UnsupportedError("ONNX Runtime is not installed", hint="pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, dict(feeds)))
    except Exception as error:  # the runtime raises types of its own
        raise UnsupportedError(f"ONNX Runtime cannot run the model: {error}") from error
