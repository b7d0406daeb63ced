"""Which part of a picture is needed at which size, and so how small a JPEG may be decoded.

A JPEG can be decoded at a half, a quarter or an eighth of its size at a fraction of the cost: each block of 8 × 8
pixels becomes 4 × 4, 2 × 2 or 1 × 1, computed from its lowest frequencies alone (libjpeg's `scale_denom`; Pillow calls
it draft mode). What is left to resize is then a factor of less than two, at which linear interpolation passes no pixel
over, whereas of a picture that is ten times too large it looks at four pixels in a hundred. Against the average over
each area (`cv2.INTER_AREA` of the full picture), photographs of 12 megapixels at 224 × 224 come to 35–48 dB where
linear interpolation of the full picture comes to 26–38; see tests/test_decoders_draft.py.
"""

from __future__ import annotations

from typing import NamedTuple

from asyncbatch._types import Array
from asyncbatch.decoders._opencv import resize

__all__ = ["Part", "scaled", "trimmed"]

_SCALES = (8, 4, 2)  # libjpeg has other eighths too, which are slower: its fast code is for these


class Part(NamedTuple):
    """A part of a picture, in pixels of the upright picture in full size, and the size that it is to have."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]

    def scale(self) -> int:
        """Return the largest divisor at which no pixel has to be made up: 8, 4, 2 or 1."""
        height, width = self.size
        return next((scale for scale in _SCALES if self.height >= scale * height and self.width >= scale * width), 1)

    def cut(self, image: Array, scale: int, interpolation: str) -> Array:
        """Return the part of a picture that was decoded at a fraction of its size, in its new size."""
        top, left, bottom, right = (
            round(side / scale) for side in (self.top, self.left, self.top + self.height, self.left + self.width)
        )
        return resize(image[top:bottom, left:right], self.size, interpolation)


def trimmed(image: Array, height: int, width: int, scale: int) -> Array:
    """Return a draft of a (height, width) picture without rows and columns that are mostly beyond its edge.

    The last ones stand for as many pixels as the others, of which the picture may have few: they would stretch it.
    """
    return image if scale == 1 else image[: max(1, round(height / scale)), : max(1, round(width / scale))]


def scaled(height: int, width: int, scale: int) -> tuple[int, int]:
    """Return the size of a JPEG that is decoded at a fraction of its own."""
    return -(-height // scale), -(-width // scale)
