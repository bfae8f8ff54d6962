"""Generated C for machines other than this one: it compiles for all, and runs as WebAssembly."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cc
import numpy as np
import pytest
import test_emit_vector as vectors
import test_threads as threads

from intaglio.loop.recipes.tiles import tile_cycles
from intaglio.native.emit import emit_program
from intaglio.native.targets import NAMES, detect, find_target
from intaglio.native.toolchain import Toolchain, available
from intaglio.shared.errors import ArgumentError


@pytest.fixture(scope="module")
def zig() -> Toolchain:
    found = [t for t in available() if t.kind == "zig"]
    if not found:
        pytest.skip("the package ziglang is not installed")
    return found[0]


@pytest.mark.parametrize(
    ("name", "triple"),
    [
        ("aarch64", "aarch64-linux-musl"),
        ("aarch64", "aarch64-macos"),
        ("generic", "riscv64-linux-musl"),
        ("generic", "arm-linux-musleabihf"),
        ("wasm32-simd", "wasm32-wasi"),
        ("generic", "x86_64-windows-gnu"),
    ],
)
def test_other_machines_compile_without_warnings(
    name: str, triple: str, zig: Toolchain, tmp_path: Path
) -> None:
    target = find_target(name)
    lanes = max(4, target.lanes(4))
    sources = [emit_program(vectors.tile_program(12, 16 * lanes, 40, 6, 2, lanes), target)]
    if "linux" in triple or "macos" in triple:
        sources.append(emit_program(threads.softmax_like(), target))
    flags = [flag for flag in target.flags if not flag.startswith("-march")]
    for k, source in enumerate(sources):
        (tmp_path / f"p{k}.c").write_text(source)
        command = [
            *zig.command,
            "-target",
            triple,
            "-O1",
            *flags,
            *cc.STRICT,
            "-c",
            f"p{k}.c",
            "-o",
            f"p{k}.o",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_webassembly_computes_the_same(zig: Toolchain, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run WebAssembly")
    m, n, k = 12, 32, 7
    target = find_target("wasm32-simd")
    source = emit_program(vectors.tile_program(m, n, k, 6, 2, target.lanes(4)), target)
    (tmp_path / "p.c").write_text(
        source
        + f"""
static float a[{m * k}], b[{k * n}], c[{m * n}];
float *place(int which) {{ return which == 0 ? a : which == 1 ? b : c; }}
int go(void) {{ void *p[] = {{a, b, c, c}}; return test_run(p, 0, 0); }}
"""
    )
    link = [
        "-target",
        "wasm32-freestanding",
        "-nostdlib",
        "-Wl,--no-entry",
        "-Wl,--export=go",
        "-Wl,--export=place",
    ]
    command = [*zig.command, *link, "-O2", *target.flags, "p.c", "-o", "p.wasm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype("f"), rng.standard_normal((k, n)).astype("f")
    script = f"""
WebAssembly.instantiate(require('fs').readFileSync('p.wasm'), {{}}).then(({{instance}}) => {{
  const e = instance.exports, array = (which, n) => new Float32Array(e.memory.buffer, e.place(which), n);
  array(0, {m * k}).set({a.reshape(-1).tolist()});
  array(1, {k * n}).set({b.reshape(-1).tolist()});
  e.go();
  console.log(JSON.stringify(Array.from(array(2, {m * n}))));
}});"""
    done = subprocess.run([node, "-e", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    got = np.array(json.loads(done.stdout), np.float32).reshape(m, n)
    np.testing.assert_allclose(got, np.maximum(a @ b, 0), rtol=1e-5, atol=1e-5)


def test_targets_are_found_by_name() -> None:
    assert NAMES == ("native", "generic", "x86-64-v3", "x86-64-v4", "aarch64", "wasm32-simd")
    for name in NAMES:
        target = find_target(name)
        assert 0 < target.fma_per_cycle <= 4
        assert target.fma_latency >= 1
        assert target.name == name
        assert target.vector_bytes in (0, 16, 32, 64)
    assert detect() is detect()
    with pytest.raises(ArgumentError, match="'pdp11' is not known"):
        find_target("pdp11")


INTEL = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nflags\t\t: {}\n"
AMD = "vendor_id\t: AuthenticAMD\ncpu family\t: {}\nmodel\t\t: {}\nflags\t\t: {}\n"
AVX2, AVX512 = "avx2 fma f16c", "avx2 fma f16c avx512f avx512vl avx512bw avx512dq"


@pytest.mark.parametrize(
    ("info", "width", "rate"),
    [
        (INTEL.format(AVX512), 64, 2),
        (INTEL.format("sse4_2"), 16, 2),
        (AMD.format(26, 2, AVX512), 64, 2),  # Zen 5
        (AMD.format(25, 17, AVX512), 64, 1),  # Zen 4: both units work on one vector
        (AMD.format(23, 49, AVX2), 32, 2),  # Zen 2
        (AMD.format(23, 1, AVX2), 32, 1),  # Zen
    ],
)
def test_units_narrower_than_registers_do_half_as_much(
    info: str, width: int, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **k: info if path.name == "cpuinfo" else read(path, **k)
    )
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    target = detect.__wrapped__()
    assert (target.vector_bytes, target.fma_per_cycle, target.loads_per_cycle) == (width, rate, rate)


def test_estimates_follow_the_units() -> None:
    """Two multiply-adds a cycle halve the time of a full tile, and ask for twice the accumulators."""
    one, two = (replace(find_target("x86-64-v4"), fma_per_cycle=n, loads_per_cycle=n) for n in (1, 2))
    assert tile_cycles(14, 2, one) == 2 * tile_cycles(14, 2, two) == 28
    assert tile_cycles(2, 2, one) == tile_cycles(2, 2, two) == two.fma_latency
