"""Parallel loops on the pool of the generated C: same bytes for any number of threads, forks, two pools."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from pathlib import Path

import cc
import numpy as np
import pytest

import intaglio
from intaglio import nn
from intaglio.loop.ir import Alloc, Buffer, For, Program, Reduce, Store, block
from intaglio.native.emit import emit_program
from intaglio.ops.expr import Const, Expr, IndexValue, Read, apply, cast
from intaglio.shared.dtypes import f32
from intaglio.shared.index import Index, Var, var_index
from intaglio.shared.target import GENERIC

ROWS, COLUMNS = 257, 33


def read(buffer: Buffer, *index: object) -> Expr:
    return Read(buffer, index, buffer.dtype)  # type: ignore[arg-type]


def softmax_like(start: int = 0, step: int = 1) -> Program:
    """Two parallel loops in one kernel, with a table between them that both use."""
    i, j = Var("i", 0, ROWS - 1), Var("j", 0, COLUMNS - 1)
    r, s = var_index(i), var_index(j)
    x, y = Buffer("x", f32, (ROWS, COLUMNS)), Buffer("y", f32, (ROWS, COLUMNS))
    table, total = (
        Buffer("table", f32, (COLUMNS,), "local", "stack"),
        Buffer("total", f32, (), "local", "register"),
    )

    def columns(*body: object) -> For:
        return For(j, COLUMNS, block(*body))  # type: ignore[arg-type]

    fill = columns(Store(table, (s,), cast(IndexValue(s), f32) * 0.5))
    first = For(
        i,
        ROWS,
        block(
            Alloc(total),
            Store(total, (), Const(0.0, f32)),
            columns(Reduce(total, (), "add", apply("exp", read(x, r, s)) * read(table, s))),
            columns(Store(y, (r, s), read(x, r, s) / read(total))),
        ),
        "parallel",
        start,
        step,
    )
    second = For(i, ROWS, block(columns(Reduce(y, (r, s), "add", read(table, s)))), "parallel")
    return cc.kernel_program([Alloc(table), fill, first, second], [x], [y])


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    made = cc.build(emit_program(softmax_like(), GENERIC), "-O2", *cc.STRICT)
    made.test_pool_create.restype = ctypes.c_void_p
    return made


def run(library: ctypes.CDLL, x: np.ndarray, pool: int | None) -> np.ndarray:
    y = np.zeros_like(x)
    cc.call(library, "test_run", [x, y, np.zeros(1, "u1")], None, ctypes.c_void_p(pool))
    return y


def expected(x: np.ndarray) -> np.ndarray:
    table = np.arange(COLUMNS) * 0.5
    return x / (np.exp(x.astype("d")) * table).sum(1, keepdims=True) + table


X = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype("f")


def test_results_do_not_depend_on_the_number_of_threads(library: ctypes.CDLL) -> None:
    serial = run(library, X, None)
    np.testing.assert_allclose(serial, expected(X), rtol=1e-4)
    assert library.test_pool_create(1) is None
    for threads in (2, 3, 5, 300):
        pool = library.test_pool_create(threads)
        assert pool
        for _ in range(20):
            assert np.array_equal(run(library, X, pool), serial)
        library.test_pool_destroy(ctypes.c_void_p(pool))


def test_sleeping_threads_wake_up(library: ctypes.CDLL) -> None:
    pool, serial = library.test_pool_create(3), run(library, X, None)
    for pause in (0, 0.002, 0.02, 0.05, 0):
        time.sleep(pause)
        assert np.array_equal(run(library, X, pool), serial)
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1, "idle threads keep the processor busy"
    library.test_pool_destroy(ctypes.c_void_p(pool))


def test_a_forked_process_runs_alone(library: ctypes.CDLL) -> None:
    pool, serial = library.test_pool_create(2), run(library, X, None)
    child = os.fork()
    if child == 0:
        same = np.array_equal(run(library, X, pool), serial)
        library.test_pool_destroy(ctypes.c_void_p(pool))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(run(library, X, pool), serial)
    library.test_pool_destroy(ctypes.c_void_p(pool))


def test_two_callers_may_share_a_pool(library: ctypes.CDLL) -> None:
    pool, serial = library.test_pool_create(2), run(library, X, None)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(k for k in range(100) if not np.array_equal(run(library, X, pool), serial))

    callers = [threading.Thread(target=work) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong
    library.test_pool_destroy(ctypes.c_void_p(pool))


def test_loops_with_a_start_and_a_step() -> None:
    program = softmax_like(start=2, step=3)
    made = cc.build(emit_program(program, GENERIC), "-O2", *cc.STRICT)
    made.test_pool_create.restype = ctypes.c_void_p
    serial, pool = run(made, X, None), made.test_pool_create(3)
    full = expected(X)
    np.testing.assert_allclose(serial[2::3], full[2::3], rtol=1e-4)
    np.testing.assert_allclose(serial[::3], np.broadcast_to(np.arange(COLUMNS) * 0.5, serial[::3].shape))
    assert np.array_equal(run(made, X, pool), serial)
    made.test_pool_destroy(ctypes.c_void_p(pool))


def test_a_run_time_number_of_rows() -> None:
    n, i = Var("n", 0, 1000), Var("i", 0, 999)
    x, y = Buffer("x", f32, (var_index(n),)), Buffer("y", f32, (var_index(n),))
    rows: Index = var_index(n)
    body = For(i, rows, block(Store(y, (var_index(i),), read(x, var_index(i)) * 2.0)), "parallel")
    made = cc.build(emit_program(cc.kernel_program([body], [x], [y], symbols=[n]), GENERIC), *cc.STRICT)
    made.test_pool_create.restype = ctypes.c_void_p
    pool = made.test_pool_create(4)
    for size in (0, 1, 2, 3, 7, 1000):
        given, got = np.arange(size, dtype="f"), np.zeros(size, "f")
        cc.call(made, "test_run", [given, got, np.zeros(1, "u1")], [size], ctypes.c_void_p(pool))
        assert np.array_equal(got, given * 2)
    made.test_pool_destroy(ctypes.c_void_p(pool))


def test_thread_sanitizer_finds_nothing(tmp_path: Path) -> None:
    main = """
#include <unistd.h>
int main(void) {
    static float x[257 * 33], y[257 * 33];
    static unsigned char arena[1];
    void *buffers[] = {x, y, arena};
    void *pool = test_pool_create(3);
    for (int k = 0; k < 50; k++) {
        if (test_run(buffers, NULL, pool) != 0) {
            return 1;
        }
        usleep(k % 10 == 0 ? 20000 : 0);
    }
    test_pool_destroy(pool);
    return 0;
}
"""
    source = emit_program(softmax_like(), GENERIC).replace("int getpid(void);", "#include <unistd.h>")
    (tmp_path / "m.c").write_text(source + main)
    command = [
        "gcc",
        "-O1",
        "-g",
        "-fsanitize=thread",
        "-pthread",
        str(tmp_path / "m.c"),
        "-o",
        str(tmp_path / "m"),
        "-lm",
    ]
    subprocess.run(command, check=True)
    done = subprocess.run(["setarch", "-R", str(tmp_path / "m")], capture_output=True, text=True)
    if "FATAL: ThreadSanitizer" in done.stderr:
        pytest.skip("the thread sanitizer does not run on this machine")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("layers", "expected"), [(1, False), (16, True)])
def test_small_loops_are_parallel_where_threads_are_awake(layers: int, expected: bool) -> None:
    """One layer does not pay for waking threads; in a program of many they are awake."""
    x = np.ones((96, 128), np.float32)
    model = nn.Sequential(*(nn.Linear(128, 128) for _ in range(layers)))
    kernels = intaglio.compile(model, [x], threads=2, target="x86-64-v4").program.kernels
    loops = [any(isinstance(s, For) and s.kind == "parallel" for s in k.body) for k in kernels]
    assert loops == [expected] * len(loops)
