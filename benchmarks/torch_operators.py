"""PyTorch's own operator database, through `torch.compile(backend="intaglio", fullgraph=True)`.

Every sample input (float32) of the operators in the core ATen opset runs forward and, where it has a
derivative, backward; results are compared with PyTorch's. Writes a ledger: a line per operator with how many
samples are right, unsupported and wrong, and the first reason.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEDGER = Path(__file__).parent.parent / "tests" / "conformance" / "torch.tsv"
HEADER = "operator\tsamples\tright\tunsupported\twrong\tgradients right\tgradients not\treason"
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


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


def core_operators() -> list[str]:
    """Names of the database's entries whose operator is in the core ATen opset."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    def is_core(info: Any) -> bool:
        packet = getattr(torch.ops.aten, info.aten_name or "", None)
        undefined = info.name.startswith(("empty", "new_empty", "resize_"))  # their content means nothing
        if packet is None or undefined or torch.float32 not in info.supported_dtypes("cpu"):
            return False
        overloads = (getattr(packet, name) for name in packet.overloads())
        return any(torch.Tag.core in overload.tags for overload in overloads)

    return sorted(
        {f"{i.name}{'.' + i.variant_test_name if i.variant_test_name else ''}" for i in op_db if is_core(i)}
    )


def run(name: str, limit: int) -> Row:
    """Run the samples of one operator."""
    warnings.filterwarnings("ignore")
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    torch.set_num_threads(1)
    torch.manual_seed(0)
    row = Row(name)
    matches = [
        i for i in op_db if f"{i.name}{'.' + i.variant_test_name if i.variant_test_name else ''}" == name
    ]
    for info in matches:
        wants = bool(info.supports_autograd)
        samples = list(info.sample_inputs("cpu", torch.float32, requires_grad=wants))
        stride = max(1, -(-len(samples) // limit))
        for sample in samples[::stride]:
            run_sample(info, sample, row, wants)
    return row


def run_sample(info: Any, sample: Any, row: Row, wants: bool) -> None:
    """One sample, forward and backward."""
    import torch
    from torch.utils._pytree import tree_leaves

    torch._dynamo.reset()
    arguments = (sample.input, sample.args, sample.kwargs)
    leaves = [x for x in tree_leaves(arguments) if isinstance(x, torch.Tensor) and x.requires_grad]

    def function(first: Any, args: Any, kwargs: Any) -> Any:
        return info.op(first, *args, **kwargs)

    try:
        expected = tree_leaves(function(*arguments))
    except Exception:
        return
    try:
        options = {"opt": "fast-compile"}
        compiled = torch.compile(function, backend="intaglio", fullgraph=True, dynamic=False, options=options)
        results = tree_leaves(compiled(*arguments))
    except Exception as error:
        row.add("unsupported", reason_of(error))
        return
    try:
        torch.testing.assert_close(results, expected, equal_nan=True, **TOLERANCE)
    except AssertionError as error:
        row.add("wrong", str(error))
        return
    row.add("right")
    if wants and leaves:
        check_gradients(row, results, expected, leaves)


def check_gradients(row: Row, results: list[Any], expected: list[Any], leaves: list[Any]) -> None:
    """Compare the gradients of a weighted sum of all float results."""
    import torch

    def total(parts: list[Any]) -> Any:
        floats = [p for p in parts if isinstance(p, torch.Tensor) and p.requires_grad]
        return sum((p * torch.linspace(0.5, 1.5, p.numel()).reshape(p.shape)).sum() for p in floats)

    wanted = total(expected)
    if not isinstance(wanted, torch.Tensor):
        return
    try:
        wanted = torch.autograd.grad(wanted, leaves, allow_unused=True)
    except RuntimeError:  # a sample that PyTorch itself cannot differentiate, such as one changed in place
        return
    try:
        found = torch.autograd.grad(total(results), leaves, allow_unused=True)
        pairs = [(a, b) for a, b in zip(found, wanted, strict=True) if b is not None and a is not None]
        for a, b in pairs:
            torch.testing.assert_close(a, b, equal_nan=True, **TOLERANCE)
    except Exception as error:
        row.add("no gradient", f"gradient: {reason_of(error)}")
        return
    row.add("gradient")


def reason_of(error: BaseException) -> str:
    """The innermost reason, without PyTorch's advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(getattr(error, "message", "") or str(error).split("\n\n")[0])


def totals(rows: list[Row]) -> Counter[str]:
    return sum((row.counts for row in rows), Counter())


def check(rows: list[Row]) -> int:
    """Compare with the ledger; returns how many operators got worse."""
    known = {line.split("\t")[0]: line.split("\t") for line in LEDGER.read_text().splitlines()[1:]}
    worse = 0
    for row in rows:
        before = known.get(row.name)
        if before and (row.counts["right"] < int(before[2]) or row.counts["wrong"] > int(before[4])):
            print(f"worse: {row.line}\n  was: {' '.join(before)}")
            worse += 1
    return worse


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", help="a regular expression of names")
    parser.add_argument("--limit", type=int, default=12, help="samples per operator")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    names = [name for name in core_operators() if re.search(options.filter, name)]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=20) as pool:
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
