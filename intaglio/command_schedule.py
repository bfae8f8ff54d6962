"""The command that shows schedules at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intaglio.command_options import AccuracyName, Disabled, Model, OptLevel, TargetName
from intaglio.compile import Settings
from intaglio.loading import load_model
from intaglio.shared.errors import ArgumentError

Kernel = Annotated[str, typer.Argument(help="A kernel that `show --stage loop` names, or first+second.")]
Apply = Annotated[Path | None, typer.Option(help="A file with the steps, one a line.")]


def schedule(
    model: Model,
    kernel: Kernel,
    apply: Apply = None,
    target: TargetName = "native",
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
    disable: Disabled = None,
) -> None:
    """Show the plain nest of a kernel, and what each step of a schedule makes of it."""
    from intaglio.view.schedules import show_schedule

    if apply is not None and not apply.exists():
        raise ArgumentError(f"there is no file {apply}", hint="write the steps of a schedule, one a line")
    settings = Settings(
        target=target, opt_level=opt_level, accuracy=accuracy, disabled_passes=tuple(disable or ())
    )
    steps = "" if apply is None else apply.read_text()
    print(show_schedule(load_model(model), kernel, steps, settings))
