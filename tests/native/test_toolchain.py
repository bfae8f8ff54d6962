"""Compilers: choosing one, building with each, and what is said when one is missing or broken."""

import ctypes
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from intaglio.native import cache as native_cache
from intaglio.native import toolchain as tc
from intaglio.shared.cache import cache_dir
from intaglio.shared.errors import ArgumentError, ToolchainError
from intaglio.shared.target import GENERIC, Target

SOURCE = """
#include <math.h>
#include <stdint.h>
#include <string.h>

__attribute__((visibility("default"))) int answer(void) {
    return (int)(sqrtf(1764.0f) + (float)ANSWER_OFFSET);
}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)


def script(path, body):
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def fake_gcc(path, body):
    """A compiler that says it is gcc and does `body` when it shall compile."""
    says = 'case "$*" in *--version*) echo "gcc (Fake) 1.0"; exit 0;; esac\n'
    return script(path, says + body)


def build(toolchain, offset=0, **options):
    source = SOURCE.replace("ANSWER_OFFSET", str(offset))
    return tc.build_shared(source, target=GENERIC, toolchain=toolchain, **options)


def answer(path):
    return ctypes.CDLL(str(path)).answer()


@pytest.mark.parametrize("toolchain", tc.available(), ids=lambda t: t.name)
@pytest.mark.parametrize(("opt", "exact"), [("default", False), ("default", True), ("fast-compile", False)])
def test_every_compiler_builds(toolchain, opt, exact, monkeypatch, tmp_path_factory):
    if toolchain.kind == "zig":  # its own library takes seconds to build the first time
        monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path_factory.getbasetemp() / "zig-cache"))
    assert answer(build(toolchain, opt=opt, exact=exact)) == 42


def test_defaults_prefer_speed_of_code_or_of_compilation():
    kinds = {one.kind for one in tc.available()}
    fast = tc.choose(None, "fast-compile")
    assert fast.toolchain.kind == "tcc"
    assert fast.why == "it compiles fastest of those available"
    expected = next(kind for kind in ("gcc", "clang", "zig", "tcc") if kind in kinds)
    assert tc.choose(None, "default").toolchain.kind == expected


def test_bundled_compiler_is_instant():
    toolchain = tc.choose("tcc").toolchain
    started = time.perf_counter()
    build(toolchain)
    assert time.perf_counter() - started < 0.5


def test_request_by_kind_name_or_command(tmp_path):
    assert tc.choose("tcc").toolchain.kind == "tcc"
    named = fake_gcc(tmp_path / "my-cc", "exit 1")
    choice = tc.choose(named + " -m64")
    assert choice.toolchain.command == (named, "-m64")
    assert choice.toolchain.kind == "gcc"


def test_cc_variable_is_honoured(tmp_path, monkeypatch):
    path = fake_gcc(tmp_path / "special-cc", "exit 1")
    monkeypatch.setenv("CC", f"{path} -pipe")
    choice = tc.choose()
    assert choice.toolchain.command == (path, "-pipe")
    assert choice.why == "$CC names it"
    assert tc.choose(None, "fast-compile").toolchain.kind == "tcc"


def test_cc_variable_that_does_not_run(monkeypatch):
    monkeypatch.setenv("CC", "/nonexistent/cc")
    with pytest.raises(ToolchainError, match=r"\$CC is '/nonexistent/cc' but it cannot be started") as info:
        tc.choose()
    assert "unset CC" in info.value.hint


def test_unknown_request_names_what_there_is():
    with pytest.raises(ToolchainError, match=r"compiler 'icc' was not found; available: .*tcc"):
        tc.choose("icc")


def test_unknown_opt():
    with pytest.raises(ArgumentError, match=r"opt is 'faster' but must be one of 'default', 'fast-compile'"):
        tc.choose(None, "faster")


def test_without_a_system_compiler_the_packages_serve(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = tc.available()
    assert {one.kind for one in found} <= {"zig", "tcc"}
    assert answer(build(tc.choose("tcc").toolchain)) == 42


def test_no_compiler_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tc, "_package_file", lambda package, file: None)
    tc._probe.cache_clear()
    try:
        with pytest.raises(ToolchainError, match="no C compiler was found") as info:
            tc.choose()
        assert "pip install ziglang" in info.value.hint
    finally:
        tc._probe.cache_clear()


def test_no_compiler_but_a_broken_one(monkeypatch, tmp_path):
    script(tmp_path / "cc", "echo 'xcode-select: no developer tools'; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tc, "_package_file", lambda package, file: None)
    with pytest.raises(ToolchainError, match=r"no C compiler was found \(cc: it ended with status 1\)"):
        tc.choose()


def test_compiler_that_is_something_else(tmp_path):
    path = script(tmp_path / "cc", "printf '\\377\\376 hello'")
    with pytest.raises(ToolchainError, match="does not say that it is gcc, clang or tcc"):
        tc.choose(path)


def test_compile_error_shows_command_and_output():
    with pytest.raises(ToolchainError, match="failed: it ended with status 1") as info:
        tc.build_shared("int x = ;", target=GENERIC, toolchain=tc.choose("tcc").toolchain, name="bad")
    text = str(info.value)
    assert "command: " in text
    assert "bad-" in text
    assert "error" in text
    assert "intaglio doctor" in text


def test_long_output_is_trimmed(tmp_path):
    body = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; exit 3"
    toolchain = tc.choose(fake_gcc(tmp_path / "cc", body)).toolchain
    with pytest.raises(ToolchainError, match="status 3") as info:
        build(toolchain)
    assert "line 0\n" in str(info.value)
    assert "line 499" not in str(info.value)
    assert "and 476 more lines" in str(info.value)


def test_compiler_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    pid_file = tmp_path / "pid"
    body = f"sleep 600 & echo $! > {pid_file}; wait"
    toolchain = tc.choose(fake_gcc(tmp_path / "cc", body)).toolchain
    monkeypatch.setattr(tc, "COMPILE_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(ToolchainError, match=r"did not end within 0\.5 seconds"):
        build(toolchain)
    assert time.monotonic() - started < 10
    child = int(pid_file.read_text())
    for _ in range(100):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child of the compiler still runs")


def test_compiler_that_writes_nothing(tmp_path):
    toolchain = tc.choose(fake_gcc(tmp_path / "cc", "exit 0")).toolchain
    with pytest.raises(ToolchainError, match="reported success but wrote no library"):
        build(toolchain)


def test_full_disk_has_its_own_hint(tmp_path):
    body = "echo 'as: cannot write: No space left on device'; exit 1"
    toolchain = tc.choose(fake_gcc(tmp_path / "cc", body)).toolchain
    with pytest.raises(ToolchainError) as info:
        build(toolchain)
    assert "INTAGLIO_CACHE" in info.value.hint


def test_builds_are_cached_by_content(monkeypatch):
    toolchain = tc.choose("tcc").toolchain
    first = build(toolchain)
    monkeypatch.setattr(tc, "_compile", lambda *a: pytest.fail("compiled again"))
    assert build(toolchain) == first


def test_key_depends_on_source_flags_and_version():
    toolchain = tc.choose(None, "default").toolchain
    keys = {
        tc._key(source, one, options)
        for source in ("a", "b")
        for options in (["-O1"], ["-O3"])
        for one in (toolchain, tc.choose("tcc").toolchain)
    }
    assert len(keys) == 8


def test_source_stays_beside_the_library():
    library = build(tc.choose("tcc").toolchain)
    assert "answer" in library.with_suffix(".c").read_text()


def _build_in_child(offset):
    return str(build(tc.choose("tcc").toolchain, offset))


def test_many_processes_build_the_same_thing():
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        paths = pool.map(_build_in_child, [7] * 12)
    assert len(set(paths)) == 1
    assert answer(paths[0]) == 49
    assert [p for p in cache_dir("native").iterdir() if p.name.startswith(".")] == []


def test_unwritable_cache_still_builds(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="cannot be written"):
        library = build(tc.choose("tcc").toolchain)
    assert answer(library) == 42


def test_disk_that_fills_up_is_an_error_with_a_way_out(monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tc, "_compile", full)
    with pytest.raises(ToolchainError, match=r"cannot be stored in .*: No space left on device") as info:
        build(tc.choose("tcc").toolchain)
    assert "set INTAGLIO_CACHE" in info.value.hint


def test_cache_is_bounded_and_forgets_the_oldest(tmp_path):
    for k in range(8):
        path = tmp_path / f"{k}.so"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 + k, 1000 + k))
    native_cache.touch(tmp_path / "0.so")
    freed = native_cache.trim(tmp_path, keep=tmp_path / "1.so", limit=400)
    assert freed == 400
    assert {p.name for p in tmp_path.glob("*.so")} == {"0.so", "1.so", "6.so", "7.so"}
    assert native_cache.trim(tmp_path, keep=tmp_path / "1.so", limit=400) == 0


def test_builds_that_were_killed_are_swept_away(tmp_path):
    for name, age in ((".build-old", 2 * 24 * 3600), (".build-new", 60)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.so").write_bytes(bytes(10))
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    native_cache.trim(tmp_path, keep=tmp_path / "x.so")
    assert [p.name for p in tmp_path.iterdir()] == [".build-new"]


def test_flags_follow_kind_and_target():
    wide = Target("avx512", vector_bytes=64, flags=("-march=native",))
    gcc = tc.Toolchain("gcc", ("gcc",), "gcc", "1", "PATH")
    clang = tc.Toolchain("clang", ("clang",), "clang", "1", "PATH")
    assert {"-O3", "-march=native", "-mprefer-vector-width=512", "-fno-tree-coalesce-vars"} <= set(
        tc.flags(gcc, wide)
    )
    assert "-fno-tree-coalesce-vars" not in tc.flags(clang, wide)
    assert "-ffp-contract=off" in tc.flags(gcc, wide, exact=True)
    assert not any("fast-math" in flag for flag in tc.flags(gcc, wide))


def test_bundled_compiler_never_gets_vector_types():
    native = Target("native", vector_bytes=32, flags=("-march=native",))
    assert tc.buildable(native, "tcc").vector_bytes == 0
    assert tc.buildable(native, None, "fast-compile").vector_bytes == 0
    assert tc.buildable(GENERIC, "tcc") is GENERIC
    assert tc.buildable(native, "there is no such compiler") is native
    wide = Target("avx512", vector_bytes=64)
    assert tc.buildable(wide, "tcc") is wide
    with pytest.raises(ToolchainError, match="knows no vector types") as info:
        tc.build_shared("int x;", target=wide, toolchain=tc.choose("tcc").toolchain)
    assert "target='generic'" in info.value.hint
