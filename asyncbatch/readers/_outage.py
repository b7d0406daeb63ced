"""Whether an object store answers at all: a store that is away is no sample's fault.

A sample that fails as often as it may be tried is to blame only if others are answered meanwhile. Where none was, a
single request, the probe, finds out, with growing pauses, while all others are held back. When it is answered they go
on as if nothing had happened; when the grace period ends before that, all fail with one clear error.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from time import monotonic

from asyncbatch._errors import StorageUnresponsive, describe
from asyncbatch.readers._fates import Fate, delays, fate_of

__all__ = ["Outage", "Probe"]

_logger = logging.getLogger("asyncbatch")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0

_LEAST = 1.0  # seconds that a probe is given, however little of the grace period is left

Probe = Callable[[], Awaitable[object]]
"""Asks the store for something small."""


class Outage:
    """Of one store; belongs to the event loop.

    Args:
        name: What the error calls it.
        grace: Seconds that it may be away.
        deadline: Gives the seconds that a request may take.
    """

    def __init__(self, name: str, grace: float, deadline: Callable[[], float]) -> None:
        self._name = name
        self._grace = grace
        self._deadline = deadline
        self._answered_at = -math.inf
        self._failing_since: float | None = None
        self._probing: asyncio.Task[bool] | None = None
        self._death: str | None = None

    @property
    def is_overdue(self) -> bool:
        """Whether nothing was answered for the grace period, while something was asked."""
        return self._failing_since is not None and monotonic() >= self._failing_since + self._grace

    def answered(self) -> None:
        """Hear that the store answered, if only that there is no such object."""
        self._answered_at = monotonic()
        self._failing_since = None

    def failed(self) -> None:
        """Hear that it did not, or with an error that may pass."""
        self._failing_since = self._failing_since or monotonic()

    async def ready(self) -> None:
        """Wait while the store is away.

        Raises:
            StorageUnresponsive: It did not come back within the grace period.
        """
        if self._probing is not None:
            await asyncio.shield(self._probing)
        if self._death is not None:
            raise self._error()

    async def was_away(self, since: float, probe: Probe) -> bool:
        """Whether the store, and not a sample, is why that was not answered; if so, it is back now.

        Args:
            since: When the sample was first asked for, of `monotonic()`.
            probe: Asks for something that was answered before, if there is any.

        Raises:
            StorageUnresponsive: It did not come back within the grace period.
        """
        if self._answered_at > since and not self.is_overdue:
            return False
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._try_until_back(probe))
            self._probing.add_done_callback(self._probed)
        return await asyncio.shield(self._probing)

    async def aclose(self) -> None:
        """End the probing."""
        if (probing := self._probing) is not None:
            probing.cancel()
            await asyncio.wait([probing])

    def _probed(self, task: asyncio.Task[bool]) -> None:
        self._probing = None
        if not task.cancelled():
            task.exception()  # those who wait for it raise it; there may be none

    async def _try_until_back(self, probe: Probe) -> bool:
        start = monotonic()
        end = (self._failing_since or start) + self._grace
        said = False
        for pause in delays(_FIRST_PAUSE, _LONGEST_PAUSE):
            try:
                async with asyncio.timeout(min(self._deadline(), max(_LEAST, end - monotonic()))):
                    await probe()
            except Exception as error:  # noqa: BLE001 - its fate decides
                if fate_of(error) in (Fate.FINAL, Fate.SCARCE):
                    break
                what = "no request was answered" if isinstance(error, TimeoutError) else describe(error)
            else:
                break
            if monotonic() >= end:
                self._death = what
                raise self._error()
            if not said:
                said = True
                _logger.warning(
                    "%s does not answer: %s; waiting up to %g s for it", self._name, what, self._grace
                )  # fmt: skip
            await asyncio.sleep(min(pause, max(0.0, end - monotonic())))
        self.answered()
        if said:
            _logger.info("%s answers again, after %.1f s", self._name, monotonic() - start)
        return said

    def _error(self) -> StorageUnresponsive:
        return StorageUnresponsive(
            f"{self._name} does not answer: {self._death}, for {self._grace:g} s; see to the store and the way to it, "
            "and to go on where it broke write loader.load_state_dict(loader.state_dict()) and iterate again; or give "
            f"it more time: reader=ObjectReader(grace={3 * self._grace:g})"
        )
