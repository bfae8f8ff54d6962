"""`intaglio show` and `intaglio passes`: every stage as text, and what cannot be shown is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from intaglio.__main__ import app
from intaglio.compile import PASS_LEVELS, Settings, compile_graph
from intaglio.graph.ir import Graph
from intaglio.graph.passes import PASSES
from intaglio.graph.text import parse_graph, print_graph
from intaglio.ops import prim
from intaglio.shared.dtypes import f32
from intaglio.shared.errors import ArgumentError
from intaglio.shared.types import TensorType
from intaglio.view.stages import STAGES, pass_table, show_stage

OFF = Settings(disabled_passes=("MergeLoops",))
RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
    return RNG.standard_normal(shape).astype(np.float32)


def scaled() -> Graph:
    graph = Graph("scaled")
    x = graph.input(TensorType(f32, (5, 4)), "x")
    y = prim.dot(x, graph.constant(array(4, 3)), spec="mk,kn->mn") * array(3) + array(3)
    graph.set_outputs([prim.sum(prim.exp(y), axes=(1,)), prim.sort(y, axis=1, descending=False)[0]])
    return graph


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_text(stage: str) -> None:
    wanted = {"graph": "fn scaled", "fusion": "Fuse(", "loop": "kernel ", "memory": "arena:", "c": "#include"}
    assert wanted[stage] in show_stage(scaled(), stage, Settings())


def test_the_graph_before_and_behind_a_pass() -> None:
    graph = scaled()
    before = show_stage(graph, "graph", Settings(), before="FoldScaleAxis")
    after = show_stage(graph, "graph", Settings(), after="FoldScaleAxis")
    assert "mul(" in before
    assert "mul(" not in after
    assert show_stage(graph, "graph", Settings(), before=PASSES[0].name) == print_graph(graph)
    assert print_graph(parse_graph(show_stage(graph, "graph", Settings(opt_level=0)))).startswith("fn scaled")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "assembly"}, "no stage"),
        ({"stage": "graph", "after": "NoPass"}, "no graph pass"),
        ({"stage": "graph", "after": "FoldScaleAxis", "settings": Settings(opt_level=1)}, "does not run"),
        (
            {"stage": "graph", "before": "DeadCode", "settings": Settings(disabled_passes=("DeadCode",))},
            "run",
        ),
        ({"stage": "loop", "kernel": 99}, "no kernel 99"),
    ],
)
def test_what_cannot_be_shown_is_said(options: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        show_stage(scaled(), **{"settings": Settings(), **options})  # type: ignore[arg-type]


def test_every_pass_is_in_the_table() -> None:
    table = {name: level for name, level, _ in pass_table()}
    assert table == {**PASS_LEVELS, "PlanMemory": 0}
    assert all(len(summary) > 20 for _, _, summary in pass_table())
    done = CliRunner().invoke(app, ["passes"])
    assert done.exit_code == 0
    assert "FuseOps" in done.stdout


def test_fusions_are_records_with_reasons() -> None:
    graph = scaled()
    together, apart = compile_graph(graph), compile_graph(graph, disabled_passes=["FuseOps"])
    assert any(record.fused for record in together.decisions)
    assert all(record.because for record in together.decisions)
    assert not any(record.fused for record in apart.decisions)
    assert all(str(record).endswith("FuseOps does not run") for record in apart.decisions)
    assert len(apart.program.kernels) > len(together.program.kernels)
    assert not any(record.fused for record in compile_graph(graph, opt_level=0).decisions)


def test_open_sizes_are_bounded_on_the_command_line(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    infos = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 4]) for name in "xy"]
    net = onnx.helper.make_graph([onnx.helper.make_node("Exp", ["x"], ["y"])], "net", infos[:1], infos[1:])
    path = str(tmp_path / "net.onnx")
    onnx.save(onnx.helper.make_model(net, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    run = CliRunner().invoke
    shown = run(app, ["show", path, "--stage", "c", "--bound", "batch=8"])
    assert shown.exit_code == 0
    assert "float *" in shown.stdout
    made = run(app, ["compile", path, "--out", str(tmp_path / "c"), "--bound", "batch=8"])
    assert made.exit_code == 0
    for bound, message in (("batch", "must be name=number"), ("size=3", "no dimension is named 'size'")):
        refused = run(app, ["show", path, "--bound", bound])
        assert isinstance(refused.exception, ArgumentError)
        assert message in str(refused.exception)


def test_accuracy_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import numpy as np\nfrom intaglio import nn\n"
        "net = nn.Linear(256, 256)\nexample_inputs = [np.ones((128, 256), np.float32)]\n"
    )
    show = ["show", f"{tmp_path / 'net.py'}:net", "--stage", "loop", "--target", "x86-64-v4"]
    texts = [
        CliRunner().invoke(app, [*show, "--accuracy", name]).stdout
        for name in ("high", "standard", "relaxed")
    ]
    assert texts[0] == texts[1] != texts[2]
    assert CliRunner().invoke(app, [*show, "--accuracy", "low"]).exit_code == 2
