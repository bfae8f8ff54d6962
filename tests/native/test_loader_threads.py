"""Calls into compiled code from several threads, and in a forked process, through both loaders."""

import ctypes
import os
import threading
import time

import numpy as np
from loaded import POOL, built, vector

from intaglio.native.call import CallSpec
from intaglio.native.loader import load
from intaglio.shared.dtypes import f32, i64

SLOW = """
/* Waits with its arena in use: a second call with the same arena would disturb the first. */
#include <stdint.h>
#include <time.h>
EXPORT int slow_run(void *const *p, const int64_t *symbols, void *pool) {
    (void)symbols; (void)pool;
    const float *x = p[0];
    float *y = p[1];
    volatile float *arena = p[2];
    struct timespec pause = {0, 50 * 1000 * 1000};
    arena[0] = x[0];
    nanosleep(&pause, 0);
    y[0] = arena[0] == x[0] ? x[0] : -1.0f;
    return 0;
}
"""

COUNTER = """
#include <stdint.h>
#include <time.h>
EXPORT int counter_run(void *const *p, const int64_t *symbols, void *pool) {
    (void)symbols; (void)pool;
    int64_t *y = p[0];
    volatile int64_t *count = p[1];
    struct timespec pause = {0, 1000 * 1000};
    int64_t seen = *count;
    nanosleep(&pause, 0);
    y[0] = *count = seen + 1;
    return 0;
}
"""


def in_threads(function, count):
    results, threads = [None] * count, []
    for k in range(count):
        threads.append(threading.Thread(target=lambda k=k: results.__setitem__(k, function(k))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def counting(source, loader):
    """A program whose state counts its calls."""
    spec = CallSpec(
        "counter",
        inputs=(),
        outputs=(("y", vector(i64)),),
        states=(np.zeros(1, np.int64),),
        work=10**9,
        state_names=("count",),
    )
    return load(built(source, "counter"), spec, loader=loader)


def test_long_calls_release_the_gil_and_have_their_own_arena(loader):
    spec = CallSpec(
        "slow", inputs=(("x", vector(f32, 1)),), outputs=(("y", vector(f32, 1)),), arena_bytes=64, work=10**9
    )
    slow = load(built(SLOW, "slow"), spec, loader=loader)
    started = time.perf_counter()
    results = in_threads(lambda k: float(slow.call(np.array([k], np.float32))[0]), 10)
    assert results == [float(k) for k in range(10)]
    assert time.perf_counter() - started < 0.4  # one after another they take 0.5 s


def test_calls_with_states_wait_for_each_other(loader):
    counter = counting(COUNTER, loader)
    results = in_threads(lambda k: int(counter.call()), 16)
    assert sorted(results) == list(range(1, 17))


def test_pool_lives_as_long_as_the_program(loader):
    library = built(POOL, "pooled")
    live = ctypes.CDLL(str(library)).pooled_live
    spec = CallSpec("pooled", inputs=(), outputs=(("y", vector(i64)),))
    program = load(library, spec, loader=loader, threads=3)
    assert live() == 0
    assert program.call() == 3
    assert program.call() == 3
    del program
    assert live() == 0
    assert load(library, spec, loader=loader, threads=1).call() == -1


def test_fork_gives_the_child_its_own_pool(loader):
    spec = CallSpec("pooled", inputs=(), outputs=(("y", vector(i64)),))
    program = load(built(POOL, "pooled"), spec, loader=loader, threads=2)
    assert program.call() == 2
    pid = os.fork()
    if pid == 0:
        os._exit(0 if int(program.call()) == 4 else 1)  # the pool's maker ran a second time
    assert os.waitpid(pid, 0)[1] == 0
    assert program.call() == 2


def test_fork_while_another_thread_holds_the_states(loader):
    counter = counting(COUNTER.replace("1000 * 1000", "100 * 1000 * 1000"), loader)
    busy = threading.Thread(target=counter.call)
    busy.start()
    time.sleep(0.03)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if int(counter.call()) == 1 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    busy.join()
