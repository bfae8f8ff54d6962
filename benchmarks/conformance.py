"""ONNX's own backend tests (`onnx.backend.test`) through compiled C, against a ledger.

Every test is imported for the shapes of its inputs, compiled, run, and compared as ONNX's runner does: types
and shapes are equal, values within the test's tolerance. The value of an input is known when compiling only
where an operator takes a shape, axes, a count or a condition; a test in which data would be constant does
not pass.

    python benchmarks/conformance.py                     # everything, writes the ledger
    python benchmarks/conformance.py --filter '^test_gru' # some tests, printed only
    python benchmarks/conformance.py --check             # against the ledger: what passed must pass
    python benchmarks/conformance.py --sample --check     # one test for every operator
    python benchmarks/conformance.py --interpret         # without C, by the NumPy interpreter
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from intaglio.compile import compile_graph
from intaglio.graph.eval import evaluate
from intaglio.native.pyext import extension
from intaglio.readers.onnx.specialise import Specialised, input_names, load_for
from intaglio.shared.cache import VARIABLE
from intaglio.shared.errors import UnsupportedError

LEDGER = Path(__file__).parent.parent / "tests" / "conformance" / "ledger.tsv"
HEADER = "test\tstatus\treason"
KINDS = ("node", "real", "simple", "pytorch-converted", "pytorch-operator")
SECONDS = 60
"""Of one test; those of real models may take `REAL_SECONDS`."""
REAL_SECONDS = 300
MEMORY = 8 << 30
LARGE = 50_000_000
"""FLOPs above which an optimising compiler is worth its time."""

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
SHAPE_OPERANDS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2),
    "ConstantOfShape": (0,), "CumProd": (1,), "CumSum": (1,), "DFT": (1, 2), "Dropout": (2,), "Expand": (1,),
    "HammingWindow": (0,), "HannWindow": (0,), "If": (0,), "Loop": (0, 1), "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1), "NonMaxSuppression": (2,), "OneHot": (1,), "Pad": (1, 3), "Range": (0, 1, 2),
    "Reshape": (1,), "Resize": (1, 2, 3), "STFT": (1, 3), "SequenceAt": (1,), "SequenceErase": (1,),
    "SequenceInsert": (2,), "Slice": (1, 2, 3, 4), "Split": (1,), "SplitToSequence": (1,), "Squeeze": (1,),
    "Tile": (1,), "TopK": (1,), "Unsqueeze": (1,), "Upsample": (1,),
    **{f"Reduce{name}": (1,) for name in REDUCTIONS},
}  # fmt: skip
"""Operands that say what is computed, not with which numbers: shapes, axes, counts, positions, modes,
conditions."""
NOTES = {
    r"bernoulli|training_dropout": "random numbers of NumPy's generator are expected",
    r"attention_4d_causal_fp16": "the last place of f16, where a kernel computes on in f32",
    r"dft_inverse": "rounding errors of NumPy's transform, where 0 is exact, are expected",
}
"""Why results differ in the end: added to the reasons of tests that fail."""


@dataclass
class Case:
    """A test: its model, and pairs of inputs and expected outputs."""

    name: str
    model: onnx.ModelProto
    sets: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


@dataclass
class Row:
    """What became of a test: `pass`, `fail` (wrong, crashed, too slow) or `unsupported`."""

    name: str
    status: str
    reason: str = ""
    seconds: float = 0.0

    @property
    def line(self) -> str:
        return f"{self.name}\t{self.status}\t{self.reason}"


def collect() -> dict[str, Any]:
    """Every test of the suite by name."""
    warnings.filterwarnings("ignore")
    from onnx.backend.test.loader import load_model_tests

    return {test.name: test for kind in KINDS for test in load_model_tests(kind=kind)}


def read_case(test: Any) -> Case:
    """A test with its data read."""
    if test.data_sets is not None:
        sets = [([_array(x) for x in i], [_array(x) for x in o]) for i, o in test.data_sets]
        return Case(test.name, test.model, sets, test.rtol, test.atol)
    if test.url is not None and test.model_dir is None:
        path = Path(onnx.__file__).parent.parent / test.url
        model = onnx.load(path)
        outputs = [_load(path.with_name(f"{path.stem}_output_{k}.pb"), info.type)
                   for k, info in enumerate(model.graph.output)]  # fmt: skip
        return Case(test.name, model, [(_ramps(model), outputs)], test.rtol, test.atol)
    model = onnx.load(Path(test.model_dir) / "model.onnx")
    sets = [_read_set(model, folder) for folder in sorted(Path(test.model_dir).glob("test_data_set*"))]
    return Case(test.name, model, sets, test.rtol, test.atol)


def _array(x: Any) -> Any:
    return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x


def _read_set(model: onnx.ModelProto, folder: Path) -> tuple[list[Any], list[Any]]:
    found = []
    for what, infos in (("input", model.graph.input), ("output", model.graph.output)):
        count = len(list(folder.glob(f"{what}_*.pb")))
        found.append([_load(folder / f"{what}_{k}.pb", infos[k].type) for k in range(count)])
    return found[0], found[1]


def _load(path: Path, type_: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if type_.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if type_.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _ramps(model: onnx.ModelProto) -> list[Any]:
    """The inputs that ONNX's runner makes up for models without data."""
    infos = {info.name: info for info in model.graph.input}
    made = []
    for name in input_names(model):
        shape = tuple(d.dim_value or 1 for d in infos[name].type.tensor_type.shape.dim)
        count = int(np.prod(shape))
        made.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    return made


def run_case(case: Case, interpret: bool, opt: str) -> None:
    """Run a test. Raises AssertionError for a wrong result, UnsupportedError when it cannot be compiled."""
    for inputs, expected in case.sets:
        special = load_for(case.model, case.model, inputs)
        check_data(special)
        arrays = special.packing.flatten(inputs)
        if interpret:
            results: Sequence[Any] = evaluate(special.graph, arrays)[0]
        else:
            compiled = compile_graph(special.graph, threads=1, opt=opt)
            if opt != "default" and sum(k.flops for k in compiled.program.kernels) > LARGE:
                compiled = compile_graph(special.graph, threads=1)
            results = compiled.run_arrays(arrays)
        compare(special.packing.pack(results), expected, case.rtol, case.atol)


def check_data(special: Specialised) -> None:
    """Raise UnsupportedError where an input's value became part of the program, but is data there."""
    for name in special.fixed:
        raise UnsupportedError(f"input {name!r} must be known when compiling")
    for operator, place in sorted(special.decided):
        if place not in SHAPE_OPERANDS.get(operator, ()):
            raise UnsupportedError(f"operand {place} of {operator} is data but must be known when compiling")


def compare(outputs: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> None:
    """As ONNX's runner does: types and shapes are equal, values close."""
    assert len(outputs) == len(expected), f"{len(outputs)} outputs, not {len(expected)}"
    for k, (own, reference) in enumerate(zip(outputs, expected, strict=True)):
        if isinstance(reference, (list, tuple)):
            assert isinstance(own, list), f"output {k} is no sequence"
            compare(own, reference, rtol, atol)
            continue
        if reference is None:
            assert own is None, f"output {k} is present but must be absent"
            continue
        reference = np.asarray(reference)
        assert isinstance(own, np.ndarray), f"output {k} is no tensor"
        assert own.shape == reference.shape, f"output {k} has shape {own.shape}, not {reference.shape}"
        assert own.dtype == reference.dtype, f"output {k} is {own.dtype}, not {reference.dtype}"
        if own.dtype.name == "bfloat16":
            own, reference = own.astype(np.float32), reference.astype(np.float32)
            rtol = max(rtol, 2**-6)
        elif own.dtype.name.startswith(("float8", "float6", "float4")):
            own, reference = own.astype(np.float32), reference.astype(np.float32)
        elif own.dtype.name.startswith(("int4", "uint4", "int2", "uint2")):
            own, reference = own.astype(np.int8), reference.astype(np.int8)
        if own.dtype.kind in "OUS":
            assert np.array_equal(own, reference), f"output {k} differs"
            continue
        wrong = ~np.isclose(own, reference, rtol=rtol, atol=atol, equal_nan=True)
        assert not wrong.any(), f"output {k}: {int(wrong.sum())} of {wrong.size} elements differ"


def judge(test: Any, interpret: bool, opt: str) -> Row:
    """Run a test; every way in which it can end."""
    started = time.perf_counter()
    row = Row(test.name, "pass")
    try:
        run_case(read_case(test), interpret, opt)
    except UnsupportedError as error:
        row.status, row.reason = "unsupported", one_line(error.message)
    except AssertionError as error:
        notes = [f": {note}" for pattern, note in NOTES.items() if re.search(pattern, test.name)]
        row.status, row.reason = "fail", one_line("".join([str(error) or "AssertionError", *notes]))
    except Exception as error:
        row.status = "fail"
        row.reason = one_line(f"{type(error).__name__}: {getattr(error, 'message', error)}")
    row.seconds = time.perf_counter() - started
    return row


def one_line(text: str) -> str:
    """A reason for the ledger: one line, no paths, no addresses."""
    text = re.sub(r"\s+", " ", re.sub(r"0x[0-9a-f]+|(?<![\w.])/[\w./-]+", "...", text.split("\n")[0]))
    return text[:160].strip()


@dataclass
class Worker:
    """A process that runs tests one after another; it says before each which one it is."""

    process: Any
    link: Connection
    waiting: list[str]
    running: str = ""
    since: float = field(default_factory=time.monotonic)
    ended: bool = False


class Runner:
    """Runs tests in a few processes; a test that crashes, hangs or takes all memory fails alone."""

    def __init__(self, tests: dict[str, Any], jobs: int, interpret: bool, opt: str) -> None:
        self.tests, self.jobs, self.interpret, self.opt = tests, jobs, interpret, opt
        self.context = multiprocessing.get_context("fork")

    def run(self, names: Sequence[str]) -> Iterator[Row]:
        queue = [list(names[k : k + 20]) for k in range(0, len(names), 20)][::-1]
        workers: list[Worker] = []
        while queue or workers:
            while queue and len(workers) < self.jobs:
                workers.append(self.start(queue.pop()))
            wait([w.link for w in workers], timeout=1.0)
            for worker in list(workers):
                yield from self.listen(worker)
                if worker.running and time.monotonic() - worker.since > self.limit(worker.running):
                    worker.process.kill()
                    yield Row(worker.running, "fail", "too slow")
                    worker.waiting.remove(worker.running)
                    worker.running = ""
                elif not worker.ended:
                    continue
                elif worker.running:
                    worker.process.join()
                    yield Row(worker.running, "fail", f"crashed: {_death(worker.process.exitcode)}")
                    worker.waiting.remove(worker.running)
                worker.process.join()
                workers.remove(worker)
                if worker.waiting:
                    queue.append(worker.waiting)

    def limit(self, name: str) -> float:
        return REAL_SECONDS if self.tests[name].url else SECONDS

    def start(self, names: list[str]) -> Worker:
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=self.work, args=(theirs, names), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours, names)

    def listen(self, worker: Worker) -> Iterator[Row]:
        try:
            while worker.link.poll():
                message = worker.link.recv()
                if isinstance(message, str):
                    worker.running, worker.since = message, time.monotonic()
                else:
                    worker.waiting.remove(message.name)
                    worker.running = ""
                    yield message
        except EOFError:
            worker.process.join()
            worker.ended = True

    def work(self, link: Connection, names: Sequence[str]) -> None:
        """In the process."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        np.seterr(all="ignore")
        for name in names:
            link.send(name)
            link.send(judge(self.tests[name], self.interpret, self.opt))


def _death(code: int | None) -> str:
    return signal.Signals(-code).name if code and code < 0 else f"exit status {code}"


def read_ledger() -> dict[str, Row]:
    """Every test as it was."""
    lines = [line.split("\t") for line in LEDGER.read_text().splitlines()[1:]]
    return {name: Row(name, status, reason) for name, status, reason in lines}


def check(rows: Sequence[Row]) -> int:
    """Compare with the ledger; returns how many tests passed before and do not now."""
    passed = {name for name, row in read_ledger().items() if row.status == "pass"}
    worse = [row for row in rows if row.status != "pass" and row.name in passed]
    better = [row for row in rows if row.status == "pass" and row.name not in passed]
    for row in worse:
        print(f"no longer passes: {row.line}")
    if better:
        print(f"{len(better)} tests pass that the ledger does not have as such: run without --check")
    return len(worse)


def summary(rows: Sequence[Row], reasons: int) -> str:
    """Counts by status, and the most frequent reasons."""
    counts = Counter(row.status for row in rows)
    lines = [f"{len(rows)} tests: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))]
    why = Counter(_general(row.reason) for row in rows if row.status != "pass")
    return "\n".join(lines + [f"{n:5} {reason}" for reason, n in why.most_common(reasons)])


def _general(reason: str) -> str:
    """A reason without what belongs to one test."""
    noted = re.sub(r"^output \d+: .* elements differ: ", "", reason)
    return noted if noted != reason else re.sub(r"'[^']*'|\b\d+\b", "_", re.sub(r"^\w+ node: ", "", reason))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--filter", default="", help="a regular expression of names")
    parser.add_argument("--interpret", action="store_true", help="run by NumPy, without C")
    parser.add_argument("--check", action="store_true", help="compare with the ledger, do not write it")
    parser.add_argument("--jobs", type=int, default=min(multiprocessing.cpu_count(), 8))
    parser.add_argument("--opt", default="fast-compile", help="fast-compile or default")
    parser.add_argument("--small", action="store_true", help="without real models")
    parser.add_argument("--sample", action="store_true", help="one test for every operator")
    parser.add_argument("--every", type=int, default=1, help="only every N-th test")
    parser.add_argument("--ledger", action="store_true", help="only the counts that the ledger has")
    options = parser.parse_args()
    if options.ledger:
        print(summary(list(read_ledger().values()), 40))
        return 0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ[VARIABLE] = cache
        return run_all(options, started)


def sample(tests: dict[str, Any], names: Sequence[str]) -> list[str]:
    """The tests that have an operator which none before them in the list has."""
    chosen, seen = [], set[tuple[str, str]]()
    for name in names:
        model = tests[name].model
        operators = set() if model is None else {(node.domain, node.op_type) for node in model.graph.node}
        if operators - seen:
            chosen.append(name)
        seen |= operators
    return chosen


def run_all(options: argparse.Namespace, started: float) -> int:
    """Run what the options select; returns the exit status."""
    tests = collect()
    names = sorted(name for name in tests if re.search(options.filter, name))[:: options.every]
    if options.small:
        names = [name for name in names if tests[name].url is None]
    if options.sample:
        names = sample(tests, names)
    names.sort(key=lambda name: tests[name].url is None)
    if not options.interpret:
        extension()
    whole = len(names) == len(tests)
    rows = []
    for row in Runner(tests, options.jobs, options.interpret, options.opt).run(names):
        rows.append(row)
        if not whole or row.status == "fail":
            print(f"{row.seconds:6.2f} s  {row.line}", flush=True)
    rows.sort(key=lambda row: row.name)
    print(summary(rows, 40 if whole else 0))
    slowest = sorted(rows, key=lambda row: -row.seconds)[:5]
    shown = ", ".join(f"{row.name} {row.seconds:.0f} s" for row in slowest)
    print(f"{time.perf_counter() - started:.0f} s; slowest: {shown}")
    if options.check:
        return 1 if check(rows) else 0
    if whole and not options.interpret:
        LEDGER.parent.mkdir(parents=True, exist_ok=True)
        LEDGER.write_text("\n".join([HEADER, *(row.line for row in rows)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
