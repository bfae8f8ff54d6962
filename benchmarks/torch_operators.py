"""PyTorch's own operator database, through `torch.compile(backend="intaglio", fullgraph=True)`.

Every sample input (float32) of the operators in the core ATen opset, and of the functions through which core
operators without samples of their own are reached, runs forward and, where it has a derivative, backward;
results are compared with PyTorch's. Writes a ledger: a line per operator with how many samples are right,
unsupported and wrong, and the first reason.

    python benchmarks/torch_operators.py                  # everything, writes the ledger
    python benchmarks/torch_operators.py --filter '^sum'  # some operators, printed only
    python benchmarks/torch_operators.py --check          # against the ledger: nothing may get worse
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEDGER = Path(__file__).parent.parent / "tests" / "conformance" / "torch.tsv"
HEADER = "operator\tsamples\tright\tunsupported\twrong\tgradients right\tgradients not\treason"
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
TOGETHER = 8
"""Samples that are compiled as one program; when one of them fails, each is compiled alone."""

REACHED = (
    "__getitem__", "argwhere", "cdist", "fft.irfft", "fft.rfft", "item", "log_softmax", "softmax", "to",
    "nn.functional.adaptive_avg_pool1d", "nn.functional.adaptive_avg_pool2d",
    "nn.functional.adaptive_avg_pool3d", "nn.functional.batch_norm", "nn.functional.conv1d",
    "nn.functional.conv2d", "nn.functional.conv3d", "nn.functional.conv_transpose1d",
    "nn.functional.conv_transpose2d", "nn.functional.conv_transpose3d", "nn.functional.elu",
    "nn.functional.embedding", "nn.functional.embedding_bag", "nn.functional.grid_sample",
    "nn.functional.group_norm", "nn.functional.instance_norm", "nn.functional.interpolate.bilinear",
    "nn.functional.interpolate.nearest", "nn.functional.layer_norm", "nn.functional.linear",
    "nn.functional.max_pool2d", "nn.functional.max_pool3d", "nn.functional.pad.reflect",
    "nn.functional.pad.replicate", "nn.functional.pdist", "nn.functional.unfold",
)  # fmt: skip
"""Entries that are not core operators, but the way to core operators without an entry."""

EXCLUDED = {
    "empty": "memory that is not initialised",
    "new_empty": "memory that is not initialised",
    "resize_": "memory that is not initialised; torch.compile does not trace it",
    "randn": "the entry sets PyTorch's seed, which torch.compile does not trace",
}
"""Entries, by the start of their name, whose results cannot be compared, and why."""


@dataclass
class Row:
    """What became of one operator's samples."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    reason: str = ""

    def add(self, what: str, reason: str = "") -> None:
        self.counts[what] += 1
        self.reason = self.reason or re.sub(r"\s+", " ", reason)[:160]

    @property
    def line(self) -> str:
        c = self.counts
        total = c["right"] + c["unsupported"] + c["wrong"]
        numbers = (total, c["right"], c["unsupported"], c["wrong"], c["gradient"], c["no gradient"])
        return "\t".join([self.name, *map(str, numbers), self.reason])


@dataclass(frozen=True)
class Case:
    """A sample, and what PyTorch makes of it; `wanted` are the derivatives by its leaves, if it has any.

    `before` are its other tensors with copies of them."""

    arguments: tuple[Any, ...]
    expected: list[Any]
    leaves: list[Any]
    wanted: list[Any] | None
    before: list[tuple[Any, Any]]

    def restore(self) -> None:
        """Take back what a call has written to its arguments, such as running statistics."""
        for tensor, copy in self.before:
            if tensor._version:
                tensor.copy_(copy)


class Failure(Exception):
    """`unsupported`, `wrong` or `no gradient`, with the reason."""


def operators() -> list[str]:
    """Names of the database's entries that are run."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    def is_core(info: Any) -> bool:
        packet = getattr(torch.ops.aten, info.aten_name or "", None)
        overloads = [getattr(packet, name) for name in packet.overloads()] if packet is not None else []
        return any(torch.Tag.core in overload.tags for overload in overloads)

    return sorted(
        {
            info.full_name
            for info in op_db
            if (is_core(info) or info.full_name in REACHED)
            and torch.float32 in info.supported_dtypes("cpu")
            and not info.name.startswith(tuple(EXCLUDED))
        }
    )


def run(name: str, limit: int) -> Row:
    """Run the samples of one operator; with a limit, that many of them, evenly spaced."""
    warnings.filterwarnings("ignore")
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch._dynamo.config.capture_scalar_outputs = True
    row = Row(name)
    for info in (i for i in op_db if i.full_name == name):
        samples = list(info.sample_inputs("cpu", torch.float32, requires_grad=info.supports_autograd))
        stride = max(1, -(-len(samples) // limit)) if limit else 1
        cases = [case for sample in samples[::stride] for case in prepared(info, sample)]
        for start in range(0, len(cases), TOGETHER):
            run_cases(row, info, cases[start : start + TOGETHER])
    return row


def prepared(info: Any, sample: Any) -> Iterator[Case]:
    """The sample as a case; nothing when PyTorch itself cannot run it."""
    import torch
    from torch.utils._pytree import tree_leaves

    arguments = (sample.input, sample.args, sample.kwargs)
    tensors = [x for x in tree_leaves(arguments) if isinstance(x, torch.Tensor)]
    leaves = [x for x in tensors if x.requires_grad]
    before = [(x, x.clone()) for x in tensors if not x.requires_grad]
    try:
        expected = tree_leaves(info.op(sample.input, *sample.args, **sample.kwargs))
    except Exception:
        return
    weighed = total(expected)
    wanted: list[Any] | None = None
    if leaves and isinstance(weighed, torch.Tensor):
        try:
            wanted = list(torch.autograd.grad(weighed, leaves, allow_unused=True))
        except RuntimeError:  # PyTorch itself cannot differentiate it, such as one changed in place
            wanted = None
    yield Case(arguments, expected, leaves, wanted, before)


def run_cases(row: Row, info: Any, cases: Sequence[Case]) -> None:
    """Cases as one program, or, when that fails, one by one."""
    try:
        attempt(info, cases)
    except Failure as failure:
        if len(cases) > 1:
            for case in cases:
                run_cases(row, info, [case])
            return
        kind, reason = failure.args
        if kind == "no gradient":
            row.add("right")
        row.add(kind, reason)
        return
    for case in cases:
        row.add("right")
        if case.wanted is not None:
            row.add("gradient")


def attempt(info: Any, cases: Sequence[Case]) -> None:
    """Compile and compare. Raises Failure."""
    import torch
    from torch.utils._pytree import tree_leaves

    torch._dynamo.reset()
    for case in cases:
        case.restore()

    def function(calls: Any) -> Any:
        return [info.op(first, *args, **kwargs) for first, args, kwargs in calls]

    try:
        options = {"opt": "fast-compile"}
        compiled = torch.compile(function, backend="intaglio", fullgraph=True, dynamic=False, options=options)
        results = [tree_leaves(result) for result in compiled([case.arguments for case in cases])]
    except Exception as error:
        raise Failure("unsupported", reason_of(error)) from error
    try:
        for found, case in zip(results, cases, strict=True):
            torch.testing.assert_close(found, case.expected, equal_nan=True, **TOLERANCE)
    except AssertionError as error:
        raise Failure("wrong", str(error)) from error
    derived = [(found, case) for found, case in zip(results, cases, strict=True) if case.wanted is not None]
    try:
        check_gradients(derived)
    except Exception as error:
        raise Failure("no gradient", f"gradient: {reason_of(error)}") from error


def total(results: Sequence[Any]) -> Any:
    """A weighted sum of all results that have a derivative."""
    import torch

    floats = [r for r in results if isinstance(r, torch.Tensor) and r.requires_grad]
    return sum((r * torch.linspace(0.5, 1.5, r.numel()).reshape(r.shape)).sum() for r in floats)


def check_gradients(derived: Sequence[tuple[list[Any], Case]]) -> None:
    """Compare the derivatives of all results with PyTorch's; one that is missing is zero."""
    import torch

    if not derived:
        return
    leaves = [leaf for _, case in derived for leaf in case.leaves]
    wanted = [gradient for _, case in derived for gradient in case.wanted or ()]
    weighed = total([result for results, _ in derived for result in results])
    found = torch.autograd.grad(weighed, leaves, allow_unused=True)
    for own, theirs, leaf in zip(found, wanted, leaves, strict=True):
        both = [torch.zeros_like(leaf) if g is None else g for g in (own, theirs)]
        torch.testing.assert_close(*both, equal_nan=True, **TOLERANCE)


def reason_of(error: BaseException) -> str:
    """The innermost reason, without PyTorch's advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(getattr(error, "message", "") or str(error).split("\n\n")[0])


def totals(rows: list[Row]) -> Counter[str]:
    return sum((row.counts for row in rows), Counter())


def ledger() -> dict[str, list[str]]:
    """The columns of every line, by operator."""
    return {line.split("\t")[0]: line.split("\t") for line in LEDGER.read_text().splitlines()[1:]}


def summary() -> str:
    """The ledger's totals, as the documentation has them."""
    lines = ledger().values()
    samples, right, unsupported, wrong, gradients, no_gradients = (
        sum(int(line[k]) for line in lines) for k in range(1, 7)
    )
    return (
        f"{len(lines)} entries, {samples} samples: {right} right ({100 * right / samples:.1f} %), "
        f"{unsupported} unsupported, {wrong} wrong; derivatives of {gradients} right, of {no_gradients} not."
    )


def check(rows: list[Row]) -> int:
    """Compare with the ledger; returns how many operators got worse."""
    known = ledger()
    worse = 0
    for row in rows:
        before = known.get(row.name)
        if before and (row.counts["right"], row.counts["gradient"]) < (int(before[2]), int(before[5])):
            print(f"worse: {row.line}\n  was: {' '.join(before)}")
            worse += 1
    return worse


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", help="a regular expression of names")
    parser.add_argument("--limit", type=int, default=0, help="samples per operator; 0: all")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    names = [name for name in operators() if re.search(options.filter, name)]
    known = ledger() if LEDGER.exists() else {}
    names.sort(key=lambda name: -int(known[name][1]) if name in known else -100)  # the longest first
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=40) as pool:
        rows = []
        for row in pool.imap_unordered(_run_one, [(name, options.limit) for name in names]):
            rows.append(row)
            print(row.line, flush=True)
    rows.sort(key=lambda row: row.name)
    found = totals(rows)
    tried = found["right"] + found["unsupported"] + found["wrong"]
    share = 100 * found["right"] / max(tried, 1)
    print(f"{len(rows)} operators, {tried} samples: {dict(found)}, {share:.1f} % right")
    if options.check:
        return 1 if check(rows) else 0
    if not options.filter:
        LEDGER.write_text("\n".join([HEADER, *(row.line for row in rows)]) + "\n")
    return 0


def _run_one(task: tuple[str, int]) -> Row:
    return run(*task)


if __name__ == "__main__":
    sys.exit(main())
