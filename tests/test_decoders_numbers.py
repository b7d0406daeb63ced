"""`ImageDecoder`: dtype, layout, scale, mean and std. A table of 256 values says what each pixel must become."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import KINDS, encode, pattern

from asyncbatch import ConfigError, ImageDecoder

FLOATS = ("float16", "float32", "float64")
IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def every_pixel(channels=3):
    """Return a PNG, and its pixels, in which every channel has all of the 256 values in another order."""
    rng = np.random.default_rng(3)
    pixels = np.stack([rng.permutation(256).astype(np.uint8) for _ in range(channels)], -1).reshape(8, 32, channels)
    return encode(".png", pixels), pixels


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("whole", [255, 256, 127, 128, 3, 1])
def test_a_whole_divisor_divides(dtype, whole):
    """With scale=1/n the value is pixel / n, correctly rounded in float64 and once more to the dtype."""
    data, pixels = every_pixel()
    row = ImageDecoder((8, 32), dtype=dtype, channels="bgr", scale=1 / whole)(data)
    assert row.dtype == dtype
    exact = np.array([float(Fraction(int(p), whole)) for p in pixels.ravel()]).reshape(pixels.shape)
    assert np.array_equal(row, exact.astype(dtype))


def test_equals_division_by_255():
    """`dtype="float64", scale=1/255` is bit-identical to `image / 255`."""
    data = KINDS["jpeg 420"]()
    row = ImageDecoder((224, 224), dtype="float64", scale=1 / 255)(data)
    assert np.array_equal(row, ImageDecoder((224, 224))(data) / 255)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"scale": 1 / 255},
        {"scale": 2 / 255, "mean": 1},
        {"scale": 1 / 127.5, "mean": 1.0, "std": 0.5},
        {"mean": 128},
        {"std": 64.0},
        IMAGENET,
    ],
    ids=str,
)
def test_numbers_are_those_of_the_formula(numbers, dtype, channels, layout):
    """Every row is (pixel * scale - mean) / std in float64, rounded once, in every dtype, order and layout."""
    data, _ = every_pixel()
    if channels == "gray" and "mean" in numbers and np.ndim(numbers["mean"]):
        numbers = {name: value if np.ndim(value) == 0 else value[:1] for name, value in numbers.items()}
    pixels = ImageDecoder(channels=channels)(data).astype(np.float64)
    scale = numbers.get("scale", 1)
    scaled = pixels / 255 if scale == 1 / 255 else pixels * scale
    wanted = ((scaled - np.array(numbers.get("mean", 0.0))) / np.array(numbers.get("std", 1.0))).astype(dtype)
    decoder = ImageDecoder((8, 32), dtype=dtype, channels=channels, layout=layout, **numbers)
    batch = np.full((3, *decoder.row_shape), 77, dtype)
    slot = batch[1]
    assert decoder.decode(data, slot, (0, 0, 0)) is slot
    assert np.array_equal(slot, wanted if layout == "nhwc" else wanted.transpose(2, 0, 1))
    assert (batch[[0, 2]] == 77).all()
    assert np.array_equal(decoder(data), slot)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.floats(1e-4, 10), st.sampled_from([1 / 255, 0.5, 2.0])),
    st.lists(st.floats(-300, 300), min_size=3, max_size=3),
    st.floats(1e-2, 300),
    st.sampled_from(FLOATS[1:]),
)
def test_any_numbers(scale, mean, std, dtype):
    """The formula holds whichever way to it is the fastest for the numbers at hand."""
    data, pixels = every_pixel()
    row = ImageDecoder((8, 32), channels="bgr", dtype=dtype, scale=scale, mean=mean, std=std)(data)
    scaled = pixels / round(1 / scale) if 1 / max(round(1 / scale), 1) == scale else pixels * scale
    assert np.array_equal(row, ((scaled - np.array(mean)) / std).astype(dtype))


def test_numbers_of_any_size():
    """Tiny and huge scales are numbers like others."""
    data, pixels = every_pixel()
    for scale in (1e-300, 1e300):
        row = ImageDecoder(channels="bgr", dtype="float64", scale=scale)(data)
        assert np.allclose(row / scale, pixels, rtol=1e-12)


def test_a_float_dtype_without_scale_holds_0_to_255():
    """Without `scale` a float dtype holds the pixels' own values."""
    data, pixels = every_pixel()
    for dtype in FLOATS:
        assert np.array_equal(ImageDecoder(dtype=dtype, channels="bgr")(data), pixels)


def test_mean_and_std_follow_the_order_of_channels():
    """The first of several means belongs to the first channel of the row, be it red or blue."""
    data, pixels = every_pixel()
    for channels, ordered in (("bgr", pixels), ("rgb", pixels[..., ::-1])):
        row = ImageDecoder(dtype="float64", channels=channels, mean=(1, 20, 300))(data)
        assert np.array_equal(row, ordered - [1.0, 20.0, 300.0])


@pytest.mark.parametrize("channels", ["rgb", "gray"])
@pytest.mark.parametrize("dtype", ["uint8", *FLOATS])
def test_nchw_is_nhwc_transposed(dtype, channels):
    """Under layout="nchw" rows are (C, H, W), with and without resizing."""
    for size in (None, (30, 40), (47, 61)):
        options = {"dtype": dtype, "channels": channels}
        row = ImageDecoder(size, layout="nchw", **options)(KINDS["jpeg 420"]())
        assert row.flags.c_contiguous
        assert np.array_equal(row, ImageDecoder(size, **options)(KINDS["jpeg 420"]()).transpose(2, 0, 1))


def test_grey_keeps_its_axis():
    """Grey rows are (H, W, 1), or (1, H, W)."""
    assert ImageDecoder((5, 6), channels="gray").row_shape == (5, 6, 1)
    assert ImageDecoder((5, 6), channels="gray", layout="nchw").row_shape == (1, 5, 6)
    assert ImageDecoder(channels="gray")(KINDS["png"]()).shape == (*pattern().shape[:2], 1)


@pytest.mark.parametrize("dtype", [np.float32, np.dtype("float32"), "float32", "f4"])
def test_dtypes_may_be_numpys(dtype):
    """A dtype is taken as NumPy takes it, and kept under its name."""
    decoder = ImageDecoder(4, dtype=dtype)
    assert decoder.dtype == "float32"
    assert decoder.row_dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1 / 255}, "scale=0.0039.* cannot be had in uint8; write dtype='float32'"),
        ({"mean": 0.5}, "mean=0.5 cannot be had in uint8"),
        ({"std": (1, 2, 3)}, r"std=\(1, 2, 3\) cannot be had in uint8"),
        ({"dtype": "float32", "scale": 0}, "scale must be a number above 0, got 0"),
        ({"dtype": "float32", "scale": -1}, "scale must be a number above 0, got -1"),
        ({"dtype": "float32", "scale": float("inf")}, "scale must be a number above 0, got inf"),
        ({"dtype": "float32", "scale": "1/255"}, "scale must be a number above 0, got '1/255'"),
        ({"dtype": "float32", "scale": (1, 2, 3)}, "scale must be a number above 0"),
        ({"dtype": "float32", "mean": (1, 2)}, r"mean must be a number, or 3 of them, one a channel, got \(1, 2\)"),
        ({"dtype": "float32", "mean": float("nan")}, "mean must be a number"),
        ({"dtype": "float32", "std": 0}, "std must be a number above 0, or 3 of them, one a channel, got 0"),
        ({"dtype": "float32", "std": (1, 0, 1)}, "std must be"),
        ({"dtype": "float32", "std": "x"}, "std must be"),
        ({"dtype": "float32", "channels": "gray", "mean": (1, 2, 3)}, "mean must be a number, got"),
        ({"dtype": "float16", "std": 1e-5}, "numbers too large for float16; write dtype='float64'"),
        ({"dtype": "int8"}, "dtype must be one of uint8, float16, float32, float64, got 'int8'"),
        ({"dtype": "fp32"}, "dtype must be one of"),
        ({"dtype": None}, "dtype must be one of"),
    ],
    ids=str,
)
def test_numbers_that_cannot_be(options, message):
    """Numbers that cannot be used are refused when the decoder is made, with the value and a line that works."""
    with pytest.raises(ConfigError, match=message):
        ImageDecoder((4, 4), **options)
