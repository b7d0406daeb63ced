"""What a source and its reader say to each other where many samples are read at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from asyncbatch._types import Sample, Source

__all__ = ["ChunkedSample", "ChunkedSource"]


@dataclass(frozen=True, slots=True)
class ChunkedSample(Sample):
    """A sample of a `ChunkedSource`: which chunk it is in, and which row of that."""

    chunk: int = 0
    row: int = 0


class ChunkedSource(Source, Protocol):
    """A source whose samples, `ChunkedSample`s, are read many at a time: see `sources.parquet`.

    Attributes:
        keep: The budget for chunks in memory, in bytes.
    """

    @property
    def keep(self) -> int: ...

    def chunk_size(self, chunk: int, /) -> int:
        """Return how many bytes of memory a chunk takes."""
        ...

    def load_chunk(self, chunk: int, /) -> Sequence[bytes]:
        """Read a chunk, in one of several threads; return its rows, which are looked at on the event loop."""
        ...
