"""ONNX operators over windows: convolution, pooling and their relatives with all attributes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import assert_agree, case, f32, with_reference, with_runtime

IMAGE, ODD = f32(2, 4, 7, 6), f32(1, 2, 5, 6)
CONVOLUTIONS = {
    "plain": case("Conv", IMAGE, f32(3, 4, 3, 2), f32(3), known=(1, 2)),
    "pads": case("Conv", IMAGE, f32(3, 4, 3, 2), known=(1,), pads=[1, 0, 2, 1], strides=[2, 1]),
    "groups": case("Conv", IMAGE, f32(6, 2, 3, 3), known=(1,), group=2, dilations=[2, 1]),
    "same_upper": case("Conv", IMAGE, f32(2, 4, 2, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "same_lower": case("Conv", IMAGE, f32(2, 4, 2, 3), auto_pad="SAME_LOWER", strides=[2, 1]),
    "valid": case("Conv", IMAGE, f32(2, 4, 2, 3), auto_pad="VALID"),
    "line": case("Conv", f32(2, 3, 9), f32(4, 3, 3), pads=[2, 1]),
    "space": case("Conv", f32(1, 2, 4, 5, 3), f32(2, 2, 2, 2, 2), pads=[1, 0, 0, 0, 1, 1]),
    "transposed": case("ConvTranspose", ODD, f32(2, 3, 3, 3), f32(3), strides=[3, 2]),
    "transposed_pads": case("ConvTranspose", ODD, f32(2, 3, 3, 3), strides=[2, 2], pads=[1, 0, 2, 1],
                            output_padding=[1, 0]),
    "transposed_shape": case("ConvTranspose", ODD, f32(2, 3, 3, 3), strides=[3, 2], output_shape=[16, 13]),
    "transposed_same": case("ConvTranspose", ODD, f32(2, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    "transposed_groups": case("ConvTranspose", ODD, f32(2, 2, 2, 3), group=2, dilations=[2, 1]),
}  # fmt: skip
WILD = np.where(np.arange(54).reshape(2, 3, 3, 3) == 23, np.float32(np.inf), f32(2, 3, 3, 3))
INFINITE = {
    "plain": case("ConvTranspose", ODD, WILD, known=(1,), pads=[1, 0, 0, 1]),
    "strided": case("ConvTranspose", ODD, WILD, known=(1,), strides=[2, 2]),
    "dilated": case("ConvTranspose", ODD, WILD, known=(1,), strides=[3, 3], dilations=[2, 2]),
}
POOLS = {
    "max": case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2]),
    "max_dilated": case("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 3], pads=[1, 1, 1, 0]),
    "max_ceil": case("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max_indices": case("MaxPool", IMAGE, outputs=2, kernel_shape=[2, 2], strides=[2, 1], pads=[1, 0, 0, 1]),
    "max_column_major": case("MaxPool", IMAGE, outputs=2, kernel_shape=[2, 2], storage_order=1),
    "max_bytes": case("MaxPool", np.arange(24, dtype=np.uint8).reshape(1, 1, 4, 6), kernel_shape=[2, 2]),
    "max_same": case("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    "average": case("AveragePool", IMAGE, kernel_shape=[3, 2], pads=[1, 0, 1, 1]),
    "average_pads": case("AveragePool", IMAGE, kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1),
    "average_ceil": case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "average_dilated": case("AveragePool", IMAGE, kernel_shape=[2, 2], dilations=[3, 2], pads=[1, 1, 1, 1]),
    "lp": case("LpPool", IMAGE, kernel_shape=[3, 2], p=3, pads=[1, 1, 0, 0]),
    "global": case("GlobalAveragePool", IMAGE),
    "global_max": case("GlobalMaxPool", IMAGE),
    "global_lp": case("GlobalLpPool", IMAGE, p=3),
    "regions": case("MaxRoiPool", IMAGE, np.array([[0, 0, 0, 4, 3], [1, 1.5, 2, 9, 9]], np.float32),
                    pooled_shape=[3, 2], spatial_scale=0.7),
}  # fmt: skip
ROIS = np.array([[0.5, 0.2, 3.5, 5.1], [-2, 1, 4, 9]], np.float32)
BATCH = np.array([1, 0], np.int64)
ALIGN = {"output_height": 2, "output_width": 3, "spatial_scale": 0.8}
ALIGNED = {
    "aligned": case("RoiAlign", IMAGE, ROIS, BATCH, sampling_ratio=2, **ALIGN),
    "aligned_max": case("RoiAlign", IMAGE, ROIS, BATCH, sampling_ratio=3, mode="max", **ALIGN),
    "aligned_old": case("RoiAlign", IMAGE, ROIS, BATCH, sampling_ratio=2,
                        coordinate_transformation_mode="output_half_pixel", **ALIGN),
    "aligned_adaptive": case("RoiAlign", IMAGE, ROIS, BATCH, known=(1,), **ALIGN),
}  # fmt: skip
OFFSETS = f32(1, 2 * 4, 4, 5)
REFERENCE_ONLY = {
    "deformed": case("DeformConv", f32(1, 4, 5, 6), f32(2, 2, 2, 2), OFFSETS, f32(2), f32(1, 4, 4, 5),
                     group=2),
    "columns": case("Col2Im", f32(2, 12, 6), np.array([4, 5]), np.array([2, 3]), known=(1, 2),
                    strides=[2, 1]),
    "unpooled": case("MaxUnpool", np.array([[[[1, 2], [3, 4]]]], np.float32),
                     np.array([[[[5, 7], [13, 15]]]]), kernel_shape=[2, 2], strides=[2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("cases", [CONVOLUTIONS, POOLS, ALIGNED], ids=["convolutions", "pools", "aligned"])
def test_windows_agree_with_the_runtime(cases: dict[str, object]) -> None:
    pytest.importorskip("onnxruntime")
    assert_agree(cases, 19, with_runtime)  # type: ignore[arg-type]


def test_weights_that_are_not_finite_stay_where_they_are() -> None:
    """A transposed convolution has no products with what lies outside of the image or between its rows."""
    pytest.importorskip("onnxruntime")
    assert_agree(INFINITE, 19, with_runtime)  # type: ignore[arg-type]


def test_rare_windows_agree_with_the_reference() -> None:
    assert_agree(REFERENCE_ONLY, 19, with_reference)
