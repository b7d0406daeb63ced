"""Bytes → rows of the batch: pictures, and what training does to them on the way."""

from __future__ import annotations

from asyncbatch.decoders._functions import as_decoder as as_decoder  # for Loader; users pass what they have
from asyncbatch.decoders._items import ItemDecoder as ItemDecoder  # likewise
from asyncbatch.decoders.images import ImageDecoder
from asyncbatch.decoders.transforms import CenterCrop, RandomHorizontalFlip, RandomResizedCrop, Resize

__all__ = ["CenterCrop", "ImageDecoder", "RandomHorizontalFlip", "RandomResizedCrop", "Resize"]
