"""`ImageDecoder` and what is no picture, or half of one, or too large: an error that says so, and nothing worse."""

from __future__ import annotations

import resource
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import ALL_FORMATS, DEFAULT_FORMATS, KINDS, animated, jpeg_segments, kinds, pillow, png_chunk, png_chunks

from asyncbatch import ImageDecoder

EVERYTHING = ImageDecoder(formats=ALL_FORMATS, channels="bgr")


def refusal(data, decoder=EVERYTHING) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        decoder(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- cut off -----------------------------------------------------------------------------------------------------------


def some_lengths(size: int) -> Iterator[int]:
    """Choose lengths to cut to: all near both ends, some in between."""
    yield from range(min(size, 48))
    yield from range(48, size - 48, max(1, size // 48))
    yield from range(max(48, size - 48), size)


@pytest.mark.parametrize("name", kinds(*ALL_FORMATS))
def test_a_picture_that_is_cut_off(name):
    """A file that ends early is an error at whatever byte it ends, unless all of the picture is there."""
    data = KINDS[name]()
    whole = EVERYTHING(data)
    for length in some_lengths(len(data)):
        try:
            part = EVERYTHING(data[:length])
        except ValueError:
            continue
        assert np.array_equal(part, whole), f"half a picture from {length} of {len(data)} bytes"


@pytest.mark.parametrize("name", ["jpeg 420", "jpeg progressive", "jpeg cmyk", "png", "png animated", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_cut_off_picture_is_called_so(name, share):
    """The message says that the file is cut off, and how long it is."""
    data = KINDS[name]()
    part = data[: max(40, int(len(data) * share))]
    assert "cut off" in refusal(part)
    assert f"{len(part)} bytes" in refusal(part)


@pytest.mark.parametrize("name", kinds("jpeg"))
def test_a_jpeg_without_its_end(name):
    """The end-of-image marker alone missing is enough: from there on nothing proves that all scans are there."""
    assert "cut off" in refusal(KINDS[name]()[:-2])
    assert EVERYTHING(KINDS[name]() + b"trailing bytes").size


@pytest.mark.parametrize("name", ["jpeg 420", "jpeg progressive", "png", "gif"])
def test_zeros_at_the_end(name):
    """A file whose second half is zeros, as a copy under way leaves it, is no picture (WebP and BMP cannot tell)."""
    data = KINDS[name]()
    refusal(data[: len(data) // 2].ljust(len(data), b"\0"))


# -- odd, and broken ---------------------------------------------------------------------------------------------------


def odd_jpegs() -> dict[str, bytes]:
    data = pillow("JPEG")
    start, app0, *others = jpeg_segments(data)
    adobe = pillow("JPEG", keep_rgb=True)
    transform = adobe.index(b"Adobe") + 11
    return {
        "bytes before the end": data[:-2] + b"\x12" * 13 + data[-2:],
        "bytes between segments": start + app0 + bytes(3) + b"".join(others),
        "unknown version": data.replace(b"JFIF\0\1\1", b"JFIF\0\3\1"),
        "unknown Adobe transform": adobe[:transform] + b"\x09" + adobe[transform + 1 :],
    }


ODD = odd_jpegs()


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_an_odd_jpeg_is_decoded_and_counted(data, tmp_path):
    """A JPEG that libjpeg complains about, with all of its picture there, is what cv2.imread shows, and is counted."""
    (tmp_path / "odd.jpg").write_bytes(data)
    decoder = ImageDecoder(channels="bgr")
    assert np.array_equal(decoder(data), cv2.imread(str(tmp_path / "odd.jpg")))
    assert decoder.oddities == 1
    batch = np.zeros((2, *decoder(data).shape), np.uint8)
    ImageDecoder(batch.shape[1:3], channels="bgr").decode(data, batch[1], (0, 0, 0))
    assert np.array_equal(batch[1], decoder(data))
    assert not batch[0].any()


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_an_odd_jpeg_that_is_cut_off(data):
    """Oddity is no excuse: an odd JPEG that ends early is an error."""
    for length in range(len(data) // 2, len(data), 7):
        assert "cut off" in refusal(data[:length])


def test_ordinary_pictures_are_not_counted():
    """Only odd files count as odd: neither ordinary ones nor broken ones do."""
    decoder = ImageDecoder()
    for name in ("jpeg 420", "jpeg cmyk", "png"):
        decoder(KINDS[name]())
    refusal(KINDS["jpeg 420"]()[:-100], decoder)
    assert decoder.oddities == 0


@pytest.mark.parametrize("name", ["jpeg 420", "jpeg restart markers", "jpeg progressive"])
def test_a_jpeg_with_data_missing_in_the_middle(name):
    """A JPEG that says it ends, but has not got all of its data, is an error as far as libjpeg notices."""
    data = KINDS[name]()
    assert "damaged" in refusal(data[: len(data) * 2 // 3] + b"\xff\xd9")


def test_a_broken_scan_is_no_half_picture():
    """An error that libjpeg cannot go on from, in a late scan of a progressive JPEG, is an error."""
    data = KINDS["jpeg progressive"]()
    last = data.rindex(b"\xff\xda")
    assert "cannot be decoded" in refusal(data[: last + 2] + b"\0\1" + data[last + 4 :])


def test_a_checksum_that_does_not_match():
    """PNG carries checksums, and a byte that changed is found."""
    data = bytearray(KINDS["png"]())
    data[len(data) // 2] ^= 1
    assert "damaged" in refusal(bytes(data))


@pytest.mark.parametrize("length", [0, 12, 14, 25, 2**31 - 1])
def test_a_png_header_of_another_length_never_reaches_opencv(monkeypatch, length):
    """It would look for the picture elsewhere than we do, and take the memory that it finds there."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV was given the file"))
    data = bytearray(KINDS["png"]())
    data[8:12] = length.to_bytes(4)
    assert data[37:41] == b"IDAT"
    refusal(bytes(data))


@pytest.mark.parametrize("seed", range(4))
def test_animated_png_never_reaches_opencvs_reader(seed):
    """Damaged animated PNG is refused or decoded; OpenCV 4.12 and 5.0 crash the process on these very files."""
    rng = np.random.default_rng(seed)
    for data in (animated("PNG"), animated("PNG", default_image=True), animated("PNG", 4)):
        for _ in range(60):
            signature, *chunks = png_chunks(data)
            at = int(rng.integers(len(chunks)))
            payload = bytearray(chunks[at][8:-4] or b"\0")
            payload[int(rng.integers(len(payload)))] = int(rng.integers(256))
            chunks[at] = png_chunk(chunks[at][4:8], bytes(payload))  # with a checksum that matches
            try:
                assert EVERYTHING(signature + b"".join(chunks)).ndim == 3
            except ValueError as error:
                assert str(error)  # noqa: PT017 - either outcome will do


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"fcTL", b"acTL"])
def test_a_chunk_that_promises_4_gb(kind):
    """No memory is taken for what a chunk merely says that it has."""
    signature, header, *others = png_chunks(KINDS["png"]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = struct.pack(">I4s", 0xFFFFFFF0, kind)
    refusal(signature + header + chunk + b"".join(others))
    refusal(signature + header + png_chunk(b"acTL", bytes(8)) + chunk + b"".join(others))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


# -- too large, or nothing at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", kinds(*ALL_FORMATS))
def test_the_number_of_pixels_is_limited(name):
    """A header that says more than `max_pixels` is refused in every format; one that says just as many is not."""
    height, width = EVERYTHING(KINDS[name]()).shape[:2]
    assert ImageDecoder(formats=ALL_FORMATS, max_pixels=height * width)(KINDS[name]()).size
    if height * width > 1:
        message = refusal(KINDS[name](), ImageDecoder(formats=ALL_FORMATS, max_pixels=height * width - 1))
        assert f"max_pixels={height * width - 1}" in message


def with_size(name: str, height: int, width: int) -> bytes:
    """Return a picture whose header says another size."""
    data = bytearray(KINDS[name]())
    if name == "jpeg 420":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif name == "png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name == "bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif name == "webp":
        data[26:30] = struct.pack("<HH", width, height)
    elif name == "gif":
        data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("jpeg 420", 65_000, 65_000),
        ("png", 2**31 - 1, 2**31 - 1),
        ("png", 1, 2**31 - 1),
        ("bmp", 2**31 - 1, 2**31 - 1),
        ("bmp", -(2**31 - 1), 2**31 - 1),
        ("webp", 16_383, 16_383),
        ("gif", 65_535, 65_535),
    ],
)
def test_a_header_that_promises_too_much(name, height, width):
    """A few bytes cannot make us take gigabytes: by default 100 megapixels are the limit, checked before decoding."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "max_pixels=100000000" in refusal(with_size(name, height, width))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


@pytest.mark.parametrize(("height", "width"), [(0, 10), (10, 0), (0, 0)])
@pytest.mark.parametrize("name", ["jpeg 420", "png", "bmp", "webp", "gif"])
def test_a_picture_without_pixels(name, height, width):
    """A side of no pixels is an error."""
    assert f"{height} × {width}" in refusal(with_size(name, height, width))


def test_a_negative_width():
    """A negative width is an error; a negative height says that a BMP's top row comes first."""
    assert "-61" in refusal(with_size("bmp", 47, -61))
    assert EVERYTHING(KINDS["bmp top down"]()).shape == (47, 61, 3)


# -- something else ----------------------------------------------------------------------------------------------------

SOMETHING_ELSE = {
    "the file is empty": b"",
    "looks like text": b"n01440764/x.JPEG 0\nn01440764/y.JPEG 0\n",
    "looks like an HTML page": b"\n <!DOCTYPE html><html>404</html>",
    "looks like SVG or XML": b'<?xml version="1.0"?><svg></svg>',
    "looks like a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
    "nothing but zero bytes": bytes(4096),
    "looks like AVIF": b"\0\0\0\x1cftypavif" + bytes(16),
    "looks like a video": b"\0\0\0\x1cftypisom" + bytes(16),
    "looks like JPEG XL": b"\xff\x0a\xfa\x7f" + bytes(16),
    "looks like OpenEXR": b"v/1\x01\x02\0\0\0",
    "looks like Radiance": b"#?RADIANCE\n",
    "looks like BigTIFF": b"II+\0\x08\0\0\0",
    "looks like PSD": b"8BPS\0\1",
    "looks like PDF": b"%PDF-1.7\n%\xe2\xe3",
    "looks like a NumPy array": b"\x93NUMPY\1\0v\0",
    "looks like a zip": b"PK\x03\x04\x14\0",
    "looks like gzip": b"\x1f\x8b\x08\0",
    "looks like a tar": b"a.jpg" + bytes(252) + b"ustar\00000",
    r"begins with b'\x00\x01\x02\x03'": b"\0\1\2\3",
}


@pytest.mark.parametrize("wanted", SOMETHING_ELSE)
def test_what_is_no_picture(wanted):
    """What is no picture is refused with what it looks like, and what would have been welcome."""
    message = refusal(SOMETHING_ELSE[wanted], ImageDecoder())
    assert wanted in message
    if SOMETHING_ELSE[wanted]:
        assert "jpeg, png, webp, bmp" in message


@pytest.mark.parametrize("name", ["gif", "tiff", "tiff big-endian", "jpeg2000", "jpeg2000 codestream", "pnm"])
def test_formats_on_request(name):
    """Further formats are refused by default with the line that lets them in, and then they are decoded."""
    form = name.split()[0]
    message = refusal(KINDS[name](), ImageDecoder())
    assert f"formats={(*DEFAULT_FORMATS, form)}" in message
    assert ImageDecoder(formats=(*DEFAULT_FORMATS, form))(KINDS[name]()).shape == (47, 61, 3)


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_a_format_that_is_left_out(form):
    """What `formats` leaves out is refused, though it could be decoded."""
    others = tuple(other for other in ALL_FORMATS if other != form)
    assert f"a {form} picture" in refusal(KINDS[kinds(form)[0]](), ImageDecoder(formats=others))


DAMAGED_HEADERS = {
    "jpeg of nothing": b"\xff\xd8\xff\xd9" + bytes(9),
    "jpeg without size": b"\xff\xd8\xff\xda\0\2" + bytes(9),
    "jpeg of two sizes": b"".join(piece * (1 + (piece[:2] == b"\xff\xc0")) for piece in jpeg_segments(pillow("JPEG"))),
    "jpeg segment of no length": b"\xff\xd8\xff\xe0\0\0" + bytes(20),
    "png without header": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IEND", b""),
    "png without picture": b"".join(piece for piece in png_chunks(pillow("PNG")) if piece[4:8] != b"IDAT"),
    "webp of an unknown kind": b"RIFF\x10\0\0\0WEBPXXXX" + bytes(20),
    "tiff without size": b"II*\0\x08\0\0\0\0\0" + bytes(20),
    "tiff of two widths": struct.pack("<2sHIH", b"II", 42, 8, 2) + struct.pack("<HHII", 256, 4, 1, 9) * 2,
    "jpeg2000 without codestream": b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4s", 0, b"abcd") + bytes(20),
    "pnm without size": b"P6 # nothing else",
    "pnm of spaces": b"P6" + b" " * 5000,
}


@pytest.mark.parametrize("name", DAMAGED_HEADERS)
def test_damaged_headers(name):
    """A header that makes no sense is an error, not a crash of the parser."""
    assert "damaged" in refusal(DAMAGED_HEADERS[name])


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_bytes_of_every_kind(wrap):
    """Bytes may come as bytes, bytearray, memoryview or an array of them."""
    data = KINDS["jpeg 420"]()
    assert np.array_equal(EVERYTHING(wrap(data)), EVERYTHING(data))


@pytest.mark.parametrize("data", ["cat.jpg", 5, None, [1, 2]])
def test_what_is_not_even_bytes(data):
    """A path, a number or None is a TypeError, not a picture."""
    with pytest.raises(TypeError, match="bytes"):
        EVERYTHING(data)


# -- anything ----------------------------------------------------------------------------------------------------------


@st.composite
def mutated(draw):
    """Draw a picture with a few bytes replaced, removed or added."""
    data = bytearray(KINDS[draw(st.sampled_from(sorted(KINDS)))]())
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.sampled_from([40, 700, len(data)]))  # headers are where it hurts
        at = draw(st.integers(0, min(near, len(data))))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(data)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(mutated(), mutated(), st.binary(max_size=200)))
def test_anything_at_all(data):
    """Whatever the bytes, the result is a row of the right shape or an error; nothing crashes or hangs."""
    decoder = ImageDecoder((8, 9), formats=ALL_FORMATS, max_pixels=1_000_000, dtype="float32", scale=1 / 255)
    out = np.full((8, 9, 3), -1, np.float32)
    try:
        assert decoder.decode(data, out, (0, 0, 0)) is out
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either outcome will do
    else:
        assert out.min() >= 0
        assert out.max() <= 1
