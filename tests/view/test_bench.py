"""`intaglio bench`: other runtimes in turns, results compared first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from intaglio import command_timing
from intaglio.__main__ import app
from intaglio.shared.errors import ArgumentError
from intaglio.view import bench, race

PEER = "import sys\nprint('noise')\nprint('ready', flush=True)\nfor k, _ in enumerate(sys.stdin):\n"


def scripted(name: str, body: str) -> race.Peer:
    return race.Peer(name, [sys.executable, "-c", body], 1)


def test_onnx_runtime_beside_ours(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx.helper")
    import onnx

    w = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", 1, [4, 16])],
        [helper.make_tensor_value_info("y", 1, [4, 8])],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model)
    options = ["--vs", "onnxruntime,torch", "--rounds", "2", "--json"]
    result = CliRunner().invoke(app, ["bench", str(model), *options])
    assert result.exit_code == 0, result.output
    ours, theirs, torch = json.loads(result.stdout)["runs"][0]["peers"]
    assert (ours["name"], theirs["name"]) == ("intaglio", "onnxruntime")
    assert len(ours["seconds"]) == len(theirs["seconds"]) == 2
    assert theirs["minimum"] > 0
    assert theirs["times_ours"] > 0
    assert "PyTorch" in torch["failure"]


def test_runtimes_that_convert_pytorch_modules(tmp_path: Path) -> None:
    """Those of them that are installed; they are no requirement of the tests."""
    pytest.importorskip("torch")
    names = ("mnn", "ncnn", "litert", "executorch", "iree", "jax")
    installed = [name for name in names if not bench._missing(name, "model.onnx")]
    if not installed:
        pytest.skip(f"none of {', '.join(names)} is installed")
    code = """import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Tanh())
example_inputs = (torch.zeros(1, 16),)
"""
    (tmp_path / "net.py").write_text(code)
    x = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)
    (run,) = bench.bench(f"{tmp_path / 'net.py'}:model", [x], against=installed, rounds=1)
    assert {peer.name: peer.failure for peer in run.peers} == dict.fromkeys(["intaglio", *installed], "")


def test_ratios_are_of_the_same_round() -> None:
    a = scripted("a", PEER + "    print([1, 2, 40][k], flush=True)")
    b = scripted("b", PEER + "    print([3, 6, 80][k], flush=True)")
    gone = scripted("gone", "raise SystemExit('no such thing here')")
    ends = scripted("ends", PEER + "    print(1, flush=True) if k == 0 else exit('it stopped')")
    other = scripted("other", PEER + "    pass")
    refused = {"other": "its results differ"}
    speeds = race.compare([a, b, gone, ends, other], 3, accept=lambda peer: refused.get(peer.name, ""))
    assert len(speeds) == 3
    assert a.ratio(b) == 3
    assert (b.median, b.minimum) == (6, 3)
    assert gone.failure == "no such thing here"
    assert ends.failure == "it stopped"
    assert other.failure == "its results differ"
    assert not other.seconds
    found = race.record([a, b, gone], speeds)["peers"]
    assert found[1]["times_ours"] == 3
    assert found[2]["failure"] == gone.failure


def test_results_that_differ_say_by_how_much(tmp_path: Path) -> None:
    y = np.arange(4.0)
    for name, results in (("a", [y]), ("b", [y + 0.1]), ("c", [y, y]), ("d", [y[None]]), ("e", [y + 1e-5])):
        np.savez(tmp_path / name, *results)
    said = {k: bench._differs(tmp_path / "a", tmp_path / k) for k in "bcde"}
    assert "differ by 3.3e-02" in said["b"]
    assert "2 results, Intaglio 1" in said["c"]
    assert "[1, 4]" in said["d"]
    assert not said["e"]


def test_what_cannot_be_asked_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else object())
    assert "pip install openvino" in bench._missing("openvino", "model.onnx")
    assert "ONNX" in bench._missing("onnxruntime", None)
    assert set(bench.MODULES) == {*bench.RUNTIMES} - {"intaglio"}
    result = CliRunner().invoke(app, ["bench", "model.intaglio", "--vs", "tensorrt"])
    assert result.exit_code != 0
    with pytest.raises(ArgumentError, match="--threads is '1,x'"):
        command_timing._counts("1,x")
