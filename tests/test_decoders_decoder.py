"""`ImageDecoder` as a decoder: its arguments, its promises to the pipeline, the user's transform; and `as_decoder`."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from pictures import KINDS, encode, exif, jpeg_with_exif, kinds, pattern, rgb

import asyncbatch
from asyncbatch import ConfigError, ImageDecoder, RandomHorizontalFlip, RandomResizedCrop, decoders
from asyncbatch._types import Decoder
from asyncbatch.decoders import as_decoder

SEED = (7, 0, 0)


def test_names():
    """The names of the package are these, sorted, and the top level has them too."""
    assert decoders.__all__ == ["CenterCrop", "ImageDecoder", "RandomHorizontalFlip", "RandomResizedCrop", "Resize"]
    assert all(getattr(asyncbatch, name) is getattr(decoders, name) for name in decoders.__all__)


# -- arguments ---------------------------------------------------------------------------------------------------------


def test_size():
    """`image_size` is (height, width), or one number for a square; without it only the dtype of rows is known."""
    assert ImageDecoder((3, 4)).row_shape == (3, 4, 3)
    assert ImageDecoder([np.int64(3), 4]).image_size == (3, 4)
    assert ImageDecoder(5).row_shape == (5, 5, 3)
    assert ImageDecoder(5, layout="nchw").row_shape == (3, 5, 5)
    assert ImageDecoder().row_shape is None
    assert ImageDecoder(dtype="float16").row_dtype == np.float16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, r"image_size must be \(height, width\) in pixels, or one number, got 0; write image_size="),
        ({"image_size": (224, -1)}, "image_size"),
        ({"image_size": (224, 224, 3)}, r"got \(224, 224, 3\)"),
        ({"image_size": "224"}, "image_size"),
        ({"image_size": 224.0}, "image_size"),
        ({"image_size": True}, "image_size"),
        ({"channels": "RGB"}, "channels must be one of rgb, bgr, gray, got 'RGB'; write channels='rgb'"),
        ({"channels": 3}, "channels must be one of"),
        ({"layout": "hwc"}, "layout must be one of nhwc, nchw, got 'hwc'"),
        (
            {"interpolation": "bilinear"},
            "interpolation must be one of linear, nearest, cubic, area, lanczos, got 'bilinear'",
        ),
        ({"interpolation": cv2.INTER_AREA}, "interpolation must be one of"),
        ({"formats": "jpeg"}, "formats must be some of jpeg, png, webp, bmp, gif, tiff, jpeg2000, pnm, got 'jpeg'"),
        ({"formats": ("jpeg", "heic")}, "formats must be some of"),
        ({"formats": ()}, "formats must be some of"),
        ({"formats": ([],)}, "formats must be some of"),
        ({"max_pixels": 0}, r"max_pixels must be a whole number above 0, got 0; write max_pixels=10\*\*8"),
        ({"max_pixels": 1e8}, "max_pixels"),
        ({"transform": 5}, r"transform must be callable\(image, rng\) -> image, or a list of such, got 5; write"),
        ({"transform": [RandomHorizontalFlip(), None]}, "transform must be"),
        ({"transform": RandomHorizontalFlip}, "transform must be"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be(arguments, message):
    """What cannot be used is refused when the decoder is made, with the argument, the value and a line that works."""
    with pytest.raises(ConfigError, match=message):
        ImageDecoder(**arguments)


def test_frozen():
    """A decoder does not change after it was made, nor with the list that it was given."""
    transforms = [RandomHorizontalFlip()]
    decoder = ImageDecoder(4, transform=transforms)
    transforms.clear()
    with pytest.raises(FrozenInstanceError):
        decoder.image_size = (5, 5)
    assert decoder == ImageDecoder((4, 4), transform=(RandomHorizontalFlip(),))
    assert decoder != ImageDecoder(4)
    assert len({decoder, ImageDecoder(4), ImageDecoder((4, 4))}) == 2


def test_repr_shows_what_differs():
    """The repr is the line that makes the decoder, without what is as by default."""
    assert repr(ImageDecoder()) == "ImageDecoder()"
    decoder = ImageDecoder(224, dtype=np.float32, scale=0.5, mean=[1, 2, 3], transform=[RandomHorizontalFlip()])
    assert repr(decoder) == (
        "ImageDecoder((224, 224), dtype='float32', scale=0.5, mean=(1.0, 2.0, 3.0), "
        "transform=(RandomHorizontalFlip(p=0.5),))"
    )
    assert eval(repr(decoder)) == decoder  # noqa: S307 - our own words


def test_copies_and_pickles():
    """A decoder can be copied and pickled, as processes of the user's own may need."""
    decoder = ImageDecoder(
        (20, 30), dtype="float32", scale=1 / 255, mean=(0.1, 0.2, 0.3), transform=RandomHorizontalFlip()
    )
    for other in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):  # noqa: S301 - our own bytes
        assert other == decoder
        assert np.array_equal(other(KINDS["png"]()), decoder(KINDS["png"]()))


# -- promises to the pipeline ------------------------------------------------------------------------------------------


def test_is_a_decoder():
    """It is what the pipeline calls a decoder."""
    assert isinstance(ImageDecoder(), Decoder)


@pytest.mark.parametrize("transform", [None, lambda image, rng: image])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("size", [None, (47, 61), (30, 40)])
@pytest.mark.parametrize("name", ["jpeg 420", "png", "jpeg orientation 6"])
def test_the_row_is_the_slot_or_new(name, size, dtype, layout, transform):
    """With a slot the row is the slot; without, it is a new contiguous array of its shape and dtype, every time."""
    decoder = ImageDecoder(size, dtype=dtype, layout=layout, transform=transform)
    first = decoder.decode(KINDS[name](), None, SEED)
    second = decoder.decode(KINDS[name](), None, SEED)
    assert first.dtype == decoder.row_dtype
    assert first.flags.c_contiguous
    assert first.flags.writeable
    assert not np.shares_memory(first, second)
    if size is not None:
        assert first.shape == decoder.row_shape
        slot = np.empty((2, *decoder.row_shape), dtype)[1]
        assert decoder.decode(KINDS[name](), slot, SEED) is slot
        assert np.array_equal(slot, first)


def test_many_threads_at_once():
    """Several threads get the rows that one would."""
    decoder = ImageDecoder(
        (24, 32), dtype="float32", scale=1 / 255, transform=[RandomResizedCrop(40), RandomHorizontalFlip()]
    )
    names = kinds("jpeg", "png", "webp", "bmp") * 4
    batch = np.empty((len(names), *decoder.row_shape), np.float32)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: decoder.decode(KINDS[names[i]](), batch[i], (1, 2, i)), range(len(names))))
    for index, name in enumerate(names):
        assert np.array_equal(batch[index], decoder.decode(KINDS[name](), None, (1, 2, index)))


# -- pictures in memory ------------------------------------------------------------------------------------------------


def test_a_picture_in_memory():
    """A row that is a picture already, as a source in memory has it, takes every step but decoding."""
    decoder = ImageDecoder((20, 30), dtype="float32", scale=1 / 255)
    assert np.array_equal(decoder(rgb()), decoder(encode(".png", rgb()[..., ::-1])))
    grey = pattern()[..., 0]
    assert np.array_equal(ImageDecoder(channels="gray")(grey), grey[..., None])
    assert np.array_equal(ImageDecoder(channels="gray")(grey[..., None]), grey[..., None])


def test_a_picture_in_memory_stays_as_it_is():
    """The source's array is neither handed out nor changed by a transform."""

    def blacken(image, rng):
        image[:] = 0
        return image

    image = rgb()
    assert not np.shares_memory(ImageDecoder()(image), image)
    assert not ImageDecoder(transform=blacken)(image).any()
    assert np.array_equal(image, rgb())


@pytest.mark.parametrize(
    "image", [pattern(), pattern()[..., 0], np.zeros((3, 8, 8), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_a_picture_in_memory_of_another_shape(image):
    """A row that is no picture of these channels is an error that says what it is."""
    with pytest.raises(
        ValueError, match=r"the picture in memory must be a picture, \(height, width, 3\), got \(.*uint8"
    ):
        ImageDecoder()(image)


# -- the user's transform ----------------------------------------------------------------------------------------------


@dataclass
class Recorder:
    """Keeps what it was called with."""

    seen: Any = None

    def __call__(self, image, rng):
        self.seen = image.copy(), rng.random()
        return image


@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
def test_what_a_transform_gets(channels):
    """A transform gets the upright picture at its own size, (H, W, C) uint8 with the channels as asked for."""
    recorder = Recorder()
    data = jpeg_with_exif(exif(6))
    ImageDecoder((10, 10), channels=channels, transform=recorder, dtype="float32", scale=1 / 255, layout="nchw")(data)
    assert np.array_equal(recorder.seen[0], ImageDecoder(channels=channels)(data))


def test_the_rng_is_seeded_by_sample():
    """The same (seed, epoch, index) draws the same, whatever came before; another one draws something else."""
    recorder = Recorder()
    decoder = ImageDecoder(transform=recorder)

    def drawn(*seed):
        decoder.decode(KINDS["png"](), None, seed)
        return recorder.seen[1]

    assert drawn(1, 2, 3) == drawn(1, 2, 3) == np.random.default_rng(np.random.SeedSequence((1, 2, 3))).random()
    assert len({drawn(1, 2, 3), drawn(1, 2, 4), drawn(1, 3, 3), drawn(2, 2, 3)}) == 4
    decoder(KINDS["png"]())
    assert recorder.seen[1] == drawn(0, 0, 0)


def test_transforms_share_one_rng():
    """Of several transforms each goes on drawing where the one before it stopped, and gets its result."""
    first, second = Recorder(), Recorder()
    ImageDecoder(transform=[first, lambda image, rng: image[:5], second])(KINDS["png"]())
    assert first.seen[1] != second.seen[1]
    assert second.seen[0].shape == (5, 61, 3)


def test_a_transform_comes_before_resizing():
    """The result of a transform is resized to `image_size` where it differs, and then come the numbers."""
    decoder = ImageDecoder((20, 30), dtype="float64", scale=1 / 255, transform=lambda image, rng: image[:40, 1:41])
    assert np.array_equal(decoder(KINDS["png"]()), cv2.resize(rgb()[:40, 1:41], (30, 20)) / 255)


@pytest.mark.parametrize(
    "view",
    [
        lambda image, rng: image[:, ::-1],
        lambda image, rng: image[::-1, ::2],
        lambda image, rng: image.swapaxes(0, 1),
        lambda image, rng: np.asfortranarray(image),
    ],
)
@pytest.mark.parametrize(
    "options", [{}, {"layout": "nchw"}, {"dtype": "float32", "scale": 0.5}, {"image_size": (9, 8)}]
)
def test_a_transform_may_return_a_view(view, options):
    """Views of any strides are as good as new arrays."""
    decoder = ImageDecoder(transform=view, **options)
    copied = ImageDecoder(transform=lambda image, rng: np.ascontiguousarray(view(image, rng)), **options)
    assert np.array_equal(decoder(KINDS["png"]()), copied(KINDS["png"]()))


@pytest.mark.parametrize("own", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_transform_may_do_the_numbers(own, dtype):
    """A float result is taken as it is, cast to `dtype`, laid out and resized."""

    def numbers(image, rng):
        return (image.astype(own) - own(100)) / own(7)

    wanted = numbers(rgb(), None).astype(dtype)
    assert np.array_equal(ImageDecoder(dtype=dtype, transform=numbers)(KINDS["png"]()), wanted)
    planar = ImageDecoder((47, 61), dtype=dtype, layout="nchw", transform=numbers)
    assert np.array_equal(planar(KINDS["png"]()), wanted.transpose(2, 0, 1))
    assert ImageDecoder((8, 9), dtype=dtype, transform=numbers)(KINDS["png"]()).std() > 1


def test_a_transform_may_drop_the_axis_of_grey():
    """A grey result may be (H, W), as OpenCV and albumentations return it."""
    decoder = ImageDecoder(channels="gray", transform=lambda image, rng: image[..., 0])
    assert np.array_equal(decoder(KINDS["png"]()), ImageDecoder(channels="gray")(KINDS["png"]()))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "got NoneType"),
        ([[1]], "got list"),
        (np.zeros((4, 4), np.uint8), r"must be a picture, \(height, width, 3\), got \(4, 4\) uint8"),
        (np.zeros((4, 4, 1), np.uint8), r"got \(4, 4, 1\) uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"got \(3, 4, 4\) uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got \(1, 4, 4, 3\) uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\) uint8"),
        (np.zeros((4, 4, 3), np.int64), r"must be uint8 or a float dtype, got int64; write image.astype\('uint8'\)"),
        (np.zeros((4, 4, 3), bool), "got bool"),
        (
            np.zeros((4, 4, 3)),
            r"is float64, so its numbers are done: write ImageDecoder\(dtype='float32'\) without scale",
        ),
    ],
)
def test_a_transform_that_returns_no_picture(result, message):
    """A result that cannot be a row is an error that names the transform, what it returned and what is wanted."""

    def my_transform(image, rng):
        return result

    with pytest.raises(ValueError, match=message) as caught:
        ImageDecoder(transform=my_transform)(KINDS["png"]())
    assert "my_transform" in str(caught.value)


def test_numbers_are_done_once():
    """Floats from a transform together with scale, mean or std are an error: one of the two is a mistake."""
    decoder = ImageDecoder(dtype="float32", scale=1 / 255, transform=lambda image, rng: image / 255)
    with pytest.raises(ValueError, match="its numbers are done"):
        decoder(KINDS["png"]())


def test_a_transform_that_fails():
    """What a transform raises comes through as it is, with a note on which transform it was."""

    def clumsy(image, rng):
        raise ZeroDivisionError("oh dear")

    with pytest.raises(ZeroDivisionError, match="oh dear") as caught:
        ImageDecoder(transform=[RandomHorizontalFlip(), clumsy])(KINDS["png"]())
    assert any("clumsy" in note for note in caught.value.__notes__)


# -- any callable as a decoder -----------------------------------------------------------------------------------------


def test_a_decoder_stays_itself():
    """A decoder is taken as it is."""
    decoder = ImageDecoder(4)
    assert as_decoder(decoder) is decoder


def test_a_function_is_a_decoder():
    """A function of the bytes is a decoder whose rows' shape and dtype only the data tell."""
    decoder = as_decoder(lambda data: np.frombuffer(data, np.uint8))
    assert isinstance(decoder, Decoder)
    assert decoder.row_shape is None
    assert decoder.row_dtype is None
    assert decoder.decode(b"abc", None, SEED).tolist() == [97, 98, 99]


@pytest.mark.parametrize("result", [None, [1, 2], b"abc", 5])
def test_a_function_that_returns_no_array(result):
    """A function that returns anything but an array is a TypeError that names it."""

    def my_decoder(data):
        return result

    with pytest.raises(TypeError, match=f"my_decoder.* must return a numpy.ndarray, got {type(result).__name__}"):
        as_decoder(my_decoder).decode(b"", None, SEED)


@pytest.mark.parametrize("decoder", [None, "jpeg", 5, (224, 224), ImageDecoder])
def test_what_is_no_decoder(decoder):
    """Anything else is refused with a line that works; so is the class, where an instance is meant."""
    with pytest.raises(ConfigError, match=r"decoder must be .* got .*; write decoder=ImageDecoder\(\(224, 224\)\)"):
        as_decoder(decoder)
