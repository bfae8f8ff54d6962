"""One wrong program per message: the error is of its kind, names the facts, and comes where it should."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intaglio as ig
from intaglio import nn, optim
from intaglio.compile import compile_graph
from intaglio.graph.ir import Graph
from intaglio.graph.text import parse_graph
from intaglio.nn import functional as F
from intaglio.ops import lookup
from intaglio.saved import load
from intaglio.shared import dtypes
from intaglio.shared.errors import (
    ArgumentError,
    DTypeError,
    FileFormatError,
    IntaglioError,
    ParseError,
    ShapeError,
    ToolchainError,
    TraceError,
    UnsupportedError,
)
from intaglio.shared.types import TensorType

Case = tuple[type[IntaglioError], tuple[str, ...], Callable[[], Any]]


def t(*shape: int, dtype: str = "f4") -> ig.Tensor:
    return ig.tensor(np.ones(shape, dtype))


def double() -> Any:
    graph = Graph("double")
    x = graph.input(TensorType(dtypes.f32, (2, 3)), "x")
    graph.set_outputs([x + x])
    return compile_graph(graph, threads=1, opt="fast-compile")


@ig.jit
def branches(x: Any) -> Any:
    return x if x.sum() > 0 else -x


@ig.jit
def takes_item(x: Any) -> Any:
    return x * x.sum().item()


@ig.jit
def takes_mask(x: Any) -> Any:
    return x[x > 0]


leaked: list[Any] = []


@ig.jit
def leaks(x: Any) -> Any:
    leaked.append(x * 2)
    return x


def use_leaked() -> None:
    leaks(np.ones(3, np.float32))
    (leaked[-1] + 1).numpy()


def changed_operand() -> None:
    x = ig.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    y.numpy()  # from here on changes must reach the memory that was given out
    z = (y * y).sum()
    with ig.no_grad():
        y.add_(1)
    z.backward()


def in_place_on_leaf() -> None:
    x = ig.tensor([1.0], requires_grad=True)
    x.add_(1)


def scan_changes_carry() -> Any:
    @ig.jit
    def run(x: Any) -> Any:
        return ig.scan(lambda c, _: (ig.cat([c, c]), None), x, None, length=2)[0]

    return run(np.ones(2, np.float32))


def cond_branches_differ() -> Any:
    @ig.jit
    def run(x: Any) -> Any:
        return ig.cond(x.sum() > 0, lambda a: a, lambda a: a[0], x)

    return run(np.ones(2, np.float32))


def load_wrong_state() -> None:
    nn.Linear(2, 3).load_state_dict({"weight": np.zeros((3, 3), np.float32), "bias": np.zeros(3, np.float32)})


def missing_state() -> None:
    nn.Linear(2, 3).load_state_dict({"weight": np.zeros((3, 2), np.float32)})


CASES: dict[str, Case] = {
    "matmul_axis": (ShapeError, ("3", "4"), lambda: t(2, 3) @ t(4, 5)),
    "add_broadcast": (ShapeError, ("add", "[2, 3]", "[4]"), lambda: t(2, 3) + t(4)),
    "reshape_count": (ShapeError, ("reshape", "6", "4"), lambda: t(2, 3).reshape(4)),
    "reduce_axis": (ShapeError, ("2",), lambda: lookup("sum")(t(2, 3), axes=(2,))),
    "transpose_perm": (ShapeError, ("perm",), lambda: lookup("transpose")(t(2, 3), perm=(0, 0))),
    "concat_axis": (ShapeError, ("concat", "[2,3]", "[3,3]"), lambda: ig.cat([t(2, 3), t(3, 3)], 1)),
    "conv_channels": (ShapeError, ("conv", "3", "channels"), lambda: F.conv2d(t(1, 3, 5, 5), t(4, 2, 3, 3))),
    "conv_kernel": (ShapeError, ("kernel", "fit"), lambda: F.conv2d(t(1, 1, 2, 2), t(1, 1, 3, 3))),
    "pad_reflect": (ShapeError, ("pad", "reflect"), lambda: lookup("pad")(
        t(3), padding=((3, 0),), mode="reflect", value=0.0)),
    "slice_bounds": (ShapeError, ("slice",), lambda: lookup("slice")(t(3), start=(0,), stop=(5,), step=(1,))),
    "max_of_nothing": (ShapeError, ("no elements",), lambda: t(0).max()),
    "bits_of_floats": (DTypeError, ("xor", "f32"), lambda: t(2) ^ t(2)),
    "gather_float_index": (DTypeError, ("indices",), lambda: lookup("gather")(t(3), t(2), axes=(0,))),
    "gather_out_of_range": (ArgumentError, ("5", "3"), lambda: lookup("gather")(
        t(3), ig.tensor(np.array([5])), axes=(0,))),
    "index_out_of_range": (ArgumentError, ("7", "range"), lambda: t(3)[7]),
    "too_many_indices": (ArgumentError, ("indices", "1"), lambda: t(3)[0, 0]),
    "complex": (DTypeError, ("complex",), lambda: ig.tensor(np.ones(2, np.complex64))),
    "strings": (DTypeError, ("not supported",), lambda: ig.tensor(np.array(["a"]))),
    "ragged": (IntaglioError, ("tensor",), lambda: ig.tensor([[1.0], [1.0, 2.0]])),
    "item_of_many": (ArgumentError, ("item", "2"), lambda: t(2).item()),
    "len_of_scalar": (ShapeError, ("length",), lambda: len(t())),
    "int_requires_grad": (DTypeError, ("i64", "gradients"), lambda: ig.tensor([1], requires_grad=True)),
    "backward_of_many": (ShapeError, ("backward", "[2]"), lambda: (
        ig.tensor([1.0, 2.0], requires_grad=True) * 2).backward()),
    "backward_of_nothing": (ArgumentError, ("backward",), lambda: t(1).sum().backward()),
    "changed_operand": (ArgumentError, ("in place", "mul"), changed_operand),
    "in_place_on_leaf": (ArgumentError, ("leaf",), in_place_on_leaf),
    "branch_on_value": (TraceError, ("traced", "where"), lambda: branches(np.ones(3, np.float32))),
    "item_while_traced": (TraceError, ("traced",), lambda: takes_item(np.ones(3, np.float32))),
    "mask_while_traced": (TraceError, ("depends on values",), lambda: takes_mask(np.ones(3, np.float32))),
    "leaked_tracer": (TraceError, ("traced",), use_leaked),
    "jit_argument": (ArgumentError, ("tensors, arrays or plain values",), lambda: branches({1, 2})),
    "scan_carry": (ShapeError, ("carry", "f32[2]", "f32[4]"), scan_changes_carry),
    "cond_branches": (ShapeError, ("cond",), cond_branches_differ),
    "call_arity": (ArgumentError, ("double", "2"), lambda: double()(np.ones((2, 3), np.float32), 1)),
    "call_shape": (ShapeError, ("x", "[2,3]"), lambda: double()(np.ones((3, 2), np.float32))),
    "call_dtype": (DTypeError, ("x", "f32"), lambda: double()(np.ones((2, 3), np.complex128))),
    "run_names": (ArgumentError, ("missing", "x"), lambda: double().run({"y": np.ones((2, 3))})),
    "opt_level": (ArgumentError, ("opt_level", "7"), lambda: compile_graph(Graph(), opt_level=7)),
    "threads": (ArgumentError, ("threads", "0"), lambda: compile_graph(Graph(), threads=0)),
    "unknown_pass": (ArgumentError, ("NoSuchPass",), lambda: compile_graph(
        Graph(), disabled_passes=["NoSuchPass"])),
    "unknown_target": (IntaglioError, ("z80",), lambda: compile_graph(Graph(), target="z80")),
    "not_a_model": (ArgumentError, ("int",), lambda: ig.compile(3)),
    "no_example_inputs": (ArgumentError, ("example_inputs",), lambda: ig.compile(nn.Linear(2, 3))),
    "not_onnx": (UnsupportedError, (".onnx",), lambda: ig.compile("model.pb")),
    "toolchain": (ToolchainError, ("no-such-compiler",), lambda: double_with("no-such-compiler")),
    "state_shape": (ShapeError, ("weight", "[3, 3]", "[3, 2]"), load_wrong_state),
    "state_missing": (IntaglioError, ("bias",), missing_state),
    "optimizer_lr": (ArgumentError, ("lr", "-1"), lambda: optim.SGD([t(1).requires_grad_()], lr=-1)),
    "no_saved_file": (FileFormatError, ("no file",), lambda: load("does-not-exist.intaglio")),
    "parse": (ParseError, ("1",), lambda: parse_graph("fn main( {", {})),
    "dropout_p": (ArgumentError, ("p",), lambda: F.dropout(t(3), 1.5)),
    "cross_entropy_classes": (IntaglioError, ("class",), lambda: F.cross_entropy(t(2, 3), t(4, dtype="i8"))),
    "grad_of_many": (ArgumentError, ("one number",), lambda: ig.grad(lambda x: x * 2)(t(3))),
}  # fmt: skip


def double_with(toolchain: str) -> Any:
    graph = Graph("double")
    x = graph.input(TensorType(dtypes.f32, (2,)), "x")
    graph.set_outputs([x + x])
    return compile_graph(graph, toolchain=toolchain)(np.ones(2, np.float32))


@pytest.mark.parametrize("name", CASES)
def test_message(name: str) -> None:
    kind, fragments, program = CASES[name]
    with pytest.raises(kind) as caught:
        program()
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)


def test_errors_of_operators_name_the_users_line() -> None:
    with pytest.raises(ShapeError) as caught:
        t(2, 3) + t(4)
    assert "test_errors.py" in str(caught.value)
    assert "t(2, 3) + t(4)" in str(caught.value)


@pytest.mark.parametrize("damage", ["truncate", "text", "weights", "member", "garbage"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "model.intaglio"
    model = nn.Linear(3, 2)
    ig.compile(model, [np.ones((1, 3), np.float32)]).save(path)
    data = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        path.write_bytes(b"not a zip file")
    else:
        rewrite(path, damage)
    with pytest.raises(FileFormatError) as caught:
        load(path)
    assert "model.intaglio" in str(caught.value)


def rewrite(path: Path, damage: str) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if damage == "text":
        parts["program.txt"] = parts["program.txt"].replace(b"add", b"mul")
    elif damage == "weights":
        weights = bytearray(parts["weights.safetensors"])
        weights[-1] ^= 255
        parts["weights.safetensors"] = bytes(weights)
    else:
        del parts["settings.json"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_saved_program_comes_back(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    compiled = ig.compile(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), [x])
    compiled.save(tmp_path / "model.intaglio")
    again = load(tmp_path / "model.intaglio")
    assert np.array_equal(again(x), compiled(x))
    assert again.source == compiled.source
