"""What commands share: their arguments and options, and where they print."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from intaglio.loop.recipes.anchor import Accuracy

console = Console()

Model = Annotated[str, typer.Argument(help="model.onnx, a saved .intaglio file, or file.py:name")]
Threads = Annotated[int | None, typer.Option(help="Threads of a call; default all cores.")]
OptLevel = Annotated[int, typer.Option(help="Level of the graph passes, 0 to 3.", min=0, max=3)]
AccuracyName = Annotated[
    Accuracy,
    typer.Option("--accuracy", help="Formulas for products and convolutions; relaxed ones are faster."),
]
TargetName = Annotated[str, typer.Option(help="Machine to generate code for.")]
Tuning = Annotated[str | None, typer.Option(help="A file of measured choices, of `intaglio tune`.")]
Disabled = Annotated[list[str] | None, typer.Option("--disable", help="A graph pass to leave out.")]
Bounds = Annotated[
    list[str] | None,
    typer.Option("--bound", help="name=number, an upper bound of an ONNX model's symbolic dimension."),
]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", help="name=file.npy, or a .npz file; missing ones are random.")
]


def printable(text: str) -> str:
    """Text without what could steer the terminal; a model's names may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
