"""What a batch is between its making and its delivery, which need not be in one process."""

from __future__ import annotations

import copy
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, Self

from asyncbatch._errors import AsyncbatchError, SampleError
from asyncbatch._types import Array, Indices

__all__ = ["Coming", "Dooms", "MadeBatch", "Producer", "Times"]


class Times(NamedTuple):
    """When a batch was made, in seconds of `time.perf_counter()`.

    Attributes:
        read: When its last bytes came; 0 where nothing was read for it, or a thread read and decoded in one go.
        complete: When it was complete.
        reading: The share of the time between the two, 0 to 1, that was reading still.
    """

    read: float
    complete: float
    reading: float

    def causes(self, asked: float, now: float) -> tuple[float, float, float]:
        """Return for how many seconds between two times the batch was not read, was not decoded, and was ready."""
        read = min(max(self.read, asked), now)
        complete = min(max(self.complete, read), now)
        making = complete - read
        return read - asked + self.reading * making, (1 - self.reading) * making, now - complete


_UNKNOWN = Times(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBatch:
    """A batch with all that became of its samples. Whoever delivers it counts its failures and raises its error.

    It can be pickled: errors take along what caused them, and that its traceback as a note.

    Attributes:
        number: Its number through all epochs, `epoch * steps + step`.
        epoch: The epoch it belongs to.
        step: Its place there.
        rows: (B, *row), its rows; a list of them where they are not alike; empty where none is left.
        labels: (B,) or (B, K); None where the source has none.
        indices: (B,) int64, each row's index in the source.
        keys: Each row's name.
        failures: The errors that may be let pass, in the order of the samples.
        replaced: How many rows are stand-ins.
        error: What it raises after these.
        times: When it was made.
    """

    number: int
    epoch: int
    step: int
    rows: Array | Sequence[Array] = ()
    labels: Array | None = None
    indices: Indices
    keys: Sequence[str] = ()
    failures: Sequence[SampleError] = ()
    replaced: int = 0
    error: AsyncbatchError | None = None
    times: Times = _UNKNOWN

    @property
    def is_void(self) -> bool:
        """Whether nothing is left of it to be delivered, and nothing to be raised."""
        return self.error is None and not len(self.rows)

    def later(self, seconds: float) -> Self:
        """Return it as it is by a clock that shows more: that of another machine."""
        read, complete, reading = self.times
        return replace(self, times=Times(read and read + seconds, complete + seconds, reading))

    def __reduce__(self) -> tuple[Any, ...]:
        causes = [None if error is None else _portable(error.__cause__) for error in (*self.failures, self.error)]
        return _rebuilt, ({one.name: getattr(self, one.name) for one in fields(self)}, causes)


def _rebuilt(values: dict[str, Any], causes: Sequence[BaseException | None]) -> MadeBatch:
    made = MadeBatch(**values)
    for error, cause in zip((*made.failures, made.error), causes, strict=True):
        if error is not None:
            error.__cause__ = cause
    return made


def _portable(cause: BaseException | None) -> BaseException | None:
    """Return an exception that survives a journey to another process, with its traceback in words."""
    if cause is None:
        return None
    trace = "".join(traceback.format_exception(cause)) if cause.__traceback__ is not None else ""
    portable: BaseException
    try:
        portable = copy.deepcopy(cause)  # takes it apart and rebuilds it, as the journey will: many fail in the latter
    except Exception:  # noqa: BLE001 - whatever a user's exception raises there
        portable = RuntimeError(f"{type(cause).__name__}: {cause}")
    if trace:
        portable.add_note(f"where it was raised, in another process:\n{trace}")
    return portable


Coming = Callable[[int], Awaitable[Sequence[int]]]
"""Awaited on the event loop for the numbers of the next batches: one at least, no more than is asked for, none at the
end."""

Dooms = Callable[[int, int], bool]
"""Told the epoch of a complete batch and how many of its samples failed, it returns whether the epoch is certain to
raise for them, so that nothing more need be made."""


class Producer(Protocol):
    """Makes the batches of one iteration: the pipeline of this process, or what has them made elsewhere.

    Its methods are called on the event loop of the iteration's thread, but for `credit`; as a context manager it is
    entered and left in that thread, outside of the loop, where it may block.
    """

    def batches(self) -> AsyncGenerator[MadeBatch, None]:
        """Yield the batches until the last one, or until `stop`; an error that it raises ends the iteration."""
        ...

    def credit(self) -> None:
        """Hear that a batch was taken, or dropped as void: there may be another. Called from any thread."""

    def stop(self) -> None:
        """End the iteration early: `batches` then ends as it does after the last batch."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: object) -> None: ...
