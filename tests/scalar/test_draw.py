"""Pictures of graphs and loops: every value and kernel is in them, nothing overlaps, arrows run forward."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scalar_models import MODELS, moons, perceptron, xor

from intaglio import scalar
from intaglio.scalar import Value, draw
from intaglio.scalar.layout import arrange, layers_of, spread
from intaglio.scalar.picture import Picture
from intaglio.shared.errors import ArgumentError, TraceError

SVG = "{http://www.w3.org/2000/svg}"


def neuron() -> Value:
    a, b, c = Value(2.0), Value(-3.0), Value(10)
    loss = (a * b + c).relu() + b**2 + a
    loss.backward()
    return loss


def texts(picture: Picture) -> list[str]:
    root = ElementTree.fromstring(picture.svg)
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def rectangles(picture: Picture) -> list[tuple[float, float, float, float]]:
    root = ElementTree.fromstring(picture.svg)
    names = ("x", "y", "width", "height")
    return [tuple(float(r.attrib[n]) for n in names) for r in root.iter(f"{SVG}rect")]  # type: ignore[misc]


def test_a_graph_is_drawn_as_micrograd_does() -> None:
    picture = draw(neuron())
    assert sorted(t for t in texts(picture) if not t.startswith(("data", "grad"))) == sorted(
        ["*", "+", "ReLU", "**2", "+", "+"]
    )
    assert {"data 2.0000", "grad -2.0000", "data -3.0000", "data 15.0000"} <= set(texts(picture))
    assert len(picture.boxes) == 9 + 6
    assert len(picture.arrows) == 6 + 10
    assert picture._repr_svg_() == picture.svg
    assert repr(picture) == "<Picture of a scalar graph: 15 boxes, 16 arrows>"


def test_dot_has_the_same_boxes_and_arrows() -> None:
    picture = draw(neuron())
    assert len(re.findall(r"^    n\d+ \[", picture.dot, re.M)) == len(picture.boxes)
    assert [(int(a), int(b)) for a, b in re.findall(r"n(\d+) -> n(\d+);", picture.dot)] == list(
        picture.arrows
    )
    assert 'shape="record", label="{ data\\ 2.0000 | grad\\ -2.0000 }"' in picture.dot
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=picture.dot, text=True, check=True, capture_output=True)


@pytest.mark.parametrize("build", [xor, lambda: moons(2)])
def test_boxes_do_not_overlap_and_arrows_run_forward(build: object) -> None:
    loss = build().outputs[0]  # type: ignore[operator]
    picture = draw(loss, limit=2000)
    found = rectangles(picture)
    assert len(found) == len(picture.boxes)
    for (x, y, w, h), (a, b, c, d) in combinations(found, 2):
        assert x + w <= a + 0.2 or a + c <= x + 0.2 or y + h <= b + 0.2 or b + d <= y + 0.2
    assert all(found[a][0] + found[a][2] < found[b][0] for a, b in picture.arrows)


def test_micrograd_values_are_drawn() -> None:
    engine = pytest.importorskip("micrograd.engine")
    a, b = engine.Value(2.0), engine.Value(3.0)
    picture = draw((a * b + a).relu())
    assert [t for t in texts(picture) if not t.startswith(("data", "grad"))].count("ReLU") == 1
    assert len(picture.arrows) == 2 + 1 + 2 + 1 + 1 + 1


@pytest.mark.parametrize("name", MODELS)
def test_loops_are_drawn(name: str) -> None:
    model = MODELS[name]()
    program = scalar.compile(tuple(model.outputs), model.inputs, model.parameters, toolchain="tcc")
    picture = draw(program)
    found = rectangles(picture)
    assert all(found[a][1] + found[a][3] < found[b][1] for a, b in picture.arrows)
    words = "\n".join(texts(picture))
    assert all(kernel.name in words for kernel in program.engine.program.kernels)  # type: ignore[attr-defined]


def test_loops_are_described() -> None:
    model = perceptron()
    program = scalar.compile(model.outputs[0], model.inputs, model.parameters, toolchain="tcc")
    found = texts(draw(program))
    assert {"compute_z1", "7 sums of 20", "w1: 140", "x1: 20", "5 x 7 values"} <= set(found)
    assert "z1 = b1 + sum of 20 (w1 * x1)  (matrix-vector product 7 x 20)" in found


def test_pictures_are_saved(tmp_path: Path) -> None:
    picture = draw(neuron())
    picture.save(tmp_path / "graph.svg")
    picture.save(str(tmp_path / "graph.dot"))
    assert (tmp_path / "graph.svg").read_text() == picture.svg
    assert (tmp_path / "graph.dot").read_text() == picture.dot
    with pytest.raises(ArgumentError, match=r"'graph.png' ends in neither \.svg nor \.dot"):
        picture.save(tmp_path / "graph.png")


def test_what_cannot_be_drawn_is_refused() -> None:
    loss = sum((Value(1.0) * Value(2.0) for _ in range(300)), Value(0.0))
    with pytest.raises(ArgumentError, match="more than 400 values") as caught:
        draw(loss)
    assert "draw the program" in caught.value.hint
    assert len(draw(loss, limit=1201).boxes) == 1201 + 600
    with pytest.raises(ArgumentError, match="a list is neither a Value nor a compiled program"):
        draw([loss])
    a, b = Value(1.0), Value(2.0)
    c = a * b
    a._prev = (c, b)
    with pytest.raises(TraceError, match="has a cycle"):
        draw(c)
    program = scalar.compile(Value(1.0) * 2, [], engine="interpreted")
    with pytest.raises(ArgumentError, match="interpreted engine has no loops"):
        draw(program)
    random_program = scalar.compile(sum(w.tanh() for w in [Value(0.1)] * 9), [], toolchain="tcc")
    with pytest.raises(ArgumentError, match="kernels, more than 0"):
        draw(random_program, limit=0)


def test_numbers_of_any_size_fit() -> None:
    a = Value(1e300) * Value(float("nan"))
    assert {"data 1e+300", "data nan", "grad 0.0000"} <= set(texts(draw(a)))


def test_layout_of_random_graphs() -> None:
    rng = random.Random(0)
    for count in (1, 2, 30, 80):
        arrows = [(a, b) for b in range(1, count) for a in {rng.randrange(b), max(0, b - 3)}]
        layer = layers_of(count, arrows)
        assert all(layer[a] < layer[b] for a, b in arrows)
        plan = arrange([(rng.uniform(10, 60), rng.uniform(10, 40)) for _ in range(count)], arrows)
        assert len(plan.corners) == count
        assert all(0 <= x <= plan.width and 0 <= y <= plan.height for x, y in plan.corners)
        assert all(p[0] < q[0] for route in plan.routes for p, q in pairwise(route))


def test_boxes_are_spread_around_their_wishes() -> None:
    assert spread([0, 100, 200], [10, 10, 10]) == [0, 100, 200]
    assert spread([50, 50, 50], [10, 10, 10]) == [30, 50, 70]
    assert spread([10, 0], [10, 30]) == [-10, 20]
