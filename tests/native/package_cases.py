"""Small programs for the tests of exported folders, written as loops, with their results from NumPy."""

from __future__ import annotations

import numpy as np

from intaglio.loop.ir import Buffer, Call, For, Kernel, Program, Reduce, Slice, Store, block
from intaglio.loop.memory import plan_memory
from intaglio.native.package_selftest import Recording, Step
from intaglio.ops.expr import Apply, Const, Expr, Read, where
from intaglio.shared.dtypes import DType, bool_, f32
from intaglio.shared.index import Index, IndexLike, Var, var_index


def read(buffer: Buffer, *index: IndexLike) -> Read:
    return Read(buffer, index, buffer.dtype)


def loops(extents: list[IndexLike], body, names: str = "ijk") -> For:
    """Nested serial loops around `body(i, j, ...)`."""
    variables = [
        Var(name, 0, None if isinstance(e, Index) else e - 1) for name, e in zip(names, extents, strict=False)
    ]
    made = body(*map(var_index, variables))
    for var, extent in zip(reversed(variables), reversed(extents), strict=True):
        made = For(var, extent, made if not isinstance(made, For) else block(made))
    return made


def f(fn: str, a: Expr, b: Expr | float) -> Expr:
    """A function of two f32 values."""
    return Apply(fn, (a, b if isinstance(b, Expr) else Const(b, f32)), f32)


def call(kernel: Kernel, *buffers: Buffer) -> Call:
    return Call(kernel, tuple(map(Slice, buffers)))


def matmul_kernel(name: str, m: IndexLike, k: int, n: int) -> Kernel:
    """y[i,j] = sum over k of x[i,k] * w[k,j]"""
    x, w, y = Buffer("x", f32, (m, k)), Buffer("w", f32, (k, n)), Buffer("y", f32, (m, n))
    body = loops(
        [m, n],
        lambda i, j: block(
            Store(y, (i, j), Const(0.0, f32)),
            loops(
                [k], lambda r: block(Reduce(y, (i, j), "add", f("mul", read(x, i, r), read(w, r, j)))), "k"
            ),
        ),
    )
    doc = ("matmul: y[i,j] += x[i,k] * w[k,j]",)
    return Kernel(name, (x, w, y), (y,), block(body), doc, flops=2 * k * n)


def elementwise_kernel(name: str, size: IndexLike, dtypes: list[DType], function) -> Kernel:
    """The last of the parameters becomes `function(others...)`, element by element."""
    params = tuple(Buffer(f"a{k}", dtype, (size,)) for k, dtype in enumerate(dtypes))
    *sources, target = params
    body = loops([size], lambda i: block(Store(target, (i,), function(*(read(s, i) for s in sources)))))
    return Kernel(name, params, (target,), block(body), (f"{name}: elementwise",))


def relu(value: Expr) -> Expr:
    return f("max", value, 0.0)


def perceptron(hidden: int = 8, batch: IndexLike = 3, symbols: tuple[Var, ...] = ()) -> Program:
    """relu(x @ w1) @ w2, with weights from a seed."""
    rng = np.random.default_rng(7)
    x, y = Buffer("x", f32, (batch, 5), "input"), Buffer("scores", f32, (batch, 4), "output")
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((5, hidden), (hidden, 4))]
    w1, w2 = (Buffer(f"layer{k + 1}.weight", f32, w.shape, "constant", data=w) for k, w in enumerate(weights))
    h, r = (Buffer(name, f32, (batch, hidden), "scratch") for name in ("h", "r"))
    first = matmul_kernel("linear", batch, 5, hidden)
    second = matmul_kernel("linear", batch, hidden, 4)
    activation = elementwise_kernel("relu", batch * hidden, [f32, f32], relu)
    program = Program(
        "perceptron", [x], [y], [], [w1, w2], [h, r], list(symbols), [first, activation, second],
        {"forward": block(call(first, x, w1, h), call(activation, h, r), call(second, r, w2, y))},
    )  # fmt: skip
    return plan_memory(program)


def perceptron_result(program: Program, x: np.ndarray) -> np.ndarray:
    w1, w2 = (c.data for c in program.constants)
    return np.maximum(x @ w1, 0) @ w2


def perceptron_recording(
    program: Program, batches: tuple[int, ...] = (3, 3), symbolic: bool = False
) -> Recording:
    rng = np.random.default_rng(8)
    steps = []
    for batch in batches:
        x = rng.standard_normal((batch, 5)).astype(np.float32)
        steps.append(Step((x,), (perceptron_result(program, x),), (batch,) if symbolic else ()))
    return Recording(tuple(steps))


def regression(size: int = 6) -> Program:
    """A training step in three phases: y = w * x, loss = sum((y - t)^2), momentum on w."""
    x, t = Buffer("x", f32, (size,), "input"), Buffer("t", f32, (size,), "input")
    loss = Buffer("loss", f32, (1,), "output")
    start = np.linspace(-1, 1, size).astype(np.float32)
    w = Buffer("model.w", f32, (size,), "state", data=start)
    v = Buffer("momentum.w", f32, (size,), "state", data=np.zeros(size, np.float32))
    e, g = Buffer("e", f32, (size,), "scratch"), Buffer("d_w", f32, (size,), "scratch")
    forward = elementwise_kernel("residual", size, [f32] * 4, lambda w, x, t: f("sub", f("mul", w, x), t))
    a, b = Buffer("e", f32, (size,)), Buffer("loss", f32, (1,))
    total = Kernel("sum_of_squares", (a, b), (b,), block(
        Store(b, (0,), Const(0.0, f32)),
        loops([size], lambda i: block(Reduce(b, (0,), "add", f("mul", read(a, i), read(a, i))))),
    ), ("sum_of_squares: loss += e[i] * e[i]",))  # fmt: skip
    backward = elementwise_kernel("gradient", size, [f32] * 3, lambda e, x: f("mul", f("mul", e, x), 2.0))
    params = tuple(Buffer(n, f32, (size,)) for n in ("w", "v", "d_w"))
    update = Kernel("sgd", params, params[:2], block(loops([size], lambda i: block(
        Store(params[1], (i,), f("add", f("mul", read(params[1], i), 0.9), read(params[2], i))),
        Store(params[0], (i,), f("sub", read(params[0], i), f("mul", read(params[1], i), 0.05))),
    ))), ("sgd: v = 0.9 v + d_w; w -= 0.05 v",))  # fmt: skip
    program = Program(
        "regression", [x, t], [loss], [w, v], [], [e, g], [], [forward, total, backward, update],
        {
            "forward": block(call(forward, w, x, t, e), call(total, e, loss)),
            "backward": block(call(backward, e, x, g)),
            "update": block(call(update, w, v, g)),
        },
    )  # fmt: skip
    return plan_memory(program)


def regression_recording(program: Program, steps: int = 5) -> Recording:
    rng = np.random.default_rng(9)
    w, v = (s.data.copy() for s in program.states)
    made = []
    for _ in range(steps):
        x, t = (rng.standard_normal(w.shape).astype(np.float32) for _ in range(2))
        e = w * x - t
        made.append(Step((x, t), (np.array([np.sum(e * e)], np.float32),)))
        v = np.float32(0.9) * v + 2 * e * x
        w = w - np.float32(0.05) * v
    return Recording(tuple(made), (w, v))


def copies(dtype: DType) -> Program:
    """y = x for one element type, beside a constant of the same type: y = x where c is c."""
    x, y = Buffer("x", dtype, (4,), "input"), Buffer("y", dtype, (4,), "output")
    c = Buffer("c", dtype, (4,), "constant", data=np.array([0, 1, 0, 1], dtype.numpy))
    kernel = elementwise_kernel("pick", 4, [dtype] * 3, lambda x, c: where(Apply("eq", (c, c), bool_), x, c))
    return plan_memory(Program("copies", [x], [y], [], [c], [], [], [kernel],
                               {"forward": block(call(kernel, x, c, y))}))  # fmt: skip
