"""Builds the libtorch peer from the headers and libraries that the PyTorch wheel carries."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("libtorch_step.cpp")


@cache
def build() -> Path:
    """The executable; built once per run (about a minute). Raises CalledProcessError."""
    import torch

    root = Path(torch.__file__).parent
    out = Path(tempfile.mkdtemp()) / "libtorch_step"
    subprocess.run(
        [
            "g++",
            "-O2",
            "-std=c++20",
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
            f"-I{root}/include",
            f"-I{root}/include/torch/csrc/api/include",
            str(SOURCE),
            "-o",
            str(out),
            f"-L{root}/lib",
            f"-Wl,-rpath,{root}/lib",
            "-ltorch",
            "-ltorch_cpu",
            "-lc10",
        ],
        check=True,
    )
    return out
