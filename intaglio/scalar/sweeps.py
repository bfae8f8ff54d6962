"""The sweeps of `sweeps.c`, compiled once per machine and kept in the cache."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.native.toolchain import build_shared, choose
from intaglio.shared.target import GENERIC

Array = np.ndarray[Any, Any]

_SOURCE = Path(__file__).with_name("sweeps.c")


@cache
def _library() -> ctypes.CDLL:
    toolchain = choose().toolchain
    path = build_shared(_SOURCE.read_text(), target=GENERIC, toolchain=toolchain, opt="fast-compile",
                        exact=True, name="scalar-sweeps")  # fmt: skip
    library = ctypes.CDLL(str(path))
    for name in ("postorder", "fold_chains", "count_edges"):
        getattr(library, name).restype = ctypes.c_int64
    return library


def sweep(name: str, *arguments: Array | int) -> int:
    """Run one sweep. Arrays are passed by address (they must be contiguous), numbers as they are."""
    function = getattr(_library(), name)
    converted: list[ctypes.c_void_p | ctypes.c_int64] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous
            converted.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            converted.append(ctypes.c_int64(argument))
    result: int = function(*converted)
    return result
