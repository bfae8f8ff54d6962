"""Files made to harm: each is refused with a clear error, in little time and memory, and nothing in it
becomes code or a path."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model, node, run_compiled

from intaglio.__main__ import main
from intaglio.compile import compile_graph
from intaglio.loop.text import parse_program, print_program
from intaglio.readers.onnx import load
from intaglio.readers.onnx.limits import Limits
from intaglio.shared.errors import FileFormatError, IntaglioError, UnsupportedError

X = {"x": np.ones((2, 3), np.float32)}
HUGE = np.array([1 << 40, 1 << 20])
NAMES = ("*/ int evil; /*", 'a"b\\', "line\nbreak", "../../x", "/etc/passwd", "??/", "\u202eevil",
         "%s%n", "int", "main", "\x00", "[/red]", "é" * 40, "a" * 3000, "$(id)", "#define x",
         "x.y", "x_y")  # fmt: skip


def big(*values: int) -> dict[str, Any]:
    return {"s": np.array(values, np.int64)}


def nested(depth: int) -> onnx.ModelProto:
    inner = helper.make_graph([node("Relu", "x", out="r0")], "inner", [], [_any("r0")])
    for level in range(1, depth):
        branch = helper.make_node("If", ["c"], [f"r{level}"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([branch], "inner", [], [_any(f"r{level}")])
        if inner.ByteSize() > 1 << 20:
            break
    last = inner.output[0].name
    graph = helper.make_graph(list(inner.node), "g", [helper.make_tensor_value_info("x", 1, [2]),
                              helper.make_tensor_value_info("c", 9, [])], [_any(last)])  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def _any(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)


def functions(bodies: dict[str, list[str]]) -> onnx.ModelProto:
    """A model that calls `f0`; each function calls others, one after the other."""
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    made = []
    for name, calls in bodies.items():
        nodes = [helper.make_node(op, [f"v{k}"], [f"v{k + 1}"], domain="own" if op in bodies else "")
                 for k, op in enumerate(calls)]  # fmt: skip
        made.append(helper.make_function("own", name, ["v0"], [f"v{len(calls)}"], nodes, sets))
    graph = helper.make_graph([helper.make_node("f0", ["x"], ["y"], domain="own")], "g",
                              [helper.make_tensor_value_info("x", 1, [2])], [_any("y")])  # fmt: skip
    return helper.make_model(graph, opset_imports=sets, functions=made)


def external(location: str, **entries: str) -> onnx.ModelProto:
    proto = model([node("Add", "x", "w")], X, {"w": np.ones(3, np.float32)})
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    return proto


def edited(change: Any, nodes: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    proto = model(nodes or [node("Exp", "x")], X, {"w": np.ones(3, np.float32)})
    change(proto)
    return proto


def doubling(steps: int) -> onnx.ModelProto:
    """A weight joined with itself again and again."""
    nodes = [node("Concat", f"w{k}", f"w{k}", out=f"w{k + 1}", axis=0) for k in range(steps)]
    return model([*nodes, node("Mul", "x", f"w{steps}")], X, {"w0": np.ones(1 << 10, np.float32)})


def forever(count: int) -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", "go", out="go2"), node("Add", "v", "v", out="v2")], "body",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in
         (("k", 7, []), ("go", 9, []), ("v", 1, [3]))],
        [_any("go2"), _any("v2")],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["count", "", "w"], ["last"], body=body)
    weights = {"count": np.int64(count), "w": np.ones(3, np.float32)}
    return model([loop, node("Mul", "x", "last")], X, weights)


CASES: dict[str, tuple[Any, str]] = {
    "huge input": (edited(lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].__setattr__(
        "dim_value", 1 << 50)), "more than"),
    "many axes": (edited(lambda m: m.graph.input[0].type.tensor_type.shape.dim.extend(
        [onnx.TensorShapeProto.Dimension(dim_value=1)] * 99)), "axes"),
    "negative extent": (edited(lambda m: m.graph.initializer[0].dims.__setitem__(0, -3)), "negative"),
    "huge weight": (edited(lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 60)), "claims"),
    "element type": (edited(lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", 77)),
                     "element type"),
    "cycle": (model([node("Add", "x", "b", out="a"), node("Exp", "a", out="b")], X, outputs=["b"]),
              "before it is used"),
    "missing weight": (model([node("Add", "x", "nothing")], X), "nothing"),
    "defined twice": (model([node("Exp", "x"), node("Neg", "x")], X), "twice"),
    "future operators": (model([node("Exp", "x")], X, opset=99), "99"),
    "unknown operator": (model([node("Evil*/\n", "x")], X), "Evil"),
    "unknown domain": (model([node("Exp", "x", domain="evil.corp")], X), "evil.corp"),
    "unknown attribute": (model([node("Exp", "x", harmless=1)], X), "harmless"),
    "attribute kind": (model([node("Softmax", "x", axis=1.5)], X), "kind"),
    "axis": (model([node("Softmax", "x", axis=1 << 40)], X), "axis"),
    "wrong types": (model([node("Add", "x", "w")], X, {"w": np.ones(3, np.int64)}), "i64"),
    "too many inputs": (model([node("Exp", "x", "x")], X), "inputs"),
    "no graph": (b"", "no ONNX graph"),
    "other format": (b"PK\x03\x04" + bytes(100), "not an ONNX model"),
    "name not text": (edited(lambda m: None).SerializeToString().replace(b"\n\x01x", b"\n\x01\xff"), "UTF-8"),
    "constant bomb": (model([node("ConstantOfShape", "s", out="c"), node("Mul", "x", "c")], X,
                            {"s": HUGE}), "more than"),
    "expand bomb": (model([node("Expand", "w", "s", out="c"), node("Mul", "x", "c")], X,
                          {"w": np.ones(1, np.float32), "s": HUGE}), "bytes"),
    "tile bomb": (model([node("Tile", "w", "s", out="c"), node("Mul", "x", "c")], X,
                        {"w": np.ones((2, 2), np.float32), "s": HUGE}), "bytes"),
    "range bomb": (model([node("Range", "a", "b", "d", out="c"), node("Add", "x", "c")], X,
                         {"a": np.float32(0), "b": np.float32(1e15), "d": np.float32(1)}), "elements"),
    "pad bomb": (model([node("Pad", "w", "s", out="c"), node("Mul", "x", "c")], X,
                       {"w": np.ones(1, np.float32), **big(0, 1 << 40)}), "bytes"),
    "resize bomb": (model([node("Resize", "x", "", "f", mode="linear")], X,
                          {"f": np.float32([1e9, 1e9])}), "at most"),
    "split bomb": (model([node("Split", "x", out=["y"], num_outputs=1 << 60)], X), "num_outputs"),
    "doubling": (doubling(60), "bytes"),
    "product bomb": (model([node("ConstantOfShape", "s", out="c"), *(
        node("MatMul", "c" if k == 0 else f"m{k}", "c", out=f"m{k + 1}") for k in range(400)),
        node("Mul", "x", "m400")], X, big(2000, 2000)), "compute|memory"),
    "recursive function": (functions({"f0": ["f1"], "f1": ["f0"]}), "calls itself"),
    "exploding functions": (functions({**{f"f{k}": [f"f{k + 1}"] * 8 for k in range(20)}, "f20": ["Exp"]}),
                            "expands"),
    "outside": (external("../secret"), "cannot|not loaded|outside"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_hostile_files_are_refused_soon(name: str) -> None:
    source, message = CASES[name]
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(IntaglioError, match=message) as caught:
        compile_graph(load(source if isinstance(source, bytes) else source.SerializeToString()))
    assert time.process_time() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 << 20
    assert len(str(caught.value)) < 2000


def test_deep_nesting_ends() -> None:
    with pytest.raises(IntaglioError, match=r"nested|ONNX"):
        load(chain_of_branches(400))
    assert len(load(nested(5)).nodes) == 1


def chain_of_branches(depth: int) -> onnx.ModelProto:
    """Branches inside of branches, as deep as wanted; built outwards without copying twice."""
    empty = helper.make_graph([node("Relu", "x", out="e")], "else", [], [_any("e")])
    root = onnx.ModelProto(opset_import=[helper.make_opsetid("", 18)])
    root.graph.name = "deep"
    root.graph.input.extend([helper.make_tensor_value_info("x", 1, [2]),
                             helper.make_tensor_value_info("c", 9, [])])  # fmt: skip
    graph = root.graph
    for level in range(depth):
        graph.output.extend([_any(f"r{level}")])
        made = graph.node.add(op_type="If", input=["c"], output=[f"r{level}"])
        then = made.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        other = made.attribute.add(name="else_branch", type=onnx.AttributeProto.GRAPH)
        other.g.CopyFrom(empty)
        graph = then.g
    graph.CopyFrom(empty)
    return root


def test_loops_without_end_compile_in_bounded_time() -> None:
    started = time.process_time()
    with contextlib.suppress(IntaglioError):
        compile_graph(load(forever(1 << 60)))
    assert time.process_time() - started < 20


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link", "fifo", "", ".", "a\0b",
                                      "missing", "x" * 5000, "folder", "short"])  # fmt: skip
def test_external_data_is_a_file_of_the_directory(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(12))
    (folder / "short").write_bytes(bytes(4))
    (folder / "link").symlink_to(tmp_path / "secret.bin")
    os.mkfifo(folder / "fifo")
    (folder / "m.onnx").write_bytes(external(location).SerializeToString())
    with pytest.raises(FileFormatError):
        load(folder / "m.onnx")


@pytest.mark.parametrize("entries", [{"offset": "-1"}, {"offset": str(1 << 70)}, {"length": "9" * 5000},
                                     {"offset": "x"}, {"length": "3"}])  # fmt: skip
def test_places_in_external_data_are_checked(entries: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(12))
    (tmp_path / "m.onnx").write_bytes(external("w.bin", **entries).SerializeToString())
    with pytest.raises(FileFormatError):
        load(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(external("w.bin", offset="0", length="12").SerializeToString())
    assert load(tmp_path / "m.onnx").inputs[0].name == "x"


def test_limits_can_be_set() -> None:
    proto = model([node("Tile", "w", "s")], X, {"w": np.ones(3, np.float32), **big(1 << 12)})
    assert load(proto).inputs
    with pytest.raises(UnsupportedError, match="bytes"):
        load(proto, limits=Limits(array_bytes=1 << 10))
    with pytest.raises(UnsupportedError, match="too many operators"):
        load(proto, limits=Limits(operators=0))


def hostile_names() -> onnx.ModelProto:
    """One chain per name; inputs, weights, values, nodes and outputs are all called so."""
    nodes, inputs, weights = [], {}, {}
    for name in NAMES:
        nodes.append(helper.make_node("Mul", [name, f"w{name}"], [f"v{name}"], name=name, doc_string=name))
        nodes.append(helper.make_node("Exp", [f"v{name}"], [f"o{name}"], name=f"e{name}"))
        inputs[name], weights[f"w{name}"] = np.full((2,), 0.5, np.float32), np.float32([1, 2])
    proto = model(nodes, inputs, weights, outputs=[f"o{name}" for name in NAMES])
    proto.graph.name, proto.graph.doc_string = '../*/ g "\n', "*/ evil"
    proto.producer_name = "*/ evil /*"
    return onnx.load_from_string(proto.SerializeToString())


def test_names_stay_out_of_code_and_paths(tmp_path: Path) -> None:
    proto = hostile_names()
    inputs = {name: np.full((2,), 0.5, np.float32) for name in NAMES}
    for got in run_compiled(proto, inputs):
        np.testing.assert_allclose(got, np.exp(np.float32([0.5, 1])), rtol=1e-6)
    compiled = compile_graph(load(proto))
    text = print_program(compiled.program)
    assert print_program(parse_program(text)) == text
    folder = compiled.export_c(tmp_path / "out")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"[A-Za-z0-9_.]+", path.name) for path in files)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]
    for path in (p for p in files if p.suffix in (".c", ".h", ".txt", ".md")):
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        assert "evil;" not in code
        assert "??" not in path.read_text()
        assert path.read_text().isascii()


def test_the_command_line_cleans_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    onnx.save(hostile_names(), tmp_path / "m.onnx")
    out = tmp_path / "results" / "here"
    monkeypatch.setattr("sys.argv", ["intaglio", "run", str(tmp_path / "m.onnx"), "--output", str(out)])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    assert len(list(out.iterdir())) == len(NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "results"]
    assert "\x00" not in capsys.readouterr().out


def test_markup_in_errors_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "m.onnx").write_bytes(model([node("[/red]\x1b[31m", "x")], X).SerializeToString())
    monkeypatch.setattr("sys.argv", ["intaglio", "show", str(tmp_path / "m.onnx")])
    with pytest.raises(SystemExit) as done:
        main()
    shown = capsys.readouterr().err
    assert done.value.code == 1
    assert "[/red]" in shown
    assert "\x1b[31m[" not in shown


def test_typed_data_that_does_not_fit() -> None:
    proto = model([node("Add", "x", "w")], X, {"w": np.ones(3, np.float32)})
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    weight.ClearField("raw_data")
    weight.float_data.extend([1, 2])
    proto.graph.initializer[0].CopyFrom(weight)
    with pytest.raises(FileFormatError):
        load(proto)
