"""The command line: every command is a thin call of the public API."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from intaglio.command_options import (
    AccuracyName,
    Bounds,
    Disabled,
    Inputs,
    Model,
    OptLevel,
    TargetName,
    Threads,
    Tuning,
    console,
    printable,
)
from intaglio.command_schedule import schedule
from intaglio.command_timing import register
from intaglio.compile import Settings, compile_graph
from intaglio.loading import gather_inputs, given_arrays, load_model, load_model_for, named_numbers
from intaglio.native.names import sanitise
from intaglio.shared.errors import IntaglioError

if TYPE_CHECKING:
    from intaglio.view.compare import Difference

app = typer.Typer(
    help="Compile machine-learning models, inference and training, to small readable C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def file_name(name: str, taken: set[str]) -> str:
    """A name of the model as the name of a new file: in no other folder, and not yet taken."""
    plain = name if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) else sanitise(name)
    chosen, k = plain, 0
    while chosen in taken:
        k += 1
        chosen = f"{plain}_{k}"
    taken.add(chosen)
    return chosen


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="Directory with MNIST's IDX files.")] = None,
    out: Annotated[Path, typer.Option(help="Where the C goes.")] = Path("intaglio-demo"),
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = 5,
    threads: Threads = None,
) -> None:
    """Train MNIST, compiled; export the classifier and the training step as C; run them."""
    from intaglio.demo import run

    run(data, out, epochs, threads)


@app.command("compile")
def compile_command(
    model: Model,
    out: Annotated[Path, typer.Option(help="Directory for the C.")],
    target: TargetName = "generic",
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
    disable: Disabled = None,
    tuning: Tuning = None,
    bound: Bounds = None,
) -> None:
    """Write a model as a folder of C with header, build files and self-test."""
    graph = load_model(model, bound)
    with console.status("compiling"):
        compiled = compile_graph(
            graph,
            opt_level=opt_level,
            accuracy=accuracy,
            disabled_passes=disable or (),
            tuning=tuning,
        )
        compiled.export_c(out, target=target)
    console.print(
        f"{out}: {len(compiled.program.kernels)} kernels, arena {compiled.arena_bytes} bytes, "
        f"weights {compiled.weight_bytes} bytes"
    )


@app.command()
def run(
    model: Model,
    inputs: Inputs = None,
    output: Annotated[Path | None, typer.Option(help="Directory for the results as .npy.")] = None,
    threads: Threads = None,
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
    tuning: Tuning = None,
) -> None:
    """Run a model once and print, or save, its results."""
    graph, arrays = load_model_for(model, inputs)
    compiled = compile_graph(graph, threads=threads, opt_level=opt_level, accuracy=accuracy, tuning=tuning)
    results = compiled.run(dict(zip(compiled.input_names, arrays, strict=True)))
    taken: set[str] = set()
    for name, array in results.items():
        print(f"{printable(name)}: {array.dtype}{list(array.shape)}")
        print(np.array2string(array, threshold=20, precision=5))
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            np.save(output / f"{file_name(name, taken)}.npy", array)


@app.command()
def show(
    model: Model,
    stage: Annotated[str, typer.Option(help="graph, fusion, loop, memory or c.")] = "graph",
    before: Annotated[str | None, typer.Option(help="Stop before this graph pass.")] = None,
    after: Annotated[str | None, typer.Option(help="Stop behind this graph pass.")] = None,
    kernel: Annotated[int | None, typer.Option(help="Only this kernel of the loops.")] = None,
    target: TargetName = "native",
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
    disable: Disabled = None,
    bound: Bounds = None,
) -> None:
    """Print a model at any stage of its compilation."""
    from intaglio.view.stages import show_stage

    settings = Settings(
        target=target, opt_level=opt_level, accuracy=accuracy, disabled_passes=tuple(disable or ())
    )
    graph = load_model(model, bound)
    print(show_stage(graph, stage, settings, before=before, after=after, kernel=kernel))


@app.command()
def passes() -> None:
    """List the passes: names for --after and --disable, opt levels, and what they do."""
    from intaglio.view.stages import pass_table

    table = Table("pass", "level", "what it does")
    for name, level, summary in pass_table():
        table.add_row(name, str(level), summary)
    console.print(table)


@app.command()
def verify(
    model: Model,
    inputs: Inputs = None,
    size: Annotated[list[str] | None, typer.Option(help="name=number, a symbolic dimension.")] = None,
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
    disable: Disabled = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative error accepted.")] = 1e-4,
    save: Annotated[Path | None, typer.Option(help="Directory for an operator that differs.")] = None,
) -> None:
    """Compare a compiled ONNX model with ONNX Runtime, and name the operator that differs first.

    Any other model is compared with the NumPy interpreter of its graph.
    """
    settings: dict[str, Any] = {"opt_level": opt_level, "accuracy": accuracy}
    settings["disabled_passes"] = tuple(disable or ())
    if Path(model).suffix == ".onnx":
        from intaglio.verify import verify_onnx

        sizes = named_numbers("--size", size or [])
        report = verify_onnx(
            model, given_arrays(inputs), sizes=sizes, tolerance=tolerance, save=save, **settings
        )
        rows, culprit = list(report.differences), report.culprit
    else:
        from intaglio.view.compare import compare

        graph = load_model(model)
        rows, culprit = compare(graph, gather_inputs(graph, inputs), **settings), None
    print_differences(rows, tolerance)
    if culprit is not None:
        print(printable(culprit.describe()))
    if any(row.relative > tolerance for row in rows):
        raise typer.Exit(1)


def print_differences(rows: Sequence[Difference], tolerance: float) -> None:
    """A table of errors by output."""
    table = Table("output", "type", "largest error", "relative to the largest element", "ULP", "")
    for row in rows:
        verdict = "ok" if row.relative <= tolerance else "DIFFERS"
        numbers = (f"{number:.3g}" for number in (row.absolute, row.relative, row.ulp))
        table.add_row(escape(printable(row.name)), row.type, *numbers, verdict)
    console.print(table)


@app.command()
def doctor() -> None:
    """Say what this machine offers: compilers, headers, cache, optional packages."""
    from intaglio.native.doctor import diagnose

    table = Table("what", "found", "note")
    for fact in diagnose():
        table.add_row(fact.name, fact.value, fact.note)
    console.print(table)


register(app)
app.command()(schedule)


def main() -> None:
    """Run the command line; an expected error prints as text and ends with status 1."""
    try:
        app()
    except IntaglioError as error:
        Console(stderr=True).print("[bold red]error[/]:", escape(printable(str(error))), highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
