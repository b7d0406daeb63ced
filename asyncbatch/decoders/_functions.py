"""Any `callable(bytes) -> ndarray` as a decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError
from asyncbatch._types import Array, Decoder, SeedKey

__all__ = ["as_decoder"]


@dataclass(frozen=True)
class _FunctionDecoder:
    """Calls a function with the bytes. What it returns tells the shape and dtype of the rows, so there are no slots."""

    function: Callable[[Any], Any]
    row_shape: None = None
    row_dtype: None = None

    def decode(self, data: Any, out: Array | None, seed: SeedKey) -> Array:
        row = self.function(data)
        if not isinstance(row, np.ndarray):
            raise TypeError(f"decoder={self.function!r} must return a numpy.ndarray, got {type(row).__name__}")
        return row


def as_decoder(decoder: Any) -> Decoder:
    """Return a decoder as it is, and a function as a decoder.

    Raises:
        ConfigError: It is neither.
    """
    if not isinstance(decoder, type):
        if isinstance(decoder, Decoder):
            return decoder
        if callable(decoder):
            return _FunctionDecoder(decoder)
    raise ConfigError(
        f"decoder must be an ImageDecoder, another Decoder or a callable(bytes) -> ndarray, got {decoder!r}; "
        f"write decoder=ImageDecoder((224, 224))"
    )
