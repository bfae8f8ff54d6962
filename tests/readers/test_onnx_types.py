"""Element types of ONNX: conversions are exact, and small types are held as their codes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.ops.compositions import small_types
from intaglio.readers.onnx import load
from intaglio.readers.onnx.elements import ELEMENTS
from intaglio.shared.errors import FileFormatError, UnsupportedError
from tests.readers.onnx_batch import case, merged, run

RNG = np.random.default_rng(3)
HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
ANY_BITS = RNG.integers(0, 1 << 32, 50_000, dtype=np.uint32).view(np.float32)
DOUBLES = RNG.standard_normal(20_000) * 10.0 ** RNG.integers(-9, 6, 20_000)
FLOATS = [*small_types.FORMATS]
BYTES = [name for name in FLOATS if small_types.FORMATS[name].bits == 8]


@pytest.mark.parametrize("name", FLOATS)
def test_codes_of_floats_are_those_of_ml_dtypes(name):
    format, dtype = small_types.FORMATS[name], np.dtype(getattr(ml_dtypes, name))
    with np.errstate(all="ignore"):
        for numbers in (HALVES, ANY_BITS, DOUBLES):
            codes = small_types.encode_float(numbers, format, saturate=False)
            known = ~np.isnan(numbers) if format.overflow is None else np.full(numbers.shape, True)
            np.testing.assert_array_equal(codes[known], numbers.astype(dtype).view(np.uint8)[known])
    every = np.arange(1 << format.bits, dtype=np.uint8)
    np.testing.assert_array_equal(
        small_types.decode_float(every, format), every.view(dtype).astype(np.float32)
    )


@pytest.mark.parametrize("name", BYTES)
def test_saturating_codes(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    codes = small_types.encode_float(HALVES, small_types.FORMATS[name])
    with np.errstate(all="ignore"):
        wanted = numpy_helper.saturate_cast(HALVES, dtype).view(np.uint8)
    np.testing.assert_array_equal(codes, wanted)


@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [False, True])
def test_codes_of_powers(rounding, saturate):
    wanted = numpy_helper.to_float8e8m0(ANY_BITS, saturate, rounding).view(np.uint8)
    np.testing.assert_array_equal(small_types.encode_power(ANY_BITS, rounding, saturate), wanted)


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_small_integers_wrap(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    numbers = np.arange(-40, 40).astype(np.int32)
    bits = ml_dtypes.iinfo(dtype).bits
    wrapped = small_types.wrap_integer(numbers, bits, name[0] == "i")
    np.testing.assert_array_equal(wrapped, (numbers & ((1 << bits) - 1)).astype(np.uint8).view(dtype))


def test_compiled_casts_give_the_right_bytes():
    """To every small type, and from each back to f32; NaN and infinities among the numbers."""
    numbers = np.array([0.0, -0.0, 0.4, -1.5, 2.5, 7.6, 1e9, -1e9, np.inf, np.nan, 1e-9, -3], np.float32)
    whole = np.array([-3.0, 0, 1, 2.9], np.float32)
    codes = [c for c, e in ELEMENTS.items() if e.bits not in (6,)]
    to = [case("Cast", numbers if ELEMENTS[c].is_float else whole, to=c) for c in codes]
    back = [
        case("Cast", np.arange(4, dtype=np.uint8).view(ELEMENTS[c].numpy), to=1)
        for c in codes
        if ELEMENTS[c].is_float
    ]
    moved = np.arange(6, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).reshape(2, 3)
    rest = [case("Transpose", moved), case("Identity", np.array([-8, 7], ml_dtypes.int4))]
    model, feeds = merged([*to, *back, *rest], {"": 25})
    got = run(model, feeds)
    for k, code in enumerate(codes):
        element = ELEMENTS[code]
        assert got[k].dtype == element.numpy
        given = to[k].operands[0]
        with np.errstate(all="ignore"):
            if code == TensorProto.FLOAT8E8M0:
                wanted = numpy_helper.to_float8e8m0(given)
            elif element.bits == 8:
                wanted = numpy_helper.saturate_cast(given, element.numpy)
            else:
                wanted = given.astype(element.numpy)
        np.testing.assert_array_equal(got[k].view(np.uint8), wanted.view(np.uint8), err_msg=str(element))
    for one, ours in zip(back, got[len(to) :], strict=False):
        np.testing.assert_array_equal(ours, one.operands[0].astype(np.float32))
    np.testing.assert_array_equal(got[-2].view(np.uint8), moved.view(np.uint8).T)
    np.testing.assert_array_equal(got[-1].astype(np.int8), [-8, 7])


def _model(op, attributes, input_type, output_type=None):
    node = helper.make_node(op, ["x"] * (2 if op == "Concat" else 1), ["y"], **attributes)
    output = onnx.ValueInfoProto(name="y") if output_type is None else None
    output = output or helper.make_tensor_value_info("y", output_type, None)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", input_type, [2])], [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (_model("Cast", {"to": TensorProto.STRING}, 1), UnsupportedError, "Cast.*text"),
        (
            _model("Concat", {"axis": 0}, TensorProto.FLOAT8E5M2),
            UnsupportedError,
            "float8e5m2.*not supported",
        ),
        (
            _model("Identity", {}, TensorProto.INT4, TensorProto.INT8),
            FileFormatError,
            "INT4.*model says INT8",
        ),
        (_model("Identity", {}, TensorProto.UINT8, TensorProto.UINT4), FileFormatError, "says UINT4"),
    ],
)
def test_what_is_refused(model, error, message):
    with pytest.raises(error, match=message):
        load(model)
