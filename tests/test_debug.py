"""The ladder of verbosity runs at its highest step, so that no printer rots."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import numpy as np, intaglio
from intaglio.nn import functional as F
step = intaglio.jit(lambda x: F.softmax(x @ x.T, dim=-1).sum())
print(step(np.ones((4, 4), np.float32)).item())
"""


def run(level: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "INTAGLIO_DEBUG": str(level), "INTAGLIO_VERIFY": "1"}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True,
                          timeout=300, check=True)  # fmt: skip


def test_every_stage_is_shown() -> None:
    done = run(5)
    assert done.stdout.strip() == "4.0"
    for part in ("FoldConstant:", "Lower:", "Fuse(", "fn ", "kernel ", "arena:", "#include"):
        assert part in done.stderr


def test_silence_is_the_default() -> None:
    assert run(0).stderr == ""
