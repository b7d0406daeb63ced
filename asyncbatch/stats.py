"""What a loader did so far, counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import SimpleNamespace

__all__ = ["Counters", "Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot over the loader's life.

    Attributes:
        batches: Batches delivered to the caller.
        samples: Samples in these.
        bytes_read: Bytes that came from storage, for batches still ahead of the caller too.
        read_seconds: Sum of the time that each read took. Divided by the wall time it is the mean number of reads under
            way.
        decode_seconds: Sum of the time that each decoding took, likewise. Near `decode_threads` × wall time, decoding
            is the limit.
        wait_seconds: How long the caller waited for batches. Near zero, the caller's own work is the limit.
        compute_seconds: How long the caller was busy between batches.
    """

    batches: int = 0
    samples: int = 0
    bytes_read: int = 0
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    compute_seconds: float = 0.0


class Counters(SimpleNamespace):
    """The running counts behind `Stats`, by the same names. None is locked.

    One thread of an iteration adds to each. Two iterations overlap only while an abandoned one ends.
    """

    def __init__(self) -> None:
        super().__init__(**asdict(Stats()))

    def snapshot(self) -> Stats:
        return Stats(**vars(self))
