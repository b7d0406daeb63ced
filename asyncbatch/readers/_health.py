"""Whether a storage is there at all: the circuit breaker.

A mount whose daemon died answers every read at once, with an error. Trying all reads again and again would only make
noise, so they are held back while a single one, the probe, is tried with growing pauses. When it comes through, the
others follow as if nothing had happened; when the grace period ends before that, all fail with one clear error.
(The pattern is Nygard's, "Release It!", 2007.)
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from time import monotonic

from asyncbatch._errors import StorageUnresponsive, describe
from asyncbatch.readers._fates import Fate, delays, fate_of
from asyncbatch.readers._flight import Ask
from asyncbatch.readers._queue import ReadQueue
from asyncbatch.readers._whole import Outcome, Readable

__all__ = ["Health"]

_logger = logging.getLogger("asyncbatch")

_STREAK = 16  # errors in a row, of different files, that may each pass: not each of them, the storage is ill
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class Health:
    """Of one storage; belongs to the event loop.

    Args:
        queue: The reads to hold back.
        grace: Seconds that the storage may be away.
        name: What the error calls it.
        on_down: Called with the error that shows that it is away, once each time.
    """

    def __init__(self, queue: ReadQueue, grace: float, name: str, on_down: Callable[[Exception], None]) -> None:
        self._queue = queue
        self._grace = grace
        self._name = name
        self._on_down = on_down
        self._probing: asyncio.Task[None] | None = None
        self._death: str | None = None
        self._back: asyncio.Event = asyncio.Event()
        self._back.set()
        self._failed: set[str] = set()  # files that failed since the last success
        self._errors = 0
        self._silent = False

    @property
    def is_up(self) -> bool:
        return self._back.is_set() and not self._silent and self._death is None

    async def ready(self) -> None:
        """Wait until the storage is there.

        Raises:
            StorageUnresponsive: It did not come back within the grace period.
        """
        await self._back.wait()
        if self._death is not None:
            raise self._error()

    def answered(self, part: Readable, error: Exception | None) -> None:
        """Take note of what a read gave."""
        self._silent = False
        if error is None or fate_of(error) is Fate.FINAL:
            if self._errors:
                self._errors = 0
                self._failed.clear()
        elif fate_of(error) is Fate.DEAD:
            self._probe(self._queue.good or part, error)
        elif fate_of(error) is Fate.RETRY and self._queue.good is not None:
            self._errors += 1
            self._failed.add(part.path)
            if self._errors >= _STREAK and len(self._failed) > _STREAK // 4:
                self._probe(self._queue.good, error)

    def fell_silent(self) -> None:
        """No read is answered, but the grace period is not over: where there is a replica, it is time to turn to it."""
        self._silent = True

    def die(self, what: str) -> None:
        """Give the storage up for the rest of the iteration."""
        self._death = what
        self._back.set()
        self._queue.hold()
        self._queue.fail_all(self._error)

    def close(self) -> None:
        """End the probing."""
        if self._probing is not None:
            self._probing.cancel()

    def _error(self) -> StorageUnresponsive:
        return StorageUnresponsive(
            f"{self._name} does not answer: {self._death}; see to the mount, and to go on where it broke write "
            "loader.load_state_dict(loader.state_dict()) and iterate again; or give it more time: "
            f"reader=FileReader(grace={3 * self._grace:g})"
        )

    def _probe(self, part: Readable, error: Exception) -> None:
        if self._back.is_set() and self._death is None:
            self._back.clear()
            self._queue.hold()
            self._on_down(error)
            _logger.warning(
                "%s does not answer: %s: %s; %s",
                self._name, part.path, describe(error),
                "until it is back, the other roots are read" if self._grace == math.inf
                else f"waiting up to {self._grace:g} s for it",
            )  # fmt: skip
            self._probing = asyncio.ensure_future(self._try_until_back(part, error))

    async def _try_until_back(self, part: Readable, error: Exception) -> None:
        start = monotonic()
        end = start + self._grace
        for pause in delays(_FIRST_PAUSE, _LONGEST_PAUSE):
            await asyncio.sleep(min(pause, max(0.0, end - monotonic())))
            try:
                # Not every event loop takes an endless time-out as one.
                async with asyncio.timeout(None if end == math.inf else max(0.0, end - monotonic())):
                    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                    self._queue.put(Ask(part, answer), at_once=True)
                    await answer
            except TimeoutError as late:
                error = late if isinstance(late, OSError) and late.errno else error
            except Exception as again:  # noqa: BLE001 - whatever it is, its fate decides
                error = again
                if fate_of(again) in (Fate.FINAL, Fate.SCARCE):
                    break
            else:
                break
            if monotonic() >= end:
                self.die(f"{describe(error)}, for {self._grace:g} s")
                return
        self._errors = 0
        self._failed.clear()
        self._back.set()
        self._queue.resume()
        _logger.info("%s answers again, after %.1f s", self._name, monotonic() - start)
