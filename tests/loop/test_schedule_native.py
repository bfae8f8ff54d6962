"""Schedules as compiled C: right results, speed of the recipes' form without spills, less memory."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from schedule_cases import NESTS, program, random_steps, results
from typer.testing import CliRunner

from intaglio.__main__ import app
from intaglio.compile import capture, compile_graph
from intaglio.compiled import Compiled
from intaglio.loop.ir import Program
from intaglio.loop.memory import plan_memory
from intaglio.loop.names import identifier
from intaglio.loop.schedule.program import schedule_program
from intaglio.native.call import CallSpec
from intaglio.native.emit import emit_program
from intaglio.native.loader import load
from intaglio.native.targets import detect
from intaglio.native.toolchain import build_shared, choose
from intaglio.ops.compositions.activation import relu
from intaglio.ops.compositions.convolution import conv2d
from intaglio.shared.errors import UnsupportedError
from intaglio.shared.target import GENERIC, Target

RNG = np.random.default_rng(0)
TILES = """
split(j, {columns}) -> j0, jt
split(i, {rows}, balanced) -> i0, i1
reorder(j0, i0, i1, jt)
split(jt, {lanes}) -> j1, lane
cache_write(dot, i1)
unroll(i1)
unroll(j1)
vectorize(lane)
pack(c, [1 // {columns}, 0, 1 % {columns}]) -> panels
"""


def joined(programs: list[tuple[str, Program]]) -> Program:
    """One program of many kernels, each with arrays of its own: one run of the C compiler."""
    whole = Program("schedules")
    for number, (name, one) in enumerate(programs):
        for role in ("inputs", "outputs", "constants", "scratch"):
            for buffer in getattr(one, role):
                buffer.name = f"{buffer.name}_{number}"
                getattr(whole, role).append(buffer)
        for kernel in one.kernels:
            kernel.name = f"{identifier(name)}_{number}"
            whole.kernels.append(kernel)
        body = whole.phases.get("forward")
        made = one.phases["forward"]
        whole.phases["forward"] = made if body is None else type(made)((*body, *made))
    return whole


@pytest.mark.parametrize(
    ("opt", "target", "each"),
    [("fast-compile", GENERIC, 6), ("default", detect(), 1)],
    ids=["generic", "native"],
)
def test_random_schedules_in_c(opt: str, target: Target, each: int) -> None:
    rng = random.Random(3)
    chosen = []
    for name in sorted(NESTS) * each:
        steps = str(random_steps(NESTS[name], rng.choice, 8))
        chosen.append((name, schedule_program(program(NESTS[name]), {"k": steps})))
    want = [next(iter(results(program(NESTS[name])).values())) for name, _ in chosen]
    inputs = []
    for name, _ in chosen:
        own = program(NESTS[name])
        held = np.random.default_rng(1)
        inputs += [held.integers(-4, 5, b.shape).astype(np.float32) for b in own.inputs]
    whole = plan_memory(joined(chosen))
    library = build_shared(emit_program(whole, target), target=target, toolchain=choose(None, opt).toolchain,
                           opt=opt, exact=True, name="schedules")  # fmt: skip
    outputs = load(library, CallSpec.of(whole), threads=2).call(*inputs)
    for (name, one), got, expected in zip(chosen, outputs, want, strict=True):
        np.testing.assert_array_equal(got, expected, err_msg=f"{name}: {one.kernels[0].schedule}")


def matmul_schedule(rows: int, vectors: int) -> str:
    lanes = max(1, detect().lanes(4))
    return TILES.format(rows=rows, columns=vectors * lanes, lanes=lanes)


@pytest.mark.skipif(which("objdump") is None, reason="no objdump")
def test_a_matmul_by_hand_keeps_its_accumulators_in_registers(tmp_path: Path) -> None:
    if detect().registers < 32 or detect().vector_bytes < 64:
        pytest.skip("the tile is for 32 vector registers")
    w, b, x = (RNG.integers(-4, 5, s).astype(np.float32) for s in ((96, 128), (128,), (49, 96)))
    graph = capture(lambda x: x @ w + b, [x])
    compiled = compile_graph(graph, threads=1, schedules={"dot_add": matmul_schedule(14, 2)})
    np.testing.assert_array_equal(compiled(x), x @ w + b)
    (kernel,) = compiled.program.kernels
    assert kernel.schedule[-1] == "pack(c, [1 // 32, 0, 1 % 32]) -> panels"
    assert [buffer.name for buffer in compiled.program.constants] == ["c_1", "panels"]
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library_of(compiled)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(re.findall(r"vfmadd", code)) >= 24
    assert not re.findall(r"vmov\w+\s+(?:%zmm\d+,.*\(%r[sb]p\)|.*\(%r[sb]p\),%zmm\d+)", code)


def library_of(compiled: Compiled) -> str:
    chosen = choose(None, "default").toolchain
    library = build_shared(
        compiled.source, target=compiled.target, toolchain=chosen, opt="default", exact=False
    )
    return str(library)


def convolutions():
    v, w = (RNG.integers(-3, 4, s).astype(np.float32) for s in ((8, 3, 3, 3), (6, 8, 3, 3)))
    x = RNG.integers(-3, 4, (1, 3, 20, 24)).astype(np.float32)
    return x, lambda x: conv2d(relu(conv2d(x, v, padding=1)), w, padding=1)


RING = "reorder(k, j)\nreorder(k_1, j_1)\ncompute_at(where, k_1, fold)\nspecialise(k_1, first=1, last=1)\n"


def test_two_convolutions_share_a_ring_of_rows(tmp_path: Path) -> None:
    x, net = convolutions()
    graph = capture(net, [x])
    plain = compile_graph(graph, threads=1)
    chained = compile_graph(graph, threads=1, schedules={"conv_relu+conv": RING})
    np.testing.assert_array_equal(chained(x), plain(x))
    assert [k.name for k in chained.program.kernels] == ["conv_relu_conv"]
    assert plain.arena_bytes >= 8 * 20 * 24 * 4
    assert chained.arena_bytes == 0
    assert "where[1 * 8 * 3 * 24]" in chained.source or "where[576]" in chained.source
    chained.save(tmp_path / "net.intaglio")
    from intaglio.saved import load as load_saved

    again = load_saved(tmp_path / "net.intaglio")
    assert again.program.kernels[0].schedule == chained.program.kernels[0].schedule
    chained.export_c(tmp_path / "c")
    assert "compute_at(where, k_1, fold)" in "".join(p.read_text() for p in (tmp_path / "c").glob("*.c"))


def test_a_refused_schedule_names_the_kernel_and_the_reason() -> None:
    x, net = convolutions()
    with pytest.raises(UnsupportedError, match=r"schedule of conv: vectorize.*no power of two"):
        compile_graph(capture(net, [x]), schedules={"conv": "vectorize(l)"})


def test_the_command_line_shows_each_step(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text(
        "import numpy as np\nw = np.ones((8, 16), np.float32)\ndef f(x):\n    return x @ w\n"
        "example_inputs = [np.ones((4, 8), np.float32)]\n"
    )
    (tmp_path / "steps.txt").write_text("split(j, 8) -> j0, lane\nvectorize(lane)\n")
    runner = CliRunner()
    plain = runner.invoke(app, ["schedule", f"{model}:f", "dot"])
    assert plain.exit_code == 0, plain.output
    assert "for j in range(16)" in plain.output
    shown = runner.invoke(app, ["schedule", f"{model}:f", "dot", "--apply", str(tmp_path / "steps.txt")])
    assert shown.exit_code == 0, shown.output
    assert "# vectorize(lane)" in shown.output
    assert "for lane in range(8) vector" in shown.output
    missing = runner.invoke(app, ["schedule", f"{model}:f", "dot", "--apply", str(tmp_path / "no.txt")])
    assert "there is no file" in str(missing.exception)
