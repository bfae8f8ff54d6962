"""Intaglio compiles machine-learning models, inference and training, to small readable C."""

from typing import TYPE_CHECKING, Any

from intaglio.array.control import cond, fori_loop, scan, while_loop
from intaglio.array.creation import (
    arange,
    cat,
    clamp,
    cos,
    einsum,
    empty,
    exp,
    eye,
    full,
    linspace,
    log,
    logsumexp,
    matmul,
    maximum,
    mean,
    minimum,
    ones,
    ones_like,
    sigmoid,
    sin,
    softmax,
    sqrt,
    stack,
    sum,
    tanh,
    where,
    zeros,
    zeros_like,
)
from intaglio.array.random import manual_seed, rand, randint, randn, randperm
from intaglio.array.tensor import Tensor, enable_grad, from_numpy, is_grad_enabled, no_grad, tensor
from intaglio.array.trace import host_scalar, host_static
from intaglio.array.transform import grad, value_and_grad
from intaglio.jit import jit
from intaglio.shared.dtypes import bf16, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from intaglio.shared.dtypes import bool_ as bool
from intaglio.shared.errors import IntaglioError

if TYPE_CHECKING:
    from intaglio import data, datasets, nn, optim
    from intaglio.compile import compile, compile_graph
    from intaglio.compiled import Compiled
    from intaglio.saved import load
    from intaglio.torch_training import compile_training

__version__ = "0.1.0"

# The compiler and the libraries of layers are imported when they are first used: importing the package is
# then not much slower than importing NumPy.
_LATER = {
    "Compiled": "intaglio.compiled",
    "compile": "intaglio.compile",
    "compile_graph": "intaglio.compile",
    "compile_training": "intaglio.torch_training",
    "load": "intaglio.saved",
}
_MODULES = ("data", "datasets", "nn", "optim")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"intaglio.{name}")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'intaglio' has no attribute {name!r}")


__all__ = [
    "Compiled",
    "IntaglioError",
    "Tensor",
    "arange",
    "bf16",
    "bool",
    "cat",
    "clamp",
    "compile",
    "compile_graph",
    "compile_training",
    "cond",
    "cos",
    "data",
    "datasets",
    "einsum",
    "empty",
    "enable_grad",
    "exp",
    "eye",
    "f16",
    "f32",
    "f64",
    "fori_loop",
    "from_numpy",
    "full",
    "grad",
    "host_scalar",
    "host_static",
    "i8",
    "i16",
    "i32",
    "i64",
    "is_grad_enabled",
    "jit",
    "linspace",
    "load",
    "log",
    "logsumexp",
    "manual_seed",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "optim",
    "rand",
    "randint",
    "randn",
    "randperm",
    "scan",
    "sigmoid",
    "sin",
    "softmax",
    "sqrt",
    "stack",
    "sum",
    "tanh",
    "tensor",
    "u8",
    "u16",
    "u32",
    "u64",
    "value_and_grad",
    "where",
    "while_loop",
    "zeros",
    "zeros_like",
]  # fmt: skip
