"""A picture's bytes → a row of the batch.

The pixels are those of `cv2.imread`, bit for bit unless a JPEG is drafted: of `IMREAD_COLOR` for "bgr", the same with
its channels reversed for "rgb", of `IMREAD_GRAYSCALE` for "gray". Kind by kind:

| what goes in | what comes out |
|---|---|
| EXIF orientation 1–8 | turned upright, so `image_size` is that of the upright picture: JPEG, PNG, TIFF, and still WebP with OpenCV 5 (4.12 does not look). Damaged EXIF is ignored |
| grey | one channel, or three alike |
| colour, as "gray" | JPEG: its luma channel. Others: OpenCV's weighted sum of red, green and blue |
| alpha, a transparent colour | dropped, not composited: what was stored under transparent pixels shows; only in TIFF it is composited with black |
| palette; 1, 2 or 4 bits | the colours meant, 0 to 255 |
| 16 bits a channel | the upper eight |
| CMYK and YCCK JPEG | OpenCV's plain conversion; colour profiles are ignored here and everywhere |
| progressive or arithmetic-coded JPEG, restart markers, any subsampling | like any other JPEG |
| odd JPEG: stray bytes, an unknown version | like any other JPEG, and counted in `oddities` |
| animated PNG, WebP, GIF; TIFF of several pages | the first frame or page; of PNG the default image, which is the first frame as a rule |
| cut off at whatever byte | an error, never half a picture |
| damaged | an error as far as the format can tell: PNG has checksums, JPEG has none |
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from asyncbatch._arguments import check_choice, require_flag
from asyncbatch._errors import ConfigError
from asyncbatch._types import Array, SeedKey
from asyncbatch.decoders._checks import Size, as_size, is_whole
from asyncbatch.decoders._draft import Part, scaled, trimmed
from asyncbatch.decoders._exif import upright
from asyncbatch.decoders._foreign import Transform, as_transforms
from asyncbatch.decoders._formats import DEFAULT_FORMATS, FORMATS, identify, read_header
from asyncbatch.decoders._header import check_size
from asyncbatch.decoders._jpeg import JpegHeader, decode_jpeg, read_jpeg_header
from asyncbatch.decoders._numbers import Numbers
from asyncbatch.decoders._opencv import INTERPOLATIONS, decode_by_opencv, resize
from asyncbatch.decoders._png import still_png
from asyncbatch.decoders._scratch import scratch
from asyncbatch.decoders.transforms import RandomResizedCrop, Resize

__all__ = ["ImageDecoder"]

_DTYPES = ("uint8", "float16", "float32", "float64")
_COLOURS = {"rgb": "RGB", "bgr": "BGR", "gray": "GRAY"}
_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}

_counting = threading.Lock()  # not the decoder's own: a decoder can be copied and pickled


@dataclass(frozen=True, repr=False)
class ImageDecoder:
    """Decodes pictures: JPEG by simplejpeg, everything else by OpenCV.

    The steps are: decode, turn upright, `transform`, resize to `image_size`, numbers, layout. One decoder serves any
    number of threads at once. Called with a file's bytes it returns the row, for a look at what a model would see;
    `transform` is then seeded with (0, 0, 0).

    The numbers are `(pixel * scale - mean) / std`, in that order, computed in float64 and rounded once to `dtype`. With
    `scale=1/255` the first step is `pixel / 255` exactly, so `dtype="float64", scale=1/255` equals `image / 255`.

    Args:
        image_size: (height, width) in pixels, or one number for a square. Default None: each picture keeps its size.
        dtype: "uint8", "float16", "float32" or "float64". Default uint8, a quarter of float32's memory and of the
            traffic to an accelerator. A float dtype without `scale` holds 0 to 255.
        channels: "rgb", "bgr" or "gray"; grey rows keep the axis, (H, W, 1).
        layout: "nhwc" for rows (H, W, C), "nchw" for (C, H, W).
        scale: What pixels are multiplied by. Default None, for 1. It and the next two need a float dtype.
        mean: What is subtracted next: one number, or one a channel in the order of `channels`. Default None, for 0.
        std: What is divided by last, likewise. Default None, for 1.
        interpolation: "linear", "nearest", "cubic", "area" or "lanczos". Default linear, as `cv2.resize` has it. Area
            averages, so that pictures that shrink much do not alias, and takes some six times as long.
        draft: Whether JPEGs at least twice, four or eight times as large as needed are decoded at a half, a quarter or
            an eighth of their size and then resized by what is left. Default True: faster, and nearer to the average
            over each area. Needed is `image_size`, or the part and size of a `RandomResizedCrop` or `Resize` that comes
            first; other transforms, and "nearest", get the full picture. False is `cv2.resize` of that, exactly.
        transform: A `callable(image, rng) -> image`, or a list of them. The image is (H, W, C) uint8 and may be written
            to; `rng` is a `numpy.random.Generator` seeded from (seed, epoch, index). The result is uint8 again, or a
            float array for which the transform has done the numbers: it is only cast to `dtype`. A function of the
            image alone will do, and so will transforms of albumentations, and of torchvision for (C, H, W) uint8
            tensors, as they are. Default None.
        formats: The formats let in; the first bytes tell which one it is, not the file's name. Default ("jpeg", "png",
            "webp", "bmp"), for fewer formats are a smaller target; there are also "gif", "tiff", "jpeg2000" and "pnm"
            (PBM, PGM, PPM).
        max_pixels: The most pixels that a header may promise; it is looked at before anything is decoded. Default 100
            megapixels, 300 MB of memory: more than cameras make, less than what a hostile file would ask for.

    Attributes:
        row_shape: The shape of every row; None without `image_size`.
        row_dtype: The dtype of every row.
        oddities: How many JPEGs were decoded although libjpeg complained; see the table in this module.

    Raises:
        ConfigError: An argument cannot be used.
    """

    image_size: Size | None = None
    _: KW_ONLY
    dtype: DTypeLike = "uint8"
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nhwc", "nchw"] = "nhwc"
    scale: float | None = None
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    interpolation: str = "linear"
    draft: bool = True
    transform: Any = None
    formats: Sequence[str] = DEFAULT_FORMATS
    max_pixels: int = 100_000_000
    row_shape: tuple[int, ...] | None = field(init=False, compare=False)
    row_dtype: np.dtype[Any] = field(init=False, compare=False)
    oddities: int = field(init=False, compare=False, default=0)
    _size: tuple[int, int] | None = field(init=False, compare=False)
    _transforms: tuple[Transform, ...] = field(init=False, compare=False)
    _lead: RandomResizedCrop | Resize | None = field(init=False, compare=False)
    _numbers: Numbers = field(init=False, compare=False)
    _stored_as_decoded: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("channels", self.channels, _COLOURS)
        check_choice("layout", self.layout, ("nhwc", "nchw"))
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        dtype = _as_dtype(self.dtype)
        size = None if self.image_size is None else as_size(self.image_size, "image_size")
        if not is_whole(self.max_pixels):
            raise ConfigError(
                f"max_pixels must be a whole number above 0, got {self.max_pixels!r}; write max_pixels=10**8"
            )
        transforms = as_transforms(self.transform)
        state = {
            "draft": require_flag("draft", self.draft, default=True),
            "image_size": size,
            "dtype": dtype.name,
            "mean": _frozen(self.mean),
            "std": _frozen(self.std),
            "transform": tuple(self.transform) if isinstance(self.transform, list) else self.transform,
            "formats": _as_formats(self.formats),
            "row_shape": None if size is None else self._shape(size),
            "row_dtype": dtype,
            "_size": size,
            "_transforms": transforms,
            # A class of the user's own may do something else altogether.
            "_lead": transforms[0] if transforms and type(transforms[0]) in (RandomResizedCrop, Resize) else None,
            "_numbers": Numbers(dtype, self.layout, _CHANNELS[self.channels], self.scale, self.mean, self.std),
            "_stored_as_decoded": dtype == np.uint8 and self.layout == "nhwc",
        }
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.init and getattr(self, f.name) != f.default}
        size = [repr(given.pop("image_size"))] if "image_size" in given else []
        return f"ImageDecoder({', '.join(size + [f'{name}={value!r}' for name, value in given.items()])})"

    def __call__(self, data: Any) -> Array:
        return self.decode(data, None, (0, 0, 0))

    def decode(self, data: Any, out: Array | None, seed: SeedKey) -> Array:
        """Decode one picture.

        Args:
            data: A file's bytes; or a picture in memory, (H, W) or (H, W, C) uint8 with its channels in the order
                asked for, which takes every step but decoding.
            out: Where to put the row, contiguous; None for a new array.
            seed: (seed, epoch, index), each 0 or more.

        Returns:
            `out`, or a new array.

        Raises:
            ValueError: The bytes are no picture that is let in and can be decoded, or `transform` returned something
                that is no picture. What `transform` itself raises comes through.
        """
        rng = np.random.default_rng(np.random.SeedSequence(seed)) if self._transforms else None
        if isinstance(data, np.ndarray) and data.ndim > 1:
            image = self._checked(np.array(data, order="C"), "the picture in memory")
            transforms = self._transforms
        else:
            image, transforms = self._read(data if isinstance(data, bytes) else bytes(memoryview(data)), out, rng)
        if rng is not None:
            image = self._augmented(image, transforms, rng)
        elif image is out or (out is None and self._size is None and self._stored_as_decoded):
            return image  # it is new, and the row already
        size = self._size or (image.shape[0], image.shape[1])
        if out is None:
            out = np.empty(self._shape(size), self.row_dtype)
        if image.shape[:2] != size:
            if self._stored_as_decoded:
                resize(image, size, self.interpolation, out)
                return out
            target = scratch("resized", (*size, image.shape[2])) if image.dtype == np.uint8 else None
            image = resize(image, size, self.interpolation, target)
        if image.dtype == np.uint8 and not self._stored_as_decoded:
            self._numbers.write(image, out)
        else:
            np.copyto(out, image if self.layout == "nhwc" else image.transpose(2, 0, 1), casting="same_kind")
        return out

    def _shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        channels = _CHANNELS[self.channels]
        return (*size, channels) if self.layout == "nhwc" else (channels, *size)

    def _read(
        self, data: bytes, out: Array | None, rng: np.random.Generator | None
    ) -> tuple[Array, tuple[Transform, ...]]:
        """Decode a file, (H, W, C) uint8 upright; into `out` if it can be the row as it is.

        Returns:
            The picture, and the transforms that are still to be applied to it.
        """
        form, colour = identify(data, self.formats), _COLOURS[self.channels]
        if form != "jpeg":
            read_header(data, form, self.max_pixels)
            return decode_by_opencv(still_png(data) if form == "png" else data, colour), self._transforms
        header = read_jpeg_header(data)
        check_size(header.height, header.width, self.max_pixels)
        full, part, interpolation = header.upright, None, self.interpolation
        if self._lead is not None and rng is not None:
            part, interpolation = self._lead.part(*full, rng), self._lead.interpolation
        elif self._size is not None and not self._transforms:
            part = Part(0, 0, *full, self._size)
        scale = part.scale() if part is not None and self.draft and interpolation != "nearest" else 1
        image, odd = decode_jpeg(data, header, colour, self._target(header, scale, part, out), scale)
        if odd:
            with _counting:
                object.__setattr__(self, "oddities", self.oddities + 1)
        image = trimmed(image, header.height, header.width, scale)
        if header.orientation != 1:
            image = upright(image, header.orientation)
        if self._lead is not None and part is not None:
            return part.cut(image, scale, interpolation), self._transforms[1:]
        return image, self._transforms

    def _target(self, header: JpegHeader, scale: int, part: Part | None, out: Array | None) -> Array | None:
        """Return where a JPEG's pixels go: to the row, to this thread's scratch memory, or to an array of their own."""
        if part is None:
            return None  # a transform gets it, or the caller
        shape = (*scaled(header.height, header.width, scale), _CHANNELS[self.channels])
        as_it_is = self._stored_as_decoded and header.orientation == 1 and self._lead is None
        return out if as_it_is and out is not None and out.shape == shape else scratch("decoded", shape)

    def _augmented(self, image: Array, transforms: Sequence[Transform], rng: np.random.Generator) -> Array:
        for transform in transforms:
            try:
                image = transform(image, rng)
            except Exception as error:
                error.add_note(f"raised by the transform {transform!r}")
                raise
        return self._checked(image, f"what transform={self.transform!r} returned")

    def _checked(self, image: Any, what: str) -> Array:
        """Return a picture that did not come from a file as an (H, W, C) array, of whatever strides."""
        channels = _CHANNELS[self.channels]
        if isinstance(image, np.ndarray) and image.ndim == 2 and channels == 1:
            image = image[..., None]
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != channels or image.size == 0:
            got = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"{what} must be a picture, (height, width, {channels}), got {got}")
        if image.dtype == np.uint8:
            return image
        if not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"{what} must be uint8 or a float dtype, got {image.dtype}; write image.astype('uint8')")
        if self.row_dtype == np.uint8 or not self._numbers.is_plain:
            raise ValueError(
                f"{what} is {image.dtype}, so its numbers are done: write ImageDecoder(dtype='float32') without scale, "
                f"mean and std, or return uint8"
            )
        return np.asarray(image, np.float64 if image.dtype == np.float64 else np.float32)


def _as_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = "None" if dtype is None else np.dtype(dtype).name  # None would be float64
    except TypeError:
        name = dtype if isinstance(dtype, str) else repr(dtype)
    check_choice("dtype", name, _DTYPES)
    found: np.dtype[Any] = np.dtype(name)
    return found


def _as_formats(formats: Any) -> tuple[str, ...]:
    known = ("jpeg", *FORMATS)
    several = isinstance(formats, Sequence) and not isinstance(formats, str)
    if not several or not formats or not all(form in known for form in formats):
        raise ConfigError(
            f"formats must be some of {', '.join(known)}, got {formats!r}; write formats={DEFAULT_FORMATS}"
        )
    return tuple(formats)


def _frozen(numbers: Any) -> Any:
    """Return one number or None as it is, and several as a tuple of floats."""
    return numbers if np.ndim(numbers) == 0 else tuple(float(number) for number in numbers)
