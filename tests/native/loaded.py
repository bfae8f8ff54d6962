"""Compiled code for tests of calls: C that is built."""

from __future__ import annotations

from intaglio.native.toolchain import build_shared, choose
from intaglio.shared.target import GENERIC
from intaglio.shared.types import TensorType

EXPORT = '__attribute__((visibility("default")))'
POOL = """
#include <stdint.h>
static int live;
EXPORT void *pooled_pool_create(int threads) { live += threads; return &live; }
EXPORT void pooled_pool_destroy(void *pool) { *(int *)pool = 0; }
EXPORT int pooled_live(void) { return live; }
EXPORT int pooled_run(void *const *p, const int64_t *symbols, void *pool) {
    (void)symbols;
    *(int64_t *)p[0] = pool ? *(int *)pool : -1;
    return 0;
}
"""


def vector(dtype, *shape):
    return TensorType(dtype, shape)


def built(source, name):
    return build_shared(
        source.replace("EXPORT", EXPORT), target=GENERIC, toolchain=choose().toolchain, name=name
    )
