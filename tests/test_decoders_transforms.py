"""The shipped transforms: `RandomResizedCrop`, `RandomHorizontalFlip`, `CenterCrop`, `Resize`."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import KINDS, rgb

from asyncbatch import CenterCrop, ConfigError, ImageDecoder, RandomHorizontalFlip, RandomResizedCrop, Resize

SIDES = st.integers(1, 90)


def places(height, width):
    """Return a picture whose pixels say where they are."""
    rows, columns = np.indices((height, width), dtype=np.uint8)
    return np.stack([rows, columns, rows + columns], -1)


def rng(seed=0):
    return np.random.default_rng(seed)


# -- RandomResizedCrop -------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**32), st.sampled_from([(0.08, 1.0), (0.5, 0.5), (1.0, 1.0), (0.001, 0.01)]))
def test_a_random_part_is_a_part(height, width, seed, scale):
    """The part lies inside of the picture, whatever the picture's shape, and is resized to the size asked for."""
    part = RandomResizedCrop((5, 7), scale=scale, interpolation="nearest")(places(height, width), rng(seed))
    assert part.shape == (5, 7, 3)
    rows, columns = part[..., 0].astype(int), part[..., 1].astype(int)
    assert (np.diff(rows, axis=0) >= 0).all()
    assert (np.diff(columns, axis=1) >= 0).all()
    assert rows.max() < height
    assert columns.max() < width


def test_area_and_shape_are_those_asked_for():
    """Area and width / height are drawn between their bounds, and all of the range occurs."""
    crop = RandomResizedCrop(8, scale=(0.2, 0.6), ratio=(0.5, 2.0))
    parts = np.array([crop._draw(200, 200, rng(seed))[2:] for seed in range(500)])
    areas, ratios = parts.prod(1) / 200**2, parts[:, 1] / parts[:, 0]
    assert 0.19 < areas.min() < 0.23
    assert 0.57 < areas.max() < 0.61
    assert 0.48 < ratios.min() < 0.53
    assert 1.9 < ratios.max() < 2.1
    assert abs(np.log(ratios).mean()) < 0.1  # shapes are drawn evenly on a logarithmic scale


def test_every_place_occurs():
    """Parts come from everywhere, both edges included."""
    crop = RandomResizedCrop(8, scale=(0.25, 0.25), ratio=(1.0, 1.0))
    drawn = np.array([crop._draw(20, 20, rng(seed)) for seed in range(400)])
    assert set(drawn[:, 0]) == set(drawn[:, 1]) == set(range(11))


@pytest.mark.parametrize(
    ("shape", "wanted"), [((2, 90), (0, 43, 2, 3)), ((90, 2), (43, 0, 3, 2)), ((1, 1), (0, 0, 1, 1))]
)
def test_no_part_fits(shape, wanted):
    """Where nothing fits in ten attempts, the part is the largest of an allowed shape, from the middle."""
    assert RandomResizedCrop(8, scale=(1.0, 1.0))._draw(*shape, rng()) == wanted


# -- RandomHorizontalFlip ----------------------------------------------------------------------------------------------


def test_flip():
    """The mirror image comes as often as asked for; never at p=0, always at p=1."""
    image = places(4, 5)
    assert np.array_equal(RandomHorizontalFlip(1)(image, rng()), image[:, ::-1])
    assert np.array_equal(RandomHorizontalFlip(0)(image, rng()), image)
    generator = rng()
    flips = sum(RandomHorizontalFlip(0.25)(image, generator)[0, 0, 1] > 0 for _ in range(2000))
    assert 430 < flips < 570


# -- CenterCrop --------------------------------------------------------------------------------------------------------


def test_the_middle():
    """The middle is cut out; where it cannot be exact it is where torchvision's rounding puts it."""
    assert np.array_equal(CenterCrop((4, 6))(places(10, 10), rng()), places(10, 10)[3:7, 2:8])
    assert np.array_equal(CenterCrop(3)(places(6, 8), rng()), places(6, 8)[2:5, 2:5])
    assert np.array_equal(CenterCrop((10, 10))(places(10, 10), rng()), places(10, 10))


@given(SIDES, SIDES, SIDES, SIDES)
@settings(max_examples=100, deadline=None)
def test_a_picture_that_is_too_small_gets_a_border(height, width, wanted_height, wanted_width):
    """Whatever its size, the result is of the size asked for: what is missing is black, around the middle."""
    image = places(height, width) + 1
    middle = CenterCrop((wanted_height, wanted_width))(image, rng())
    assert middle.shape == (wanted_height, wanted_width, 3)
    assert (middle > 0).all(2).sum() == min(height, wanted_height) * min(width, wanted_width)
    if wanted_height >= height and wanted_width >= width:
        top, left = (wanted_height - height) // 2, (wanted_width - width) // 2
        assert np.array_equal(middle[top : top + height, left : left + width], image)


# -- Resize ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "area", "lanczos"])
def test_resize(interpolation):
    """(height, width) is exactly that, by cv2.resize."""
    flag = {"lanczos": cv2.INTER_LANCZOS4}.get(interpolation, getattr(cv2, f"INTER_{interpolation.upper()}", None))
    wanted = cv2.resize(rgb(), (30, 20), interpolation=flag)
    assert np.array_equal(Resize((20, 30), interpolation)(rgb(), rng()), wanted)


@pytest.mark.parametrize(
    ("shape", "size", "wanted"),
    [((40, 60), 20, (20, 30)), ((60, 40), 20, (30, 20)), ((5, 5), 20, (20, 20)), ((3, 10), 4, (4, 13))],
)
def test_one_number_is_the_shorter_side(shape, size, wanted):
    """One number is the size of the shorter side, and the longer keeps the picture's shape."""
    assert Resize(size)(places(*shape), rng()).shape == (*wanted, 3)


# -- all of them -------------------------------------------------------------------------------------------------------

ALL = [RandomResizedCrop((8, 9)), RandomHorizontalFlip(), CenterCrop(12), Resize((6, 7))]


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_one_seed_one_result(transform):
    """The same generator state gives the same result, and the picture given is left as it was."""
    image = rgb()
    assert np.array_equal(transform(image, rng(3)), transform(image, rng(3)))
    assert np.array_equal(image, rgb())


@pytest.mark.parametrize("channels", ["rgb", "gray"])
@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_in_a_decoder(transform, channels):
    """Every transform works on every number of channels, keeps the axis of grey, and comes from a pickle unchanged."""
    data = KINDS["jpeg 420"]()
    row = ImageDecoder(16, channels=channels, transform=transform)(data)
    assert row.shape == (16, 16, 1 if channels == "gray" else 3)
    image = ImageDecoder(channels=channels)(data)
    assert transform(image, rng()).shape[2] == image.shape[2]
    assert pickle.loads(pickle.dumps(transform)) == transform  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop(0), r"size must be \(height, width\) in pixels, or one number, got 0; write size="),
        (
            lambda: RandomResizedCrop(8, scale=(0, 1)),
            r"scale must be \(least, greatest\) above 0, got \(0, 1\); write scale=",
        ),
        (lambda: RandomResizedCrop(8, scale=(0.5, 1.5)), "scale must be"),
        (lambda: RandomResizedCrop(8, scale=(0.9, 0.1)), "scale must be"),
        (lambda: RandomResizedCrop(8, scale=0.5), "scale must be"),
        (lambda: RandomResizedCrop(8, ratio=(2, 1)), r"ratio must be .* got \(2, 1\); write ratio="),
        (lambda: RandomResizedCrop(8, interpolation="bilinear"), "interpolation must be one of"),
        (lambda: RandomHorizontalFlip(1.5), r"p must be between 0 and 1, got 1.5; write RandomHorizontalFlip\(p=0.5\)"),
        (lambda: RandomHorizontalFlip("0.5"), "p must be between 0 and 1"),
        (lambda: CenterCrop((3, 3, 3)), "size must be"),
        (lambda: Resize(-1), "size must be"),
        (lambda: Resize(8, interpolation=2), "interpolation must be one of"),
    ],
)
def test_arguments_that_cannot_be(make, message):
    """What cannot be used is refused when the transform is made, with the argument, the value and a line that works."""
    with pytest.raises(ConfigError, match=message):
        make()
