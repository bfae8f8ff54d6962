"""Matrix products, convolutions and normalizations against PyTorch: values and derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against_torch import compare

from intaglio.ops.compositions import convolution as conv
from intaglio.ops.compositions import linear as lin
from intaglio.ops.compositions import normalization as norm
from intaglio.shared.errors import ArgumentError, ShapeError

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)),
        ((6, 1, 2, 3), (5, 3, 4)),
        ((2, 3), (7, 5, 3, 4)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((1, 1, 2, 3), (1, 3, 4)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
    ],
)
def test_matmul(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    compare(lin.matmul, torch.matmul, [rng.standard_normal(left), rng.standard_normal(right)])


def test_matmul_says_what_differs() -> None:
    with pytest.raises(
        ShapeError, match=r"matmul: the last dimension of a\[2, 3\] is 3 but b\[4, 5\] wants 4"
    ):
        lin.matmul(np.ones((2, 3)), np.ones((4, 5)))
    with pytest.raises(ShapeError, match=r"axis . is 2"):
        lin.matmul(np.ones((2, 2, 3)), np.ones((3, 3, 5)))


def test_linear() -> None:
    for shape in [(2, 3), (3,), (2, 5, 3)]:
        x, w, b = rng.standard_normal(shape), rng.standard_normal((4, 3)), rng.standard_normal(4)
        compare(lin.linear, F.linear, [x, w, b])
        compare(lin.linear, F.linear, [x, w])
    with pytest.raises(ShapeError, match="linear"):
        lin.linear(np.ones((2, 4)), np.ones((4, 3)))
    a, b, w = rng.standard_normal((2, 3)), rng.standard_normal((2, 4)), rng.standard_normal((5, 3, 4))
    compare(lin.bilinear, F.bilinear, [a, b, w, rng.standard_normal(5)])
    compare(lin.outer, torch.outer, [rng.standard_normal(3), rng.standard_normal(2)])


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ii->i", [(3, 3)]),
        ("ii", [(3, 3)]),
        ("iij->j", [(3, 3, 2)]),
        ("i,i->", [(3,), (3,)]),
        ("i,i->i", [(3,), (3,)]),
        ("i,j->ij", [(3,), (4,)]),
        ("i,j->ji", [(3,), (4,)]),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)]),
        ("...ij,jk->...ik", [(2, 5, 2, 3), (3, 4)]),
        ("...i->...", [(2, 3)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)]),
        ("abc,b,c->a", [(2, 3, 4), (3,), (4,)]),
        ("ab,cd->dac", [(2, 3), (4, 5)]),
        ("ij,ik->ijk", [(2, 3), (2, 4)]),
        ("a b, b c -> a c", [(2, 3), (3, 4)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [rng.standard_normal(s) for s in shapes]
    compare(lambda *x: lin.einsum(equation, *x), lambda *x: torch.einsum(equation, *x), arrays)


def test_einsum_refuses() -> None:
    with pytest.raises(ArgumentError, match="names 2 operands, got 1"):
        lin.einsum("ij,jk->ik", np.ones((2, 3)))
    with pytest.raises(ArgumentError, match="does not name 3 dimensions"):
        lin.einsum("ij->i", np.ones((2, 3, 4)))
    with pytest.raises(ShapeError, match="axis j"):
        lin.einsum("ij,jk->ik", np.ones((2, 3)), np.ones((4, 2)))
    with pytest.raises(ArgumentError, match="repeats an axis"):
        lin.einsum("ij->ii", np.ones((2, 3)))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"padding": "same"}]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution(rank: int, options: dict, groups: int) -> None:
    x = rng.standard_normal((2, 4, 7, 6, 5)[: rank + 2])
    w, b = rng.standard_normal((6, 4 // groups, *(3, 2, 3)[:rank])), rng.standard_normal(6)
    ours, theirs = getattr(conv, f"conv{rank}d"), getattr(F, f"conv{rank}d")
    options = {**options, "groups": groups}
    compare(lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), [x, w, b])
    compare(lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), [x[0], w])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "output_padding": 1}, {"dilation": 2, "padding": 1}]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolution(rank: int, options: dict, groups: int) -> None:
    x = rng.standard_normal((2, 4, 4, 3, 2)[: rank + 2])
    w, b = rng.standard_normal((4, 6 // groups, *(3, 2, 3)[:rank])), rng.standard_normal(6)
    theirs = getattr(F, f"conv_transpose{rank}d")
    options = {**options, "groups": groups}
    compare(lambda *a: conv.conv_transpose(*a, **options), lambda *a: theirs(*a, **options), [x, w, b])


def test_convolution_refuses() -> None:
    x, w = np.ones((1, 3, 5, 5)), np.ones((4, 3, 3, 3))
    with pytest.raises(ShapeError, match="conv"):
        conv.conv2d(x, np.ones((4, 2, 3, 3)))
    with pytest.raises(ShapeError, match="conv2d"):
        conv.conv2d(np.ones((5, 5)), w)
    with pytest.raises(ArgumentError, match="stride"):
        conv.conv2d(x, w, stride=(1, 2, 3))
    with pytest.raises(ArgumentError, match="same"):
        conv.conv2d(x, w, stride=2, padding="same")
    with pytest.raises(ShapeError, match="does not fit"):
        conv.conv2d(np.ones((1, 3, 2, 2)), w)


def test_layer_and_rms_norm() -> None:
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    compare(
        lambda x, w, b: norm.layer_norm(x, (3, 4), w, b),
        lambda x, w, b: F.layer_norm(x, (3, 4), w, b),
        [x, w, b],
    )
    compare(lambda x: norm.layer_norm(x, 4), lambda x: F.layer_norm(x, (4,)), [x])
    compare(lambda x, w: norm.rms_norm(x, (4,), w), lambda x, w: F.rms_norm(x, (4,), w), [x, w[0]])
    compare(lambda x: norm.rms_norm(x, 4, None, 1e-3), lambda x: F.rms_norm(x, (4,), None, 1e-3), [x])
    with pytest.raises(ShapeError, match="layer_norm"):
        norm.layer_norm(x, (3,))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    x, w, b = rng.standard_normal(shape), rng.standard_normal(3), rng.standard_normal(3)
    mean, var = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    statistics = torch.tensor(mean), torch.tensor(var)
    compare(
        lambda x, w, b: norm.batch_norm(x, mean, var, w, b),
        lambda x, w, b: F.batch_norm(x, *statistics, w, b),
        [x, w, b],
    )
    compare(lambda x: norm.batch_norm(x, mean, var), lambda x: F.batch_norm(x, *statistics), [x])

    def theirs(x, w, b):
        return F.batch_norm(x, None, None, w, b, training=True)

    compare(lambda *a: norm.batch_norm_training(*a)[0], theirs, [x, w, b])
    _, mean, var = norm.batch_norm_training(x, w, b)
    np.testing.assert_allclose(mean, x.mean((0, *range(2, x.ndim))))
    np.testing.assert_allclose(var, x.var((0, *range(2, x.ndim)), ddof=1))
    with pytest.raises(ShapeError, match="variance"):
        norm.batch_norm_training(np.ones((1, 3)))


def test_group_and_instance_norm() -> None:
    x, w, b = rng.standard_normal((2, 6, 3, 4)), rng.standard_normal(6), rng.standard_normal(6)
    compare(lambda x, w, b: norm.group_norm(x, 3, w, b), lambda x, w, b: F.group_norm(x, 3, w, b), [x, w, b])
    compare(norm.instance_norm, lambda x, w, b: F.instance_norm(x, weight=w, bias=b), [x, w, b])
    compare(lambda x: norm.local_response_norm(x, 3), lambda x: F.local_response_norm(x, 3), [x])
    compare(lambda x: norm.local_response_norm(x, 2), lambda x: F.local_response_norm(x, 2), [x])
    compare(norm.normalize, F.normalize, [x])
    compare(lambda x: norm.normalize(x, 1, 2), lambda x: F.normalize(x, 1, 2), [x])
    with pytest.raises(ShapeError, match="4 groups"):
        norm.group_norm(x, 4)
