"""Resizing, sampling and transforms of ONNX with all attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_cases import Case, assert_agree, case, f32, with_reference, with_runtime

IMAGE = f32(1, 2, 5, 4)
SPACE = f32(1, 2, 3, 4, 3)


def resize(scales: Any = None, sizes: Any = None, roi: Any = None, x: Any = IMAGE, **attributes: Any) -> Case:
    """A Resize with constant sizes."""
    inputs = [x, None if roi is None else np.array(roi, np.float32)]
    inputs += [None if scales is None else np.array(scales, np.float32)]
    inputs += [] if sizes is None else [np.array(sizes, np.int64)]
    return case("Resize", *inputs, known=(1, 2, 3), **attributes)


KINDS = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric")
UP, DOWN = [1, 1, 1.7, 2.3], [1, 1, 0.6, 0.7]
CROP = [0, 0, 0.1, -0.2, 1, 1, 0.8, 1.3]
RESIZES = {
    **{f"nearest_{n}_{k}": resize(sizes=[1, 2, 8, 3], nearest_mode=n, coordinate_transformation_mode=k)
       for n in ("round_prefer_floor", "floor", "ceil") for k in KINDS[:3]},
    **{f"linear_{k}": resize(sizes=[1, 2, 8, 3], mode="linear", coordinate_transformation_mode=k)
       for k in KINDS},
    **{f"cubic_{k}": resize(sizes=[1, 2, 3, 9], mode="cubic", coordinate_transformation_mode=k)
       for k in KINDS},
    "scales": resize(UP, mode="linear"),
    "twice": resize([1, 1, 2, 3]),
    "outside": resize(DOWN, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
    "axes": resize(sizes=[7, 6], mode="linear", axes=[3, 2]),
    "smaller": resize(sizes=[7, 6], mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
    "larger": resize(sizes=[7, 6], mode="nearest", axes=[2, 3], keep_aspect_ratio_policy="not_smaller"),
    "antialias": resize(DOWN, mode="linear", antialias=1),
    "antialias_cubic": resize([1, 1, 0.3, 0.5], mode="cubic", antialias=1, x=f32(1, 1, 11, 8)),
    "crop": resize(sizes=[1, 2, 4, 3], roi=CROP, mode="linear", extrapolation_value=9.0,
                   coordinate_transformation_mode="tf_crop_and_resize"),
}  # fmt: skip
OLD = {
    "nearest": case("Resize", IMAGE, np.array(DOWN, np.float32), known=(1,)),
    "linear": case("Resize", IMAGE, np.array(UP, np.float32), known=(1,), mode="linear"),
}
GRID, SPACE_GRID = f32(1, 3, 4, 2), f32(1, 2, 3, 2, 3)
GRIDS = {
    **{f"{m}_{p}_{a}": case("GridSample", IMAGE, GRID, mode=m, padding_mode=p, align_corners=a)
       for m in ("nearest", "linear", "cubic") for p in ("zeros", "border", "reflection") for a in (0, 1)},
    **{f"space_{m}": case("GridSample", SPACE, SPACE_GRID, mode=m, padding_mode="border")
       for m in ("nearest", "linear")},
    "affine": case("AffineGrid", f32(2, 2, 3), np.array([2, 1, 3, 4]), known=(1,)),
    "affine_corners": case("AffineGrid", f32(1, 3, 4), np.array([1, 1, 2, 3, 2]), known=(1,),
                           align_corners=1),
    "deep": case("DepthToSpace", f32(1, 8, 2, 3), blocksize=2),
    "deep_crd": case("DepthToSpace", f32(1, 8, 2, 3), blocksize=2, mode="CRD"),
    "shallow": case("SpaceToDepth", f32(1, 2, 4, 6), blocksize=2),
    "centre": case("CenterCropPad", f32(5, 4), np.array([2, 7]), known=(1,)),
    "det": case("Det", f32(2, 3, 3)),
    "det_large": case("Det", f32(3, 6, 6)),
    "einsum": case("Einsum", f32(2, 3, 4), f32(2, 4, 5), equation="bij, bjk -> bik"),
    "einsum_trace": case("Einsum", f32(4, 4), equation="ii"),
}  # fmt: skip
SIGNAL, LENGTH, FRAME = f32(2, 16, 1), np.array(16), np.array(8)
SIGNALS = {
    "dft": case("DFT", f32(2, 10, 3, 2), None, np.array(1), known=(2,)),
    "dft_longer": case("DFT", f32(2, 10, 1), np.array(12), np.array(1), known=(1, 2), onesided=1),
    "dft_shorter": case("DFT", f32(2, 10, 2), np.array(7), np.array(1), known=(1, 2), inverse=1),
    "dft_staged": case("DFT", f32(1, 600, 1), None, np.array(1), known=(2,)),
    "stft": case("STFT", SIGNAL, np.array(3), np.hanning(8).astype(np.float32), FRAME, known=(1, 3)),
    "stft_complex": case("STFT", f32(1, 12, 2), np.array(4), None, np.array(5), known=(1, 3), onesided=0),
    **{w.lower(): case(w, LENGTH, known=(0,), periodic=p) for p, w in
       ((1, "HannWindow"), (0, "HammingWindow"), (1, "BlackmanWindow"))},
    "mel": case("MelWeightMatrix", np.array(8), np.array(64), np.array(8192), np.array(10, np.float32),
                np.array(4000, np.float32), known=(0, 1, 2, 3, 4)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("opset", "cases"), [(19, RESIZES), (10, OLD), (20, GRIDS)], ids=["resize", "old", "grids"]
)
def test_sampling_agrees_with_the_runtime(opset: int, cases: dict[str, Case]) -> None:
    pytest.importorskip("onnxruntime")
    assert_agree(cases, opset, with_runtime, rtol=1e-4, atol=1e-5)


def test_transforms_agree_with_the_reference() -> None:
    assert_agree(SIGNALS, 20, with_reference, rtol=1e-4, atol=2e-5)
