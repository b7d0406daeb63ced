"""Drafts: JPEGs decoded smaller where no more is needed, and the memory that they are decoded in."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import KINDS, encode, exif, jpeg_with_exif, pattern

from asyncbatch import CenterCrop, ConfigError, ImageDecoder, RandomHorizontalFlip, RandomResizedCrop, Resize
from asyncbatch.decoders import _scratch
from asyncbatch.decoders._draft import Part, scaled
from asyncbatch.decoders._jpeg import decode_jpeg, read_jpeg_header

SIDES = st.integers(1, 5000)


@cache
def detailed(height: int, width: int, seed: int = 0):
    """Return noise as mostly grey, and with as little fine detail, as a photograph: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width)
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.normal(size=(4, height, width)))
    grey, *colours = np.fft.irfft2(white / frequency, (height, width))
    noise = np.stack([grey + 0.3 * colour for colour in colours], axis=-1)
    return np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)


@cache
def photograph(height: int = 900, width: int = 1200) -> bytes:
    return encode(".jpg", detailed(height, width), cv2.IMWRITE_JPEG_QUALITY, 95)


def distance(one, other) -> float:
    """Return the root of the mean square difference, in steps of 255."""
    return float(np.sqrt(np.mean((one.astype(float) - other.astype(float)) ** 2)))


# -- how small ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "size", "scale"),
    [
        (3000, 4000, (224, 224), 8),
        (1792, 1792, (224, 224), 8),
        (1791, 4000, (224, 224), 4),
        (448, 448, (224, 224), 2),
        (447, 4000, (224, 224), 1),
        (375, 500, (224, 224), 1),
        (8, 8, (1, 1), 8),
    ],
)
def test_how_small(height, width, size, scale):
    """The least of 1/2, 1/4 and 1/8 that leaves as many pixels as are needed, in both directions."""
    assert Part(0, 0, height, width, size).scale() == scale


@given(SIDES, SIDES, SIDES, SIDES)
def test_nothing_is_made_up(height, width, wanted_height, wanted_width):
    """Where a draft is taken, it has at least the pixels that are wanted."""
    scale = Part(0, 0, height, width, (wanted_height, wanted_width)).scale()
    there = scaled(height, width, scale)
    assert scale == 1 or (there[0] >= wanted_height and there[1] >= wanted_width)


@pytest.mark.parametrize("colour", ["RGB", "GRAY"])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 49), (71, 55), (72, 56), (9, 17)])
def test_the_size_is_the_one_foreseen(height, width, scale, colour):
    """The decoder makes the size that its memory was taken for, whatever is left over of blocks."""
    data = encode(".jpg", detailed(height, width))
    image, odd = decode_jpeg(data, read_jpeg_header(data), colour, None, scale)
    assert (image.shape[:2], odd) == (scaled(height, width, scale), False)
    out = np.empty((*scaled(height, width, scale), image.shape[2]), np.uint8)
    assert decode_jpeg(data, read_jpeg_header(data), colour, out, scale)[0] is out
    assert np.array_equal(out, image)


# -- how good ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(224, 224), (100, 150), (100, 100)])
@pytest.mark.parametrize(("height", "width"), [(900, 1200), (901, 1201), (905, 1205), (907, 1207)])
def test_a_draft_is_nearer_to_the_average_than_the_full_picture(height, width, size):
    """Against the average over each area, a draft has less than half the error of linear interpolation.

    Whatever is left over of blocks at the edges: a draft that was stretched by it would be far off.
    """
    data = photograph(height, width)
    average = ImageDecoder(size, interpolation="area", draft=False)(data)
    full, draft = (distance(ImageDecoder(size, draft=flag)(data), average) for flag in (False, True))
    assert draft < full / 2


@pytest.mark.parametrize("interpolation", ["cubic", "area", "lanczos"])
def test_drafts_of_other_interpolations(interpolation):
    """The others are drafted too, and come near to what they are in full."""
    data = photograph()
    average = ImageDecoder(100, interpolation="area", draft=False)(data)
    full = ImageDecoder(100, draft=False)(data)
    assert distance(ImageDecoder(100, interpolation=interpolation)(data), average) < distance(full, average) / 2


def test_without_drafts_it_is_exactly_resize():
    """`draft=False` is `cv2.resize` of the full picture, and so is the nearest pixel in any case."""
    data = photograph()
    full = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(ImageDecoder(100, draft=False)(data), cv2.resize(full, (100, 100)))
    nearest = cv2.resize(full, (100, 100), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(ImageDecoder(100, interpolation="nearest")(data), nearest)


@pytest.mark.parametrize("size", [(451, 601), (899, 1199), (900, 1200), (1000, 1300)])
def test_pictures_that_are_not_twice_as_large_are_not_drafted(size):
    """Then both give the same, bit for bit."""
    data = photograph()
    assert np.array_equal(ImageDecoder(size)(data), ImageDecoder(size, draft=False)(data))


@pytest.mark.parametrize("name", ["jpeg cmyk", "jpeg rgb", "jpeg grey", "jpeg progressive", "jpeg 444", "jpeg 420"])
def test_every_kind_of_jpeg_is_drafted(name):
    """CMYK, grey, progressive and unsubsampled ones come nearer to their average, too."""
    data = KINDS[name]()
    average = ImageDecoder(7, interpolation="area", draft=False)(data)
    full, draft = (distance(ImageDecoder(7, draft=flag)(data), average) for flag in (False, True))
    assert draft < 0.8 * full


@pytest.mark.parametrize("orientation", range(1, 9))
def test_drafts_are_turned_upright(orientation):
    """A draft is turned as the full picture is, and its size is that of the upright picture."""
    data = jpeg_with_exif(exif(orientation), encode(".jpg", np.ascontiguousarray(pattern(320, 480)[..., :3])))
    full = ImageDecoder((40, 60), interpolation="area", draft=False)(data)
    assert distance(ImageDecoder((40, 60), interpolation="area")(data), full) < 4


def test_odd_jpegs_are_drafted():
    """A file at which libjpeg complains without need comes out in the same size."""
    data = photograph()
    odd = data[:-2] + b"\0" * 13 + data[-2:]
    decoder = ImageDecoder(100)
    assert np.array_equal(decoder(odd), ImageDecoder(100)(data))
    assert decoder.oddities == 1


def test_cut_off_drafts_are_errors():
    """No byte may be missing, though a draft needs fewer of them."""
    data = photograph()
    for cut in (len(data) // 2, len(data) - 2, len(data) - 1000):
        with pytest.raises(ValueError, match="cut off"):
            ImageDecoder(100)(data[:cut])


def test_draft_is_a_flag():
    with pytest.raises(ConfigError, match="draft must be True or False, got 'no'; write draft=False"):
        ImageDecoder(8, draft="no")


# -- transforms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("orientation", [1, 6])
def test_crops_are_decoded_at_the_size_that_they_need(seed, orientation):
    """A random crop shows the same part with and without drafts, and what follows it draws the same numbers."""
    data = jpeg_with_exif(exif(orientation), photograph())
    transform = [RandomResizedCrop(64, interpolation="area"), RandomHorizontalFlip()]
    draft, full = (
        ImageDecoder(64, transform=transform, draft=flag).decode(data, None, (7, 0, seed)) for flag in (True, False)
    )
    assert distance(draft, full) < distance(draft, full[:, ::-1]) / 2  # as unlike as another picture


def test_the_crop_of_a_png_is_that_of_a_jpeg():
    """Which part is cut out depends on the seed and the picture's size, not on its format."""
    image = detailed(600, 800)
    for seed in range(5):
        png, jpeg = (
            ImageDecoder(64, transform=RandomResizedCrop(64, interpolation="area")).decode(data, None, (7, 0, seed))
            for data in (encode(".png", image), encode(".jpg", image, cv2.IMWRITE_JPEG_QUALITY, 98))
        )
        assert distance(png, jpeg) < distance(png, jpeg[:, ::-1]) / 2


def test_the_usual_pipeline_of_validation():
    """`Resize` of the shorter side, then `CenterCrop`: drafted, and the same but for detail."""
    data = photograph()
    transform = [Resize(256), CenterCrop(224)]
    draft, full = (ImageDecoder(224, transform=transform, draft=flag)(data) for flag in (True, False))
    assert draft.shape == (224, 224, 3)
    assert 0 < distance(draft, full) < 20


def test_a_function_sees_the_full_picture():
    """What a transform of the user's own does with a picture cannot be foreseen, so it gets all of it."""
    seen = []

    def look(image, rng):
        seen.append(image.shape)
        return image

    class Own(RandomResizedCrop):
        def __call__(self, image, rng):
            return look(image, rng)

    for transform in (look, [RandomHorizontalFlip(), look], Own(64)):
        ImageDecoder(64, transform=transform)(photograph())
    assert seen == [(900, 1200, 3)] * 3


# -- scratch memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"dtype": "float32"}, {"layout": "nchw"}, {"transform": Resize(20)}], ids=str)
def test_rows_that_are_kept_never_change(options):
    """Whatever is decoded afterwards, in this thread or another, a row stays what it was."""
    decoder = ImageDecoder(20, **options)
    files = [encode(".jpg", detailed(40 + 13 * n, 60 + 7 * n, n)) for n in range(12)]
    rows = [decoder(data) for data in files]
    copies = [row.copy() for row in rows]
    threads = [threading.Thread(target=lambda: [decoder(data) for data in files]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for data in files[::-1]:
        decoder(data)
    for thread in threads:
        thread.join()
    assert all(np.array_equal(row, copy) for row, copy in zip(rows, copies, strict=True))
    assert all(np.array_equal(row, decoder(data)) for row, data in zip(rows, files, strict=True))


def test_a_picture_that_a_transform_keeps_never_changes():
    """A transform may keep what it is given: scratch memory is not given away."""
    kept = []

    def keep(image, rng):
        kept.append((image, image.copy()))
        return image

    for decoder in (ImageDecoder(20, transform=keep), ImageDecoder(20, transform=[Resize(20), keep])):
        for n in range(4):
            decoder(encode(".jpg", detailed(60, 60, n)))
    assert len(kept) == 8
    assert all(np.array_equal(image, copy) for image, copy in kept)


def test_memory_is_used_again_and_bounded(monkeypatch):
    """The same memory serves the next picture, a larger one takes its place, and what is too large is not kept."""
    monkeypatch.setattr(_scratch, "_LARGEST", 10_000)
    _scratch._own.buffers.clear()
    first = _scratch.scratch("test", (10, 10, 3))
    assert np.shares_memory(first, _scratch.scratch("test", (5, 5, 3)))
    assert not np.shares_memory(first, _scratch.scratch("other", (5, 5, 3)))
    _scratch.scratch("test", (50, 50, 3))
    _scratch.scratch("test", (100, 100, 3))
    assert sum(buffer.nbytes for buffer in _scratch._own.buffers.values()) <= 2**13 + 2**7


def test_a_thread_that_ends_leaves_nothing():
    """Scratch memory goes with its thread."""
    freed = threading.Event()

    def work():
        weakref.finalize(_scratch.scratch("test", (100, 100, 3)).base, freed.set)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
    assert freed.is_set()
