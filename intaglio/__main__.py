"""The command line: every command is a thin call of the public API."""

from __future__ import annotations

import importlib.util
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

from intaglio.compile import Settings, capture, compile_graph
from intaglio.graph.ir import Graph
from intaglio.native.names import sanitise
from intaglio.shared.errors import ArgumentError, IntaglioError

if TYPE_CHECKING:
    from intaglio.view.compare import Difference

app = typer.Typer(
    help="Compile machine-learning models, inference and training, to small readable C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Model = Annotated[str, typer.Argument(help="model.onnx, a saved .intaglio file, or file.py:name")]
Threads = Annotated[int | None, typer.Option(help="Threads of a call; default all cores.")]
OptLevel = Annotated[int, typer.Option(help="Level of the graph passes, 0 to 3.", min=0, max=3)]
TargetName = Annotated[str, typer.Option(help="Machine to generate code for.")]
Disabled = Annotated[list[str] | None, typer.Option("--disable", help="A graph pass to leave out.")]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", help="name=file.npy, or a .npz file; missing ones are random.")
]


def printable(text: str) -> str:
    """Text without what could steer the terminal; a model's names may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def file_name(name: str, taken: set[str]) -> str:
    """A name of the model as the name of a new file: in no other folder, and not yet taken."""
    plain = name if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) else sanitise(name)
    chosen, k = plain, 0
    while chosen in taken:
        k += 1
        chosen = f"{plain}_{k}"
    taken.add(chosen)
    return chosen


def load_model(model: str) -> Graph:
    """The graph of a model named on the command line.

    `file.py:name` is a function or module `name` in a Python file that also defines `example_inputs`.
    """
    path, _, name = model.partition(".py:")
    if name:
        namespace = _run_file(Path(path + ".py"))
        if name not in namespace:
            raise ArgumentError(
                f"{path}.py has no {name!r}", hint="name a function or module at its top level"
            )
        return capture(namespace[name], namespace.get("example_inputs"))
    if not Path(model).exists():
        raise ArgumentError(
            f"there is no file {model}", hint="give a .onnx or .intaglio file, or file.py:name"
        )
    if Path(model).suffix == ".intaglio":
        from intaglio.saved import load_graph

        return load_graph(model)
    return capture(model)


def _run_file(path: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ArgumentError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def gather_inputs(graph: Graph, given: list[str] | None, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Arrays for a graph's inputs: from files where named, else random (seeded)."""
    from intaglio.view.samples import random_input

    arrays = given_arrays(given)
    unknown = set(arrays) - {v.name for v in graph.inputs}
    if unknown:
        names = ", ".join(v.name for v in graph.inputs)
        raise ArgumentError(f"the model has no input {sorted(unknown)}", hint=f"its inputs are {names}")
    rng = np.random.default_rng(seed)
    return [arrays[v.name] if v.name in arrays else random_input(v.type, rng) for v in graph.inputs]


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
    disable: Disabled = None,
) -> None:
    """Write a model as a folder of C with header, build files and self-test."""
    graph = load_model(model)
    with console.status("compiling"):
        compiled = compile_graph(graph, opt_level=opt_level, disabled_passes=disable or ())
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
) -> None:
    """Run a model once and print, or save, its results."""
    graph = load_model(model)
    compiled = compile_graph(graph, threads=threads, opt_level=opt_level)
    arrays = gather_inputs(graph, inputs)
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
    disable: Disabled = None,
) -> None:
    """Print a model at any stage of its compilation."""
    from intaglio.view.stages import show_stage

    settings = Settings(target=target, opt_level=opt_level, disabled_passes=tuple(disable or ()))
    graph = load_model(model)
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
    disable: Disabled = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative error accepted.")] = 1e-4,
    save: Annotated[Path | None, typer.Option(help="Directory for an operator that differs.")] = None,
) -> None:
    """Compare a compiled ONNX model with ONNX Runtime, and name the operator that differs first.

    Any other model is compared with the NumPy interpreter of its graph.
    """
    settings: dict[str, Any] = {"opt_level": opt_level, "disabled_passes": tuple(disable or ())}
    if Path(model).suffix == ".onnx":
        from intaglio.verify import verify_onnx

        sizes = {name: int(number) for name, _, number in (pair.partition("=") for pair in size or [])}
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


def given_arrays(given: list[str] | None) -> dict[str, Any]:
    """The arrays of `name=file.npy` options, and those of whole `.npz` files."""
    arrays: dict[str, Any] = {}
    for option in given or []:
        name, _, file = option.partition("=")
        arrays |= {name: np.load(file)} if file else dict(np.load(name))
    return arrays


def print_differences(rows: Sequence[Difference], tolerance: float) -> None:
    """A table of errors by output."""
    table = Table("output", "type", "largest error", "relative to the largest element", "ULP", "")
    for row in rows:
        verdict = "ok" if row.relative <= tolerance else "DIFFERS"
        numbers = (f"{number:.3g}" for number in (row.absolute, row.relative, row.ulp))
        table.add_row(escape(printable(row.name)), row.type, *numbers, verdict)
    console.print(table)


@app.command()
def bench(
    model: Model,
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(help="Samples to take.", min=1)] = 30,
    opt_level: OptLevel = 3,
) -> None:
    """Time a compiled model: median and minimum of many rounds."""
    from intaglio.view.timing import time_calls

    graph = load_model(model)
    compiled = compile_graph(graph, threads=threads, opt_level=opt_level)
    arrays = gather_inputs(graph, None)
    with console.status("timing"):
        sample = time_calls(lambda: compiled(*arrays), rounds)
    table = Table("median", "minimum", "rounds", "GFLOP/s (median)", "arena", "weights")
    flops = sum(kernel.flops for kernel in compiled.program.kernels)
    table.add_row(
        f"{sample.median * 1e6:.1f} us",
        f"{sample.minimum * 1e6:.1f} us",
        str(rounds),
        f"{flops / sample.median / 1e9:.2f}",
        f"{compiled.arena_bytes} B",
        f"{compiled.weight_bytes} B",
    )
    console.print(table)


@app.command()
def explain(
    model: Model,
    rounds: Annotated[int, typer.Option(help="Samples to take.", min=1)] = 30,
    opt_level: OptLevel = 3,
    most: Annotated[int, typer.Option(help="Kernels to show, the dearest first.")] = 30,
) -> None:
    """Show where a model's time goes: each kernel beside the machine's limits, and what was not fused."""
    from intaglio.view.explain import HEADER
    from intaglio.view.explain import explain as explained

    graph = load_model(model)
    compiled = compile_graph(graph, threads=1, opt_level=opt_level)
    with console.status("timing"):
        found = explained(compiled, gather_inputs(graph, None), rounds)
    table = Table(*HEADER)
    for row in found.rows(most):
        table.add_row(*row)
    console.print(table)
    limits = ", ".join(f"{rate / 1e9:.0f} GB/s" for _, rate in found.roof.bandwidth)
    console.print(
        f"{found.seconds * 1e3:.3f} ms in {len(found.kernels)} kernels; one core of this machine: "
        f"{found.roof.flops / 1e9:.0f} GFLOP/s, {limits} from L1, L2, memory"
    )
    for reason in found.refused:
        console.print(reason, highlight=False)


@app.command()
def doctor() -> None:
    """Say what this machine offers: compilers, headers, cache, optional packages."""
    from intaglio.native.doctor import diagnose

    table = Table("what", "found", "note")
    for fact in diagnose():
        table.add_row(fact.name, fact.value, fact.note)
    console.print(table)


def main() -> None:
    """Run the command line; an expected error prints as text and ends with status 1."""
    try:
        app()
    except IntaglioError as error:
        Console(stderr=True).print("[bold red]error[/]:", escape(printable(str(error))), highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
