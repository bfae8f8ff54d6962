"""FakeQuantizationToInteger: where products become those of codes, where they must not, what they give."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.ir import Graph
from intaglio.graph.passes.fake_quantization import fake_quantization_to_integer
from intaglio.graph.text import parse_graph
from intaglio.shared import dtypes

RNG = np.random.default_rng(0)


def model(
    x: str,
    w: str,
    product: str,
    result: str,
    scales: tuple[str, str] = ("f32[] = 0.5", "f32[] = 0.25"),
    zero: str = "i32[] = 131",
) -> Graph:
    """Dequantised bytes `x` times dequantised constant bytes `w`."""
    values = RNG.integers(-128, 128, int(np.prod([int(e) for e in w.split(",")])))
    return parse_graph(f"""fn main(%x: u8[{x}]) {{
  const %w: i8[{w}] = {list(map(int, values))}
  const %zx: {zero}
  const %sx: {scales[0]}
  const %sw: {scales[1]}
  %x1: i32[{x}] = cast(%x, dtype=i32)
  %x2: i32[{x}] = broadcast(%zx, shape=({x},))
  %x3: i32[{x}] = sub(%x1, %x2)
  %x4: f32[{x}] = cast(%x3, dtype=f32)
  %x5: f32[{x}] = broadcast(%sx, shape=({x},))
  %x6: f32[{x}] = mul(%x4, %x5)
  %w1: i32[{w}] = cast(%w, dtype=i32)
  %w2: f32[{w}] = cast(%w1, dtype=f32)
  %w3: f32[{w}] = broadcast(%sw, shape=({w},))
  %w4: f32[{w}] = mul(%w2, %w3)
  %y: f32[{result}] = {product}
  return %y as y
}}""")


def types(graph: Graph) -> list[str]:
    return [str(node.outputs[0].dtype) for node in graph.nodes if node.op.name in ("dot", "conv")]


CONV = "conv(%x6, %w4, strides=(1, 1), dilations=(1, 1), padding=((1, 1), (0, 1)), groups=1)"
ROWS = "f32[5] = [0.5, 0.25, 0.0625, 0.01, 0.02]"
COLUMNS = 'dot(%x6, %w4, spec="mk,kn->mn")'
FITS = {
    "matrices": ("4,7", "7,5", COLUMNS, "4,5", ("f32[] = 0.03125", "f32[] = 0.0009")),
    "a scale for each column": ("4,7", "7,5", COLUMNS, "4,5", ("f32[] = 0.5", ROWS)),
    "a scale for each row": (
        *("5,7", "7,2", 'dot(%x6, %w4, spec="mk,kn->nm")', "2,5"),
        ("f32[5,1] = [1.0, 2.0, 3.0, 0.5, 0.1]", "f32[] = 0.1"),
    ),
    "images": (
        *("1,3,6,5", "4,3,3,2", CONV, "1,4,6,5"),
        ("f32[] = 0.3", "f32[4,1,1,1] = [0.1, 0.2, 0.3, 0.4]"),
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_products_of_codes(name):
    x, *rest = FITS[name]
    graph = model(x, *rest)
    made = fake_quantization_to_integer(graph)
    assert types(made) == ["i32"]
    codes = RNG.integers(0, 256, [int(e) for e in x.split(",")]).astype(np.uint8)
    before, after = graph.run(codes)[0], made.run(codes)[0]
    assert after.dtype == np.float32
    np.testing.assert_allclose(after, before, rtol=3e-6, atol=3e-6 * np.abs(before).max())


@pytest.mark.parametrize(
    ("scales", "zero"),
    [
        (("f32[7] = [0.5, 0.25, 0.125, 0.01, 0.02, 0.1, 1.0]", "f32[] = 0.1"), "i32[] = 3"),
        (("f32[] = 1e-30", "f32[] = 1e-20"), "i32[] = 3"),
        (("f32[] = 1e30", "f32[] = 1e20"), "i32[] = 3"),
        (("f32[] = 0.5", "f32[] = 0.25"), "i32[] = 100000"),
    ],
    ids=["a scale along the sum", "product too small", "product too large", "zero point of no byte"],
)
def test_what_stays(scales, zero):
    graph = model("4,7", "7,5", COLUMNS, "4,5", scales, zero)
    assert types(fake_quantization_to_integer(graph)) == ["f32"]


def test_long_sums_stay():
    """A sum of that many products might leave 32 bits."""
    graph = model("1,40000", "40000,1", COLUMNS, "1,1")
    assert types(fake_quantization_to_integer(graph)) == ["f32"]


def test_codes_of_no_product_are_dequantised():
    graph = model("4,7", "4,7", "mul(%x6, %w4)", "4,7")
    made = fake_quantization_to_integer(graph)
    assert sorted(str(c.type) for c in made.constants if c.type.rank == 2) == ["f32[4,7]"]
    codes = RNG.integers(0, 256, (4, 7)).astype(np.uint8)
    np.testing.assert_array_equal(made.run(codes)[0], graph.run(codes)[0])
    assert all(value.dtype != dtypes.i8 for value in made.constants)
