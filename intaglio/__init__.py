"""Intaglio compiles machine-learning models, inference and training, to small readable C."""

from intaglio import data, nn, optim
from intaglio.array.control import cond, fori_loop, scan, while_loop
from intaglio.array.creation import (
    arange,
    cat,
    clamp,
    concat,
    concatenate,
    cos,
    einsum,
    exp,
    eye,
    full,
    linspace,
    log,
    logsumexp,
    matmul,
    maximum,
    minimum,
    ones,
    ones_like,
    sigmoid,
    sin,
    sqrt,
    stack,
    tanh,
    where,
    zeros,
    zeros_like,
)
from intaglio.array.random import manual_seed, rand, randint, randn, randperm
from intaglio.array.tensor import Tensor, enable_grad, from_numpy, is_grad_enabled, no_grad, tensor
from intaglio.compile import compile, compile_graph
from intaglio.compiled import Compiled
from intaglio.jit import grad, jit, value_and_grad
from intaglio.saved import load
from intaglio.shared.dtypes import bf16, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from intaglio.shared.dtypes import bool_ as bool
from intaglio.shared.errors import IntaglioError

__version__ = "0.1.0"

__all__ = [
    "Compiled", "IntaglioError", "Tensor", "arange", "bf16", "bool", "cat", "clamp", "compile", "compile_graph",
    "concat", "concatenate", "cond", "cos", "data", "einsum", "enable_grad", "exp", "eye", "f16", "f32", "f64",
    "fori_loop", "from_numpy", "full", "grad", "i8", "i16", "i32", "i64", "is_grad_enabled", "jit", "linspace",
    "load", "log", "logsumexp", "manual_seed", "matmul", "maximum", "minimum", "nn", "no_grad", "ones",
    "ones_like", "optim", "rand", "randint", "randn", "randperm", "scan", "sigmoid", "sin", "sqrt", "stack",
    "tanh", "tensor", "u8", "u16", "u32", "u64", "value_and_grad", "where", "while_loop", "zeros", "zeros_like",
]  # fmt: skip
