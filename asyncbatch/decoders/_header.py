"""What a picture's header says, and the error for a picture that cannot be decoded."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Header", "PictureError", "check_size"]


class PictureError(ValueError):
    """The bytes are not a picture that can be decoded. The pipeline adds the sample's key and index."""


class Header(NamedTuple):
    """The size in pixels, and how many bytes the file must have at least; 0 where the header does not tell."""

    height: int
    width: int
    length: int = 0


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture that says it is empty or too large.

    Raises:
        PictureError: A side is not positive, or there are more than `max_pixels` pixels.
    """
    if height < 1 or width < 1:
        raise PictureError(f"damaged: its header says {height} × {width} pixels (height × width)")
    if height * width > max_pixels:
        raise PictureError(
            f"its header says {height} × {width} pixels, more than max_pixels={max_pixels}: "
            f"give ImageDecoder a larger max_pixels if you trust the file"
        )
