"""The extension module that makes calls cheap: compiled once per machine from `pyext.c`, then cached."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import platform
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from intaglio.native.toolchain import Toolchain, available, build_shared
from intaglio.shared.errors import ToolchainError
from intaglio.shared.target import GENERIC

_NAME = "_intaglio_call"


@cache
def extension() -> tuple[ModuleType | None, str]:
    """The extension module, or None and the reason why calls go through ctypes."""
    builder, reason = _builder()
    if builder is None:
        return None, reason
    try:
        module = _import(_build(builder))
    except (ToolchainError, ImportError) as error:
        return None, str(error)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=module.after_fork_in_child)
    return module, f"built by {builder}"


def python_header() -> Path | None:
    """`Python.h` of this interpreter, None when its headers are not installed."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return header if header.is_file() else None


def _builder() -> tuple[Toolchain | None, str]:
    if platform.python_implementation() != "CPython":
        return None, f"{platform.python_implementation()} has no stable ABI"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None, "a free-threaded Python has no stable ABI"
    if python_header() is None:
        return None, f"{sysconfig.get_paths()['include']}/Python.h is missing (install python3-dev)"
    for kind in ("gcc", "clang", "zig"):
        for one in available():
            if one.kind == kind:
                return one, ""
    return None, "no compiler that takes Python's and NumPy's headers (gcc, clang or zig)"


def _build(builder: Toolchain) -> Path:
    source = Path(__file__).with_suffix(".c").read_text(encoding="utf-8")
    about = f"/* for NumPy {np.__version__} and the stable ABI of Python {sys.version_info.major} */\n"
    includes = [sysconfig.get_paths()["include"], np.get_include()]
    extra = [option for path in includes for option in ("-isystem", path)]
    if sys.platform == "darwin":
        extra += ["-undefined", "dynamic_lookup"]
    return build_shared(
        about + source, target=GENERIC, toolchain=builder, opt="fast-compile", name=_NAME, extra=extra
    )


def _import(path: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(_NAME, str(path))
    spec = importlib.util.spec_from_file_location(_NAME, path, loader=loader)
    assert spec is not None
    try:
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError:
        path.unlink(missing_ok=True)
        raise
    return module
