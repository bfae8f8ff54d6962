"""Commands that measure: bench, explain, tune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from intaglio.command_options import AccuracyName, Inputs, Model, OptLevel, Tuning, console, printable
from intaglio.compile import Settings, compile_graph
from intaglio.loading import gather_inputs, load_model
from intaglio.shared.errors import ArgumentError
from intaglio.view.peer import RUNTIMES

OTHERS = [name for name in RUNTIMES if name != "intaglio"]
Rounds = Annotated[int, typer.Option(help="Samples to take.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]


def bench(
    model: Model,
    vs: Annotated[str, typer.Option(help=f"Runtimes to compare with: {','.join(OTHERS)}.")] = "",
    threads: Annotated[str, typer.Option(help="Numbers of threads, as 1,2.")] = "1",
    inputs: Inputs = None,
    rounds: Rounds = 10,
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
    tuning: Tuning = None,
    as_json: AsJson = False,
) -> None:
    """Time a compiled model, alone or beside other runtimes: separate processes that take turns."""
    from intaglio.view.bench import bench as measured

    graph = load_model(model)
    compiled = compile_graph(graph, opt_level=opt_level, accuracy=accuracy, tuning=tuning)
    with console.status("timing"):
        found = measured(
            model,
            gather_inputs(graph, inputs),
            against=[name for name in vs.split(",") if name],
            threads=_counts(threads),
            rounds=rounds,
            settings={"opt_level": opt_level, "accuracy": accuracy, "tuning": tuning},
        )
    flops = sum(kernel.flops for kernel in compiled.program.kernels)
    if as_json:
        facts = {"arena_bytes": compiled.arena_bytes, "weight_bytes": compiled.weight_bytes, "flops": flops}
        print(json.dumps({"model": model, **facts, "runs": [run.record() for run in found]}, indent=2))
        return
    for run in found:
        title = f"{run.threads} thread{'s' if run.threads > 1 else ''}"
        table = Table("runtime", "median", "minimum", "GFLOP/s", "times ours", title=title)
        ours = run.peers[0]
        for peer in run.peers:
            if not peer.seconds:
                table.add_row(peer.name, "-", "-", "-", escape(printable(peer.failure)))
                continue
            rate = flops / peer.median / 1e9
            cells = (f"{peer.median * 1e6:.1f} us", f"{peer.minimum * 1e6:.1f} us", f"{rate:.2f}")
            table.add_row(peer.name, *cells, f"{ours.ratio(peer):.2f}")
        console.print(table)
    console.print(f"arena {compiled.arena_bytes} bytes, weights {compiled.weight_bytes} bytes")


def _counts(text: str) -> list[int]:
    """Numbers of threads."""
    if not all(count.isdecimal() for count in text.split(",")):
        raise ArgumentError(f"--threads is {text!r}", hint="give numbers, as 1,2")
    return [int(count) for count in text.split(",")]


def explain(
    model: Model,
    inputs: Inputs = None,
    rounds: Rounds = 30,
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
    tuning: Tuning = None,
    most: Annotated[int, typer.Option(help="Kernels to show, the dearest first.")] = 30,
    plot: Annotated[Path | None, typer.Option(help="Roofline to draw: a .png, .svg or .pdf file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a model's time goes: each kernel beside the machine's limits, what was fused, what not."""
    from intaglio.view.explain import explain as explained
    from intaglio.view.roofline import check, draw

    if plot is not None:
        check(plot)
    graph = load_model(model)
    compiled = compile_graph(graph, threads=1, opt_level=opt_level, accuracy=accuracy, tuning=tuning)
    with console.status("timing"):
        found = explained(compiled, gather_inputs(graph, inputs), rounds)
    if plot is not None:
        draw(found, plot)
    if as_json:
        print(json.dumps(found.record(), indent=2))
        return
    for line in (*found.table(most, console.width), "", *found.summary()):
        print(printable(line))


def tune(
    model: Model,
    seconds: Annotated[float, typer.Option(help="Time to search, about.", min=0)] = 60.0,
    out: Annotated[Path, typer.Option(help="File of records to write.")] = Path("tuning.txt"),
    inputs: Inputs = None,
    threads: Annotated[int, typer.Option(help="Threads of the whole model.", min=1)] = 1,
    opt_level: OptLevel = 3,
    accuracy: AccuracyName = "standard",
) -> None:
    """Search the fastest plan of each kernel on this machine, and write a file for --tuning."""
    from intaglio.loop.search import save_records
    from intaglio.tuning import tune as search

    if not out.parent.is_dir():
        raise ArgumentError(f"--out: there is no folder {out.parent}", hint="make it first")
    graph = load_model(model)
    arrays = gather_inputs(graph, inputs)
    settings = Settings(threads=threads, opt_level=opt_level, accuracy=accuracy)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("kernels", total=1.0)
        found = search(
            graph,
            arrays,
            seconds=seconds,
            settings=settings,
            progress=lambda part, text: bar.update(task, completed=part, description=text),
        )
    save_records(out, found.records, found.remarks)
    table = Table("kernel", "estimate", "us", "fastest", "us", "estimate is slower by")
    for one in sorted(found.choices, key=lambda one: -one.loss):
        times = (one.seconds[name] * 1e6 for name in (one.estimated, one.best))
        mine, best = (f"{us:.1f}" for us in times)
        table.add_row(one.kernel, one.estimated, mine, one.best, best, f"{100 * one.loss:.1f} %")
    console.print(table)
    if found.skipped:
        console.print(f"no time was left for {', '.join(found.skipped)}")
    console.print(
        f"whole model: {found.untuned_seconds * 1e6:.1f} us by estimates, {found.seconds * 1e6:.1f} us "
        f"tuned, {100 * (found.ratio - 1):.1f} % slower untuned; records in {out}"
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(bench)
    app.command()(explain)
    app.command()(tune)
