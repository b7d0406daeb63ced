"""A read that is expected to succeed, without a task that waits for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from mmap import mmap
from typing import NamedTuple

from asyncbatch.readers._identity import Identities
from asyncbatch.readers._whole import Content, Outcome

__all__ = ["FirstTry", "GoOn", "Tell", "Timed"]


class Timed(NamedTuple):
    """A sample's bytes, and how long the storage took for them.

    Attributes:
        data: The bytes.
        began: When the try began that brought them, in seconds of `time.perf_counter`: pauses before it, and waiting
            for room, are not the storage's time. None where the storage was not asked, since a cache had them.
        ended: When it ended, likewise.
    """

    data: bytes | mmap
    began: float | None
    ended: float


GoOn = Callable[[], Awaitable[bytes | mmap | Timed]]
"""What is left to do for a read."""

Tell = Callable[[Content | None, GoOn | None], None]
"""Takes what was read; or None and what is left to be done for it."""


class FirstTry:
    """What the queue answers, in the manner of a future; belongs to the event loop.

    Args:
        path: The sample's, as its source has it.
        identities: What the storage's files looked like.
        tell: Called with what was read if nothing is amiss.
        go_on: Reads what could not simply be read, given what the storage answered.
    """

    __slots__ = ("_go_on", "_identities", "_is_done", "_path", "_tell")

    def __init__(
        self,
        path: str,
        identities: Identities,
        tell: Tell,
        go_on: Callable[..., Awaitable[Timed]],
    ) -> None:
        self._path = path
        self._identities = identities
        self._tell = tell
        self._go_on = go_on
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, outcome: Outcome) -> None:
        self._is_done = True
        if not isinstance(outcome, Content) or outcome.touched:
            self._tell(None, partial(self._go_on, first=outcome))
            return
        try:
            self._identities.check(self._path, outcome)
        except Exception as error:  # noqa: BLE001 - its fate decides, like that of any other
            self._tell(None, partial(self._go_on, first=error))
        else:
            self._tell(outcome, None)

    def set_exception(self, error: BaseException) -> None:
        self._is_done = True
        self._tell(None, partial(self._go_on, first=error))
