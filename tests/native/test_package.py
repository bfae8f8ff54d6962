"""Exported folders: they build anywhere, prove themselves, and are what a C programmer expects."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import package_cases as cases
import pytest

from intaglio.native import package_instance
from intaglio.native.package import export_c
from intaglio.native.package_selftest import Recording, Step
from intaglio.native.toolchain import available
from intaglio.shared import dtypes
from intaglio.shared.errors import ArgumentError, ShapeError, UnsupportedError
from intaglio.shared.index import Var, var_index

STRICT = "-std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror"
COMPILERS = [one for one in available() if one.kind in ("gcc", "clang", "zig")]

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not COMPILERS, reason="needs make and a compiler"
)


def perceptron(hidden=8):
    program = cases.perceptron(hidden)
    return program, cases.perceptron_recording(program)


def regression(size=6):
    program = cases.regression(size)
    return program, cases.regression_recording(program)


def symbolic():
    n = Var("n", 1, 7)
    program = cases.perceptron(8, var_index(n), (n,))
    return program, cases.perceptron_recording(program, (3, 7, 1), symbolic=True)


CASES = {
    "small": perceptron,
    "big": lambda: perceptron(3000),
    "training": regression,
    "big training": lambda: regression(20000),
    "symbolic": symbolic,
}


def exported(directory, case, **options):
    program, recording = CASES[case]()
    return export_c(program, directory, recording=recording, **options)


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def make(folder, *words, flags=STRICT + " -O1", compiler=COMPILERS[0] if COMPILERS else None):
    tools = [f"CC={' '.join(compiler.command)}"]
    if compiler.kind == "zig":
        tools.append(f"AR={compiler.command[0]} ar")
    return run(folder, "make", *tools, f"CFLAGS={flags}", *words)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda c: c.name)
def test_moved_folder_builds_cleanly_and_proves_itself(tmp_path, case, compiler):
    exported(tmp_path / "made", case)
    shutil.move(tmp_path / "made", tmp_path / "else where")
    code, output = make(tmp_path / "else where", "test", compiler=compiler)
    assert code == 0, output
    assert "warning" not in output
    assert "selftest passed" in output


@pytest.mark.parametrize("case", CASES)
def test_default_flags_build_too(tmp_path, case):
    exported(tmp_path, case)
    code, output = run(tmp_path, "make", "test")
    assert code == 0, output


@pytest.mark.parametrize("case", CASES)
def test_sanitizers_find_nothing(tmp_path, case):
    exported(tmp_path, case)
    flags = STRICT + " -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    code, output = make(tmp_path, "test", flags=flags)
    if "cannot find" in output:
        pytest.skip("the sanitizers' libraries are not installed")
    assert code == 0, output


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.parametrize("case", ["small", "big training"])
def test_cmake_builds_elsewhere(tmp_path, case):
    exported(tmp_path / "source", case)
    for command in (
        ["cmake", "-S", "source", "-B", "build"],
        ["cmake", "--build", "build"],
        ["ctest", "--test-dir", "build", "--output-on-failure"],
    ):
        code, output = run(tmp_path, *command)
        assert code == 0, output
    assert "100% tests passed" in output


@pytest.mark.parametrize("case", CASES)
def test_bytes_are_reproducible(tmp_path, case):
    one, two = (exported(tmp_path / name, case, settings={"opt_level": 3}) for name in ("one", "two"))
    assert {p.name for p in one.iterdir()} == {p.name for p in two.iterdir()}
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name
        assert path.name.endswith(".bin") or not re.search(rb"20\d\d-\d\d|/tmp/|/home/", path.read_bytes())


def test_small_weights_are_text_and_big_ones_binary(tmp_path):
    small, big = exported(tmp_path / "small", "small"), exported(tmp_path / "big", "big")
    assert not list(small.glob("*.bin"))
    weights = (big / "perceptron_weights.bin").read_bytes()
    w1 = cases.perceptron(3000).constants[0].data
    np.testing.assert_array_equal(np.frombuffer(weights, "<f4", w1.size), w1.reshape(-1))
    assert (big / "perceptron_weights.c").stat().st_size < 4000


def test_only_prefixed_symbols_are_visible(tmp_path):
    exported(tmp_path, "training")
    make(tmp_path, "libregression.a")
    code, output = run(tmp_path, "nm", "-g", "--defined-only", "libregression.a")
    assert code == 0
    names = [line.split()[2] for line in output.splitlines() if len(line.split()) == 3]
    assert len(names) > 10
    assert [name for name in names if not name.startswith("regression_")] == []


def test_selftest_fails_on_other_weights(tmp_path):
    exported(tmp_path, "big")
    path = tmp_path / "perceptron_weights.bin"
    content = bytearray(path.read_bytes())
    content[3] ^= 0x40
    path.write_bytes(content)
    code, output = make(tmp_path, "test")
    assert code != 0
    assert "output scores: error" in output
    assert "selftest FAILED: 2 arrays differ" in output


def test_selftest_fails_on_wrong_states(tmp_path):
    program, recording = regression()
    w, v = recording.states_after
    export_c(program, tmp_path, recording=replace(recording, states_after=(w, v + np.float32(0.01))))
    code, output = make(tmp_path, "test")
    assert code != 0
    assert "state momentum_w: error" in output


def test_selftest_without_its_file_says_so(tmp_path):
    exported(tmp_path, "big training")
    make(tmp_path)
    (tmp_path / "selftest.bin").unlink()
    code, output = run(tmp_path, "./selftest")
    assert code != 0
    assert "cannot read the recorded calls" in output


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_every_element_type(tmp_path, dtype):
    values = {"bool": [0, 1, 1, 1], "uint": [0, 1, 200, 7], "int": [0, -1, 100, -128]}
    x = np.array(values.get(dtype.kind, [0.5, -2.0, np.nan, np.inf]), dtype.numpy)
    export_c(cases.copies(dtype), tmp_path, recording=Recording((Step((x,), (x,)),)))
    code, output = make(tmp_path, "test")
    assert code == 0, output
    export_c(cases.copies(dtype), tmp_path, recording=Recording((Step((x,), (x[::-1].copy(),)),)))
    code, output = make(tmp_path, "test")
    assert code != 0, output


MAIN = """
#include <stdio.h>
#include <string.h>
#include "regression.h"

static int allocations;
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) { allocations++; return __real_malloc(size); }

_Alignas(64) static unsigned char memory[REGRESSION_MEMORY_BYTES];

int main(void) {
    const float x[6] = {1, 2, 3, 4, 5, 6}, t[6] = {0};
    float a[1], b[1], w[6], v[6];
    regression one, two;
    setbuf(stdout, NULL);
    if (regression_init(&one) != 0) return 1;
    regression_init_in(&two, memory);
    for (int k = 0; k < 3; k++) regression_step(&one, x, t, a);
    regression_forward(&two, x, t, b);
    printf("%d ", one.model_w[0] != two.model_w[0]);         /* instances do not touch each other */
    regression_reset(&one);
    regression_get(&one, REGRESSION_STATE_MOMENTUM_W, v);
    printf("%d ", v[0] == 0 && v[5] == 0);                   /* reset starts again */
    for (int k = 0; k < 3; k++) {
        regression_forward(&one, x, t, a);
        regression_backward(&one, x);
        regression_update(&one);
        regression_step(&two, x, t, b);
    }
    printf("%d ", a[0] == b[0]);                             /* a step is its phases */
    memset(w, 0, sizeof w);
    regression_set(&one, REGRESSION_STATE_MODEL_W, w);
    regression_forward(&one, x, t, a);
    printf("%d ", a[0] == 0);                                /* set parameters are used */
    printf("%s %zu ", regression_state_name(REGRESSION_STATE_MODEL_W),
           regression_state_bytes(REGRESSION_STATE_MODEL_W));
    printf("%d %d", (int)REGRESSION_STATE_COUNT, allocations);
    regression_free(&one);
    regression_free(&two);
    return 0;
}
"""


def test_api_for_training(tmp_path):
    exported(tmp_path, "training")
    (tmp_path / "app.c").write_text(MAIN)
    code, output = make(tmp_path, "app", "LDFLAGS=-Wl,--wrap=malloc")
    assert code == 0, output
    assert run(tmp_path, "./app") == (0, "1 1 1 1 model.w 24 2 1")


ADVISED = """
#include <stdint.h>
#include <stdio.h>
#include "regression.h"

int __real_madvise(void *start, size_t size, int advice);
int __wrap_madvise(void *start, size_t size, int advice);
int __wrap_madvise(void *start, size_t size, int advice) {
    printf("%d %d ", (uintptr_t)start % (2 << 20) == 0, size == REGRESSION_MEMORY_BYTES);
    return __real_madvise(start, size, advice);
}

int main(void) {
    regression one;
    if (regression_init(&one) != 0) return 1;
    printf("%d", (uintptr_t)one.model_w % (2 << 20) == 0);
    regression_free(&one);
    return 0;
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked")
@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda c: c.name)
def test_large_instances_ask_for_huge_pages(tmp_path, monkeypatch, compiler):
    monkeypatch.setattr(package_instance, "LARGE", 1)
    exported(tmp_path, "training")
    (tmp_path / "app.c").write_text(ADVISED)
    for words in (["test"], ["app", "LDFLAGS=-Wl,--wrap=madvise"]):
        code, output = make(tmp_path, *words, compiler=compiler)
        assert code == 0, output
    assert run(tmp_path, "./app") == (0, "1 1 1")


def test_readme_example_compiles(tmp_path):
    for case in CASES:
        folder = exported(tmp_path / case.replace(" ", "_"), case)
        readme = (folder / "README.md").read_text()
        (folder / "example.c").write_text(re.search(r"```c\n(.*?)```", readme, re.S)[1])
        code, output = make(folder, "example")
        assert code == 0, output
        assert run(folder, "./example")[0] == 0
        for path in folder.iterdir():
            assert (
                f"`{path.name}`" in readme or path.suffix in (".o", ".a", ".md", "") or path.stem == "example"
            )


def test_header_is_good_cpp(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    exported(tmp_path, "training")
    (tmp_path / "user.cpp").write_text(
        '#include "regression.h"\nint main() { return REGRESSION_STATE_COUNT != 2; }\n'
    )
    code, output = run(tmp_path, "g++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "user.cpp", "-o", "user")
    assert code == 0, output
    assert run(tmp_path, "./user")[0] == 0


def test_name_and_flags(tmp_path):
    program, recording = perceptron()
    export_c(program, tmp_path, recording=recording, name="digit_net", flags=("-ffp-contract=off",))
    text = (tmp_path / "Makefile").read_text()
    assert "-ffp-contract=off" in text
    assert "-ffp-contract=fast" not in text
    assert (
        "digit_net_run(digit_net *m, const float *x, float *scores)" in (tmp_path / "digit_net.h").read_text()
    )
    assert make(tmp_path, "test")[0] == 0


@pytest.mark.parametrize("name", ["3d", "my net", "float", "main", "", "näme", "a-b"])
def test_names_that_are_no_prefix(tmp_path, name):
    program, recording = perceptron()
    with pytest.raises(ArgumentError, match="cannot be a prefix of C names"):
        export_c(program, tmp_path, recording=recording, name=name)


def test_program_called_main(tmp_path):
    program, recording = perceptron()
    program.name = "main"
    export_c(program, tmp_path, recording=recording)
    code, output = make(tmp_path, "test")
    assert code == 0, output
    assert (tmp_path / "main_model.h").exists()


def test_recording_must_fit(tmp_path):
    program, recording = perceptron()
    with pytest.raises(ArgumentError, match="at least one recorded call"):
        export_c(program, tmp_path, recording=Recording(()))
    wrong = Step((np.zeros((3, 6), np.float32),), recording.steps[0].outputs)
    with pytest.raises(
        ShapeError, match=r"self-test: x is f32\[3, 5\] but the recorded array is float32\[3, 6\]"
    ):
        export_c(program, tmp_path, recording=Recording((wrong,)))
    assert not (tmp_path / "Makefile").exists()


def test_memory_must_be_planned(tmp_path):
    program, recording = perceptron()
    program.arena_bytes = None
    with pytest.raises(UnsupportedError, match="memory is not planned"):
        export_c(program, tmp_path, recording=recording)


def test_driver_reads_like_the_model(tmp_path):
    source = (exported(tmp_path, "training") / "regression.c").read_text()
    body = source[source.index("void regression_forward(") :]
    assert "residual(model_w, x, t, e);" in body
    assert "sum_of_squares(e, loss);" in body
    assert max(map(len, source.splitlines())) <= 110
    assert sys.byteorder == "little"
