"""Padding and clipping in all their forms, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import assert_agree, case, f32, with_runtime

PADS = np.array([1, 0, 2, 0, 3, 1])
HALF = np.asarray(0.5, np.float32)
NEGATIVE = np.asarray(-0.5, np.float32)
PAD = {
    "constant": case("Pad", f32(2, 3, 4), PADS, HALF, known=(1, 2)),
    "zero": case("Pad", f32(2, 3, 4), PADS, known=(1,)),
    "nothing": case("Pad", f32(2, 3, 4), 0 * PADS, known=(1,)),
    "cropped": case("Pad", f32(5, 6, 7), np.array([-1, 2, 0, 0, -3, -2]), known=(1,)),
    "value_at_run_time": case("Pad", f32(2, 3, 4), PADS, np.asarray(1.5, np.float32), known=(1,)),
    "axes": case("Pad", f32(2, 3, 4), np.array([1, 2, 0, 3]), None, np.array([-1, 0]), known=(1, 3)),
    "integers": case("Pad", np.arange(6).reshape(2, 3), np.array([1, 1, 0, 0]), np.asarray(7), known=(1, 2)),
    "reflect": case("Pad", f32(3, 4, 5), np.array([0, 2, 3, 2, 1, 0]), known=(1,), mode="reflect"),
    "edge": case("Pad", f32(3, 4, 5), np.array([0, 2, 3, 2, 1, 0]), known=(1,), mode="edge"),
    "wrap": case("Pad", f32(3, 4, 5), np.array([0, 2, 3, 2, 1, 0]), known=(1,), mode="wrap"),
}
CLIP = {
    "both": case("Clip", f32(3, 4), NEGATIVE, HALF, known=(1, 2)),
    "low": case("Clip", f32(3, 4), NEGATIVE, known=(1,)),
    "high": case("Clip", f32(3, 4), None, HALF, known=(2,)),
    "neither": case("Clip", f32(3, 4)),
    "crossed": case("Clip", f32(3, 4), HALF, NEGATIVE, known=(1, 2)),
    "at_run_time": case("Clip", f32(3, 4), np.asarray(-0.25, np.float32), HALF),
    "integers": case("Clip", np.arange(-4, 4), np.asarray(-2), np.asarray(3), known=(1,)),
}
OLD = {
    "pad": case("Pad", f32(2, 3), pads=[0, 1, 2, 0], value=0.5),
    "pad_reflect": case("Pad", f32(4, 5), pads=[1, 2, 0, 3], mode="reflect"),
    "clip": case("Clip", f32(3, 4), min=-0.5, max=0.25),
    "clip_low": case("Clip", f32(3, 4), min=0.0),
}


@pytest.mark.parametrize(("cases", "opset"), [(PAD, 19), (CLIP, 13), (OLD, 7)])
def test_agrees_with_the_runtime(cases: dict[str, object], opset: int) -> None:
    pytest.importorskip("onnxruntime")
    assert_agree(cases, opset, with_runtime)  # type: ignore[arg-type]
