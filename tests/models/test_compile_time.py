"""What a whole network costs the C compiler: its C is short, because layers of one shape share a kernel."""

from __future__ import annotations

import re
import time

import pytest

pytest.importorskip("torch")

import torch
from architectures import MobileNetV2, seeded
from exporting import exported

from intaglio.compile import compile_graph
from intaglio.native.toolchain import build_shared, choose
from intaglio.readers.onnx import load

MOST_SECONDS = 20.0


def test_the_c_of_mobilenet_is_short_and_compiles_soon() -> None:
    resource = pytest.importorskip("resource")
    proto = exported(seeded(MobileNetV2()), torch.zeros(1, 3, 224, 224))
    compiled = compile_graph(load(proto), threads=1)
    functions = re.findall(r"^\w[\w *]*\(.*\) \{$", compiled.source, re.M)
    assert len(functions) >= len(compiled.program.kernels)
    assert len(compiled.program.kernels) <= 40
    assert len(functions) <= 160
    assert compiled.source.count("\n") <= 8000
    # The time the compiler computes, because others may use the machine too; the note makes it run again.
    source = f"/* {time.time_ns()} */\n{compiled.source}"
    toolchain = choose(None).toolchain
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    library = build_shared(source, target=compiled.target, toolchain=toolchain, name="compile_time")
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    library.unlink()
    library.with_suffix(".c").unlink(missing_ok=True)
    assert 0 < seconds <= MOST_SECONDS
