"""`ImageDecoder`: which pixels come out, for every kind of picture. `cv2.imread` is what they are held against."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from pictures import (
    ALL_FORMATS,
    HEIGHT,
    KINDS,
    WIDTH,
    exif,
    jpeg_with_exif,
    kinds,
    pattern,
    pillow,
    png_16_bit,
    png_chunk,
    png_chunks,
    rgb,
)

from asyncbatch import ImageDecoder

FLAGS = {"bgr": cv2.IMREAD_COLOR, "gray": cv2.IMREAD_GRAYSCALE}
INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
STILL = [name for name in kinds(*ALL_FORMATS) if not name.startswith("png animated")]
OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])


def decode(data, image_size=None, **options):
    return ImageDecoder(image_size, formats=ALL_FORMATS, **options)(data)


@pytest.fixture
def imread(tmp_path):
    """Write bytes to a file and read it as a person would."""

    def read(data, channels):
        path = tmp_path / "picture"
        path.write_bytes(data)
        image = cv2.imread(str(path), FLAGS[channels])
        return image.reshape(*image.shape[:2], -1)

    return read


@pytest.mark.parametrize("name", STILL)
def test_pixels_are_those_of_imread(name, imread):
    """Every kind of picture has the pixels of cv2.imread, bit for bit, in colour, reversed, and in grey."""
    data = KINDS[name]()
    colour = imread(data, "bgr")
    assert np.array_equal(decode(data, channels="bgr"), colour)
    assert np.array_equal(decode(data, channels="rgb"), colour[..., ::-1])
    assert np.array_equal(decode(data, channels="gray"), imread(data, "gray"))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", ["bgr", "gray"])
@pytest.mark.parametrize("size", [(20, 33), (47, 61), (90, 64), (47, 30)])
@pytest.mark.parametrize("name", ["jpeg 420", "jpeg orientation 6", "png alpha", "webp", "bmp"])
def test_resizing_is_that_of_opencv(name, size, channels, interpolation, imread):
    """Resizing is cv2.resize with the named interpolation, after the picture was turned upright."""
    data = KINDS[name]()
    wanted = cv2.resize(imread(data, channels), size[::-1], interpolation=INTERPOLATIONS[interpolation])
    row = decode(data, size, channels=channels, interpolation=interpolation)
    assert row.shape == (*size, 1 if channels == "gray" else 3)
    assert np.array_equal(row.squeeze(), wanted)


@pytest.mark.parametrize("name", ["jpeg 444", "jpeg grey", "jpeg cmyk", "png", "png 16 bits", "jpeg progressive"])
def test_the_loop_by_hand(name, imread):
    """A float64 decoder gives the very numbers of `cv2.resize(cv2.imread(path), size) / 255`."""
    data = KINDS[name]()
    row = decode(data, (30, 40), channels="bgr", dtype="float64", scale=1 / 255)
    assert np.array_equal(row, cv2.resize(imread(data, "bgr"), (40, 30)) / 255)


@pytest.mark.parametrize("name", kinds("jpeg", "png", "webp", "bmp"))
def test_a_row_lands_in_its_slot(name):
    """A row written into a slot of a batch is the row of its own, and its neighbours stay as they were."""
    decoder = ImageDecoder((HEIGHT, WIDTH))
    batch = np.full((3, HEIGHT, WIDTH, 3), 7, np.uint8)
    slot = batch[1]
    assert decoder.decode(KINDS[name](), slot, (0, 0, 0)) is slot
    assert np.array_equal(slot, decoder(KINDS[name]()))
    assert (batch[[0, 2]] == 7).all()


# -- turned upright ----------------------------------------------------------------------------------------------------


def turned(image, orientation):
    """Turn by the words of the EXIF standard: where row 0 and column 0 of the stored picture are to be seen."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return image[::rows, ::columns]


@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation_of_a_jpeg(orientation, order, imread):
    """A JPEG is turned by its EXIF orientation 1–8 in either byte order, as cv2.imread turns it; 0, 9: as it is."""
    data = jpeg_with_exif(exif(orientation, order))
    stored = decode(pillow("JPEG"), channels="bgr")
    row = decode(data, channels="bgr")
    assert np.array_equal(row, turned(stored, orientation))
    assert np.array_equal(row, imread(data, "bgr"))
    assert np.array_equal(decode(data, channels="gray"), imread(data, "gray"))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_other_formats(orientation, form):
    """PNG and TIFF are turned as well, and WebP from OpenCV 5 on."""
    stored = decode(pillow(form))
    options = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif(orientation)}
    turns = form != "WEBP" or OPENCV >= (5, 0)
    assert np.array_equal(decode(pillow(form, **options)), turned(stored, orientation if turns else 1))


def test_image_size_is_that_of_the_upright_picture():
    """A portrait stored lying on its side fills a portrait row without distortion."""
    data = jpeg_with_exif(exif(6))
    assert decode(data).shape == (WIDTH, HEIGHT, 3)
    assert np.array_equal(decode(data, (WIDTH, HEIGHT)), decode(data))


DAMAGED_EXIF = {
    "empty": b"",
    "cut off": exif(6)[:20],
    "cut off before its value": exif(6)[:30],
    "another magic number": exif(6, magic=43),
    "directory outside": exif(6, directory=2**32 - 1),
    "directory at the end": exif(6, directory=len(exif(6)) - 1),
    "no entries": exif(6, entries=0),
    "too many entries": exif(1, entries=65535),
    "text outside": exif(6, make_at=10_000),
    "endless text": exif(6, make_length=2**32 - 1),
    "other byte order": b"XX" + exif(6, b"MM")[2:],
    "no byte order": b"IM" + exif(6)[2:],
}


@pytest.mark.parametrize("block", DAMAGED_EXIF.values(), ids=DAMAGED_EXIF.keys())
def test_damaged_exif_is_ignored(block, imread):
    """EXIF that is damaged is no error, and leads to the picture that cv2.imread shows."""
    data = jpeg_with_exif(block)
    assert np.array_equal(decode(data, channels="bgr"), imread(data, "bgr"))


@pytest.mark.parametrize("first", [exif(1, entries=1), exif(3), b"", b"http"])
def test_the_first_orientation_counts(first, imread):
    """Of several EXIF segments the first that says an orientation counts, as in cv2.imread."""
    data = jpeg_with_exif(first, jpeg_with_exif(exif(6)))
    row = decode(data, channels="bgr")
    if first == exif(3):
        assert np.array_equal(row, turned(decode(pillow("JPEG"), channels="bgr"), 3))
    else:
        assert np.array_equal(row, turned(decode(pillow("JPEG"), channels="bgr"), 6))
    if OPENCV >= (5, 0):
        assert np.array_equal(row, imread(data, "bgr"))


# -- the table of asyncbatch.decoders.images, row by row ---------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in STILL if "grey" in name and name != "webp grey"])
def test_grey(name):
    """Grey pictures have one channel, or three alike; all but WebP, which knows no grey."""
    data = KINDS[name]()
    row = decode(data)
    assert (row == row[..., :1]).all()
    assert np.array_equal(decode(data, channels="gray"), row[..., :1])


def test_colour_as_grey():
    """A JPEG's grey is its luma channel, another picture's a weighted sum of its colours."""
    blue, green, red = np.moveaxis(rgb()[..., ::-1].astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(decode(KINDS["png"](), channels="gray")[..., 0] - luma).max() < 1.5
    grey = decode(KINDS["jpeg quality 100"](), channels="gray")[..., 0]  # its red and blue are swapped: see `encode`
    assert np.abs(grey - (0.299 * blue + 0.587 * green + 0.114 * red)).max() <= 3


def test_alpha_is_dropped():
    """Alpha is dropped and not composited: colours under transparent pixels show as they were stored."""
    assert pattern()[..., 3].min() == 0
    assert np.array_equal(decode(KINDS["png alpha"]()), rgb())
    assert np.array_equal(decode(KINDS["bmp alpha"](), channels="bgr"), rgb())
    exact = pillow("WEBP", "RGBA", lossless=True, exact=True)
    assert np.array_equal(decode(exact), rgb())


def test_alpha_of_a_tiff():
    """TIFF is the exception: libtiff composites its alpha with black."""
    on_black = rgb() * (pattern()[..., 3:] / 255)
    assert np.abs(decode(KINDS["tiff alpha"]()) - on_black).max() <= 1


@pytest.mark.parametrize("name", ["png transparent colour", "png palette transparent"])
def test_a_transparent_colour_shows(name):
    """A colour declared transparent is a colour like any other."""
    assert np.array_equal(
        decode(KINDS[name]()), decode(KINDS[name.replace(" transparent", "").replace(" colour", "")]())
    )


def test_palette_and_few_bits():
    """Palettes are looked up, and pictures of one bit are black and white."""
    assert len(np.unique(decode(KINDS["png 2 bits"]()).reshape(-1, 3), axis=0)) == 4
    assert set(np.unique(decode(KINDS["png 1 bit"]()))) == {0, 255}
    assert set(np.unique(decode(KINDS["bmp 1 bit"]()))) == {0, 255}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits(channels):
    """Of 16 bits the upper eight remain."""
    upper = pattern()[..., :channels]
    row = decode(png_16_bit(channels), channels="bgr")
    assert np.array_equal(row, np.repeat(upper, 3, 2) if channels == 1 else upper[..., :3])


@pytest.mark.parametrize("name", ["jpeg cmyk", "jpeg cmyk progressive"])
def test_cmyk(name):
    """CMYK as Adobe writes it, inverted, comes out in its true colours, not as a negative."""
    assert np.abs(decode(KINDS[name]()).astype(int) - rgb()).mean() < 10


@pytest.mark.parametrize("name", ["jpeg progressive", "jpeg restart markers"])
def test_how_a_jpeg_is_stored_does_not_matter(name):
    """A progressive JPEG, or one with restart markers, shows the picture of a plain one."""
    assert np.array_equal(decode(KINDS[name]()), decode(KINDS["jpeg 420"]()))


@pytest.mark.parametrize("form", ["png", "png alpha", "webp", "gif", "tiff"])
def test_the_first_frame(form):
    """Of an animated file the first frame is decoded, of a TIFF of several pages the first page."""
    form, *alpha = form.split()
    row = decode(KINDS[" ".join([form, "animated", *alpha])]())
    assert row.shape == (HEIGHT, WIDTH, 3)
    lossy = form in ("webp", "gif")
    assert np.abs(row.astype(int) - rgb()).mean() <= (12 if lossy else 0)


def test_the_default_image_of_an_animated_png():
    """An animated PNG is decoded like the same file without its animation, orientation included."""
    data = pillow("PNG", exif=exif(6))
    signature, header, *others = png_chunks(data)
    control = png_chunk(b"acTL", struct.pack(">II", 2, 0))
    assert np.array_equal(decode(b"".join((signature, header, control, *others))), decode(data))


def test_a_name_does_not_matter(tmp_path):
    """The first bytes say what a picture is: a PNG called .JPEG is a PNG."""
    path = tmp_path / "n02105855_2933.JPEG"
    path.write_bytes(KINDS["png"]())
    assert np.array_equal(decode(path.read_bytes()), rgb())
