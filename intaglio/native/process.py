"""Running a compiler: its output kept together, a time limit, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_LINES = 24


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: `code` is None when it could not be started or ran out of time."""

    command: tuple[str, ...]
    code: int | None
    output: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    def summary(self) -> str:
        """What happened, in one clause."""
        return self.problem or f"it ended with status {self.code}"

    def excerpt(self) -> str:
        """The first lines of the output: a compiler's first error is the one that matters."""
        lines = self.output.strip().splitlines()
        shown = [line[:300] for line in lines[:SHOWN_LINES]]
        if len(lines) > len(shown):
            shown.append(f"... and {len(lines) - len(shown)} more lines")
        return "\n".join(shown)


def run(
    command: Sequence[str],
    *,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a command to its end; never raises for what the command does.

    The command gets its own process group, so that when time is over its children end with it; the
    output goes through a file, so that a child that outlives it cannot keep us waiting.
    """
    command = tuple(command)
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(command, None, "", f"it cannot be started ({error.strerror or error})")
        code: int | None
        problem = ""
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            code, problem = None, f"it did not end within {seconds:g} seconds"
        except BaseException:
            _end(process)
            raise
        output.seek(0)
        return Outcome(command, code, output.read().decode("utf-8", "replace"), problem)


def _end(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
