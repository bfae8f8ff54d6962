"""Calls into compiled code, through both loaders: results, bad arguments, states."""

import gc
import pickle
import sys

import ml_dtypes
import numpy as np
import pytest
from loaded import POOL, built, vector

from intaglio.native.call import CallSpec
from intaglio.native.loader import load
from intaglio.shared import dtypes
from intaglio.shared.dtypes import f32, i64, u8
from intaglio.shared.errors import ArgumentError, DTypeError, IntaglioError, ShapeError, ToolchainError
from intaglio.shared.index import Var, var_index

AXPY = """
/* y = a * x + b with a in a constant and b in a state that counts up; through the arena */
#include <stdint.h>
EXPORT int axpy_run(void *const *p, const int64_t *symbols, void *pool) {
    (void)symbols; (void)pool;
    const float *x = p[0];
    float *y = p[1], *b = p[2], *arena = p[4];
    const float *a = p[3];
    for (int i = 0; i < 6; i++) arena[i] = a[0] * x[i];
    for (int i = 0; i < 6; i++) y[i] = arena[i] + b[0];
    b[0] += 1.0f;
    return 0;
}
"""

SYMBOLIC = """
#include <stdint.h>
EXPORT int rows_run(void *const *p, const int64_t *symbols, void *pool) {
    (void)pool;
    const float *x = p[0], *w = p[1];
    float *y = p[2];
    int64_t *n = p[3];
    for (int64_t i = 0; i < symbols[0]; i++) y[i] = x[2 * i] * w[i] + x[2 * i + 1];
    n[0] = symbols[0];
    return 0;
}
"""

COPY = """
#include <stdint.h>
#include <string.h>
EXPORT int copy_run(void *const *p, const int64_t *symbols, void *pool) {
    (void)symbols; (void)pool;
    memcpy(p[1], p[0], 3 * SIZE);
    return 0;
}
"""

FAILS = """
#include <stdint.h>
EXPORT int fails_run(void *const *p, const int64_t *symbols, void *pool) {
    (void)p; (void)symbols; (void)pool;
    return 3;
}
"""


@pytest.fixture
def axpy(loader):
    spec = CallSpec(
        "axpy",
        inputs=(("x", vector(f32, 2, 3)),),
        outputs=(("y", vector(f32, 2, 3)),),
        states=(np.array([10], np.float32),),
        constants=(np.array([2], np.float32),),
        arena_bytes=64,
        state_names=("b",),
    )
    return load(built(AXPY, "axpy"), spec, loader=loader)


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_call_returns_a_new_array_and_keeps_state(axpy):
    first, second = axpy.call(X), axpy.call(X)
    np.testing.assert_array_equal(first, 2 * X + 10)
    np.testing.assert_array_equal(second, 2 * X + 11)
    assert first.dtype == np.float32
    assert first.flags.owndata
    assert axpy.states[0][0] == 12


def test_wanted_loader_is_used(axpy, loader):
    assert axpy.loader == loader
    name = type(axpy._caller).__name__
    assert name == ("Caller" if loader == "extension" else "_CtypesCaller")


CONVERTED = {
    "list": X.tolist(),
    "integers": X.astype(int).tolist(),
    "fortran order": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=1)[:, ::2],
    "negative stride": X[::-1].copy()[::-1],
    "big endian": X.astype(">f4"),
    "read only": np.frombuffer(X.tobytes(), np.float32).reshape(2, 3),
    "memoryview": memoryview(X),
    "unaligned": np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3),
    "subclass": X.view(type("Sub", (np.ndarray,), {})),
}


@pytest.mark.parametrize("value", CONVERTED.values(), ids=CONVERTED)
def test_arguments_that_are_converted(axpy, value):
    np.testing.assert_array_equal(axpy.call(value), 2 * X + 10)


def test_equal_types_are_the_same_type(axpy, loader, monkeypatch):
    """An unpickled array has a dtype of its own; it is not slower to pass."""
    unpickled = pickle.loads(pickle.dumps(X))
    assert unpickled.dtype is not X.dtype
    if loader == "extension":
        monkeypatch.setattr("intaglio.native.loader.prepare", None)
    np.testing.assert_array_equal(axpy.call(unpickled), 2 * X + 10)


REFUSED = {
    "float64": (X.astype(np.float64), DTypeError, r"input x: expected f32\[2,3\] but got an array of f64"),
    "int": (X.astype(np.int32), DTypeError, r"but got an array of i32"),
    "complex": (X.astype(np.complex64), DTypeError, "complex64"),
    "object": (np.array([[None] * 3] * 2), DTypeError, "object"),
    "complex list": ([[1j] * 3] * 2, DTypeError, "Python values of type complex128"),
    "strings": ([["a"] * 3] * 2, DTypeError, "expected f32"),
    "ragged": ([[1, 2], [3]], ArgumentError, "does not become an array"),
    "rank": (X.reshape(6), ShapeError, r"of rank 2 but got shape \(6,\) of rank 1"),
    "axis": (np.zeros((2, 4), np.float32), ShapeError, r"got shape \(2, 4\): axis 1 is 4, not 3"),
    "zero size": (np.zeros((0, 3), np.float32), ShapeError, "axis 0 is 0, not 2"),
    "scalar": (1.0, ShapeError, "rank 0"),
    "none": (None, DTypeError, "expected f32"),
    "masked": (np.ma.masked_array(X, X > 2), ArgumentError, "masked array has no value"),
}


@pytest.mark.parametrize(("value", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_are_refused(axpy, value, error, match):
    with pytest.raises(error, match=match):
        axpy.call(value)
    np.testing.assert_array_equal(axpy.call(X), 2 * X + 10)


@pytest.mark.parametrize("arguments", [(), (X, X), (X, X, X)])
def test_wrong_number_of_arguments(axpy, arguments):
    with pytest.raises(ArgumentError, match=r"axpy\(x: f32\[2,3\]\) takes 1 argument but was called with"):
        axpy.call(*arguments)


def test_torch_tensors(axpy):
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(axpy.call(torch.from_numpy(X)), 2 * X + 10)
    with pytest.raises(ArgumentError, match=r"detach\(\)"):
        axpy.call(torch.zeros(2, 3, requires_grad=True))


def test_integers_out_of_range(loader):
    spec = CallSpec("copy", inputs=(("n", vector(u8, 3)),), outputs=(("y", vector(u8, 3)),))
    copy = load(built(COPY.replace("SIZE", "1"), "copy"), spec, loader=loader)
    assert copy.call([1, 2, 255]).tolist() == [1, 2, 255]
    with pytest.raises(DTypeError, match="outside of what u8 holds, 0 to 255"):
        copy.call([1, 2, 256])
    with pytest.raises(DTypeError, match="Python values of type float64"):
        copy.call([1.5, 2.0, 3.0])


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_every_element_type_passes_unchanged(loader, dtype):
    spec = CallSpec("copy", inputs=(("x", vector(dtype, 3)),), outputs=(("y", vector(dtype, 3)),))
    copy = load(built(COPY.replace("SIZE", str(dtype.size)), "copy"), spec, loader=loader)
    x = np.array([0, 1, 1 if dtype.kind == "bool" else 100], dtype.numpy)
    y = copy.call(x)
    assert y.dtype == dtype.numpy
    assert y.tolist() == x.tolist()
    other = np.zeros(3, np.float32 if dtype.name != "f32" else ml_dtypes.bfloat16)
    with pytest.raises(DTypeError, match=rf"expected {dtype}\[3\]"):
        copy.call(other)


def test_zero_size_and_scalars(loader):
    source = COPY.replace("3 * SIZE", "0")
    spec = CallSpec("copy", inputs=(("x", vector(f32, 0, 5)),), outputs=(("y", vector(f32, 5, 0)),))
    assert load(built(source, "copy"), spec, loader=loader).call(np.zeros((0, 5), np.float32)).shape == (5, 0)
    source = COPY.replace("3 * SIZE", "4")
    spec = CallSpec("copy", inputs=(("x", vector(f32)),), outputs=(("y", vector(f32)),))
    scalar = load(built(source, "copy"), spec, loader=loader).call(np.float32(2.5))
    assert scalar.shape == ()
    assert scalar == 2.5


@pytest.fixture
def rows(loader):
    n = var_index(Var("n", 1, 8))
    spec = CallSpec(
        "rows",
        inputs=(("x", vector(f32, n, 2)), ("w", vector(f32, n))),
        outputs=(("y", vector(f32, n)), ("count", vector(i64))),
        symbols=(Var("n", 1, 8),),
    )
    return load(built(SYMBOLIC, "rows"), spec, loader=loader)


@pytest.mark.parametrize("n", [1, 5, 8])
def test_symbolic_dimensions(rows, n):
    x, w = np.random.rand(n, 2).astype(np.float32), np.random.rand(n).astype(np.float32)
    y, count = rows.call(x, w)
    np.testing.assert_allclose(y, x[:, 0] * w + x[:, 1], rtol=1e-6)
    assert count == n


def test_symbolic_dimensions_that_disagree(rows):
    with pytest.raises(
        ShapeError, match=r"input w: expected f32\[n\] but got shape \(4,\).*n is 3 by another axis"
    ):
        rows.call(np.zeros((3, 2), np.float32), np.zeros(4, np.float32))
    with pytest.raises(ShapeError, match="dimension n is 9 but must be 1 to 8"):
        rows.call(np.zeros((9, 2), np.float32), np.zeros(9, np.float32))
    with pytest.raises(ShapeError, match="dimension n is 0"):
        rows.call(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))


def test_computed_output_dimension(loader):
    n = var_index(Var("n", 0, None))
    spec = CallSpec(
        "rows",
        inputs=(("x", vector(f32, 2 * n, 1)), ("w", vector(f32, n))),
        outputs=(("y", vector(f32, n + 1)), ("count", vector(i64))),
        symbols=(Var("n", 0, None),),
    )
    rows = load(built(SYMBOLIC, "rows"), spec, loader=loader)
    y, count = rows.call(np.ones((6, 1), np.float32), np.ones(3, np.float32))
    assert y.shape == (4,)
    assert count == 3
    with pytest.raises(ShapeError, match="axis 0 is 5, not 6"):
        rows.call(np.ones((5, 1), np.float32), np.ones(3, np.float32))


def test_bind_state_shares_memory(axpy):
    mine = np.array([100], np.float32)
    axpy.bind_state(0, mine)
    np.testing.assert_array_equal(axpy.call(X), 2 * X + 100)
    assert mine[0] == 101
    assert axpy.states[0] is mine


@pytest.mark.parametrize(
    ("position", "array", "error"),
    [
        (1, np.zeros(1, np.float32), ArgumentError),
        (-1, np.zeros(1, np.float32), ArgumentError),
        (0, np.zeros(1), DTypeError),
        (0, np.zeros(2, np.float32), ShapeError),
        (0, [0.0], ArgumentError),
        (0, np.frombuffer(bytes(4), np.float32), ArgumentError),
    ],
)
def test_bind_state_refuses(axpy, position, array, error):
    with pytest.raises(error):
        axpy.bind_state(position, array)


def test_input_in_the_memory_of_a_state_is_copied(loader):
    source = """
    #include <stdint.h>
    EXPORT int alias_run(void *const *p, const int64_t *symbols, void *pool) {
        (void)symbols; (void)pool;
        const float *x = p[0];
        float *y = p[1], *s = p[2];
        for (int i = 0; i < 3; i++) s[i] = 0;
        for (int i = 0; i < 3; i++) y[i] = x[i];
        return 0;
    }
    """
    spec = CallSpec(
        "alias",
        inputs=(("x", vector(f32, 3)),),
        outputs=(("y", vector(f32, 3)),),
        states=(np.ones(3, np.float32),),
        state_names=("s",),
    )
    alias = load(built(source, "alias"), spec, loader=loader)
    assert alias.call(alias.states[0]).tolist() == [1, 1, 1]
    assert alias.states[0].tolist() == [0, 0, 0]


def test_nonzero_code_is_an_error(loader):
    spec = CallSpec("fails", inputs=(), outputs=(("y", vector(f32)),))
    fails = load(built(FAILS, "fails"), spec, loader=loader)
    for _ in range(3):
        with pytest.raises(IntaglioError, match="ended with code 3"):
            fails.call()


def test_program_name_that_is_no_identifier(loader):
    spec = CallSpec("my pooled/net", inputs=(), outputs=(("y", vector(i64)),))
    source = POOL.replace("pooled_", "my_pooled_net_")
    assert load(built(source, "my pooled/net"), spec, loader=loader, threads=2).call() == 2


def test_library_without_the_entry_point(loader):
    spec = CallSpec("other", inputs=(), outputs=())
    with pytest.raises(ToolchainError, match=r"cannot be loaded: .*other_run"):
        load(built(FAILS, "fails"), spec, loader=loader)


def test_file_that_is_no_library(tmp_path, loader):
    path = tmp_path / "broken.so"
    path.write_bytes(b"\x7fELF broken")
    with pytest.raises(ToolchainError, match="cannot be loaded"):
        load(path, CallSpec("x", inputs=(), outputs=()), loader=loader)


def test_references_do_not_leak(axpy):
    for _ in range(3):
        axpy.call(X), axpy.call(X.tolist())
    gc.collect()  # arrays that other tests left behind hold the type too
    before = sys.getrefcount(X), sys.getrefcount(np.dtype(np.float32))
    for _ in range(200):
        axpy.call(X)
        axpy.call(np.asfortranarray(X))
        with pytest.raises(ShapeError):
            axpy.call(X[0])
    gc.collect()
    after = sys.getrefcount(X), sys.getrefcount(np.dtype(np.float32))
    assert abs(after[0] - before[0]) <= 2
    assert abs(after[1] - before[1]) <= 20
