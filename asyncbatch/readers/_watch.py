"""Tells a read that hangs from a storage that is slow or silent.

A file whose read does not move for its deadline, while the storage answers others that began later, hangs: its thread
is given up and its sample fails. If the storage answers nobody, no file is to blame and no thread is thrown away: a
server that restarts comes back, and everything that waits comes with it. Only after a grace period is that an error.

Where nothing else happens to be read, at the end of an epoch or when the first files of all hang, a scout is sent: one
more read, which shows whether the storage answers. There is one timer for all reads, set to when the next look is due.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from time import monotonic

from asyncbatch.readers._fates import ReadTimeout
from asyncbatch.readers._flight import Flight
from asyncbatch.readers._queue import ReadQueue
from asyncbatch.readers._run import Run

__all__ = ["Watch"]

_logger = logging.getLogger("asyncbatch")

# A scout is a read that waits for its turn, and it may be of a file that hangs, too. So a few are sent, soon after one
# another; if none of them comes back it is not the files, and more of them would only be lost.
_SCOUTS, _SOON = 4, 16


class Watch:
    """Watches over the reads of one storage; belongs to the event loop.

    Args:
        queue: The reads.
        deadline: Gives the seconds that a read may take without moving.
        grace: Seconds that the storage may be silent.
        may_give_up: Whether another thread may be given up.
        on_given_up: Called for each read that was.
        on_silent: Called once the storage was silent for a deadline.
        on_dead: Called with what happened when there is no hope left.
    """

    def __init__(
        self,
        queue: ReadQueue,
        *,
        deadline: Callable[[], float],
        grace: float,
        may_give_up: Callable[[], bool],
        on_given_up: Callable[[], None],
        on_silent: Callable[[], None],
        on_dead: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._deadline = deadline
        self._grace = grace
        self._may_give_up = may_give_up
        self._on_given_up = on_given_up
        self._on_silent = on_silent
        self._on_dead = on_dead
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer goes off
        self._landed_at = 0.0  # the last landing, or the first question after all were answered
        self._resumed_at = 0.0  # the end of the last silence: what waits since before has a deadline from then on
        self._scouted_at = 0.0
        self._scouts = 0  # since the last answer
        self._suspects = False  # some read is late, and it is not known yet whether it alone is
        self._silent_since: float | None = None  # of a silence that the log was told of
        self._answered_before = 0.0  # what the queue's `answered` was then

    def began(self) -> None:
        """A read was asked for."""
        if self._timer is None:
            self._landed_at = monotonic()  # not to have been asked is no silence
            self._look_in(self._deadline() / 2)

    def landed(self) -> None:
        """A read came back."""
        now, deadline = monotonic(), self._deadline()
        # What began to wait in the middle of a quiet time speaks for no silence: it hangs, or nobody had asked before.
        if now - self._landed_at > deadline and now - self._owes_since(now) > deadline:
            self._resumed_at = now
        self._landed_at = now
        if self._silent_since is not None and self._queue.answered > self._answered_before:
            _logger.info("the storage answers again, after %.1f s", now - self._silent_since)
            self._silent_since = None
        if self._suspects:
            self._suspects = False
            self._scouts = 0
            self._look_in(0.0)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.001), self._look)

    def _look(self) -> None:
        self._timer = None
        self._queue.hear()
        now, deadline = monotonic(), self._deadline()
        looks = [self._judge(flight, now, deadline) for flight in list(self._queue.flying)]
        if self._suspects:
            looks.append(self._doubt(now, deadline))
        soonest = min((when for when in looks if when is not None), default=None)
        if soonest is None and self._queue.others_wait:
            soonest = now + deadline / 2
        if soonest is not None:
            self._look_in(soonest - now)

    def _judge(self, flight: Flight | Run, now: float, deadline: float) -> float | None:
        """Give a read up if it hangs; return when to look at it again."""
        if flight.moved is None:
            return now + deadline / 2  # it waits for a thread, or uses up what it has read
        since = max(flight.moved, self._resumed_at)
        # Began a good while later, that is: what was asked for at the same time may have come just before silence fell.
        if self._queue.answered > flight.moved + deadline / 4:
            if now < since + deadline:
                return since + deadline
            self._give_up(flight, deadline)
            return None
        if now < since + deadline / 2:
            return since + deadline / 2
        self._suspects = True
        return None

    def _give_up(self, flight: Flight | Run, deadline: float) -> None:
        if self._may_give_up():
            if self._queue.give_up(flight, ReadTimeout(deadline)):
                self._on_given_up()
        else:
            self._on_dead("too many reads hang")

    def _doubt(self, now: float, deadline: float) -> float:
        """Some read is late, and none that began after it was answered: ask; return when to look again."""
        if now >= self._scouted_at + deadline / (_SOON if self._scouts < _SCOUTS else 2):
            self._scouted_at = now
            self._scouts += 1
            self._queue.send_scout()
        silent_since = self._owes_since(now)
        patience = deadline / _SOON  # that the scout is given before its silence is worth a word
        if now >= self._scouted_at + patience and self._silent_since is None:
            self._say_silent(silent_since, now)
        if now >= silent_since + self._grace:
            self._on_dead(f"no read was answered for {self._grace:g} s")
        elif now >= silent_since + deadline:
            self._on_silent()
        return min(max(silent_since + self._grace, now + 0.1), now + patience)

    def _owes_since(self, now: float) -> float:
        """Return since when the storage owes an answer to somebody, and has given none."""
        oldest = min((flight.moved for flight in list(self._queue.flying) if flight.moved is not None), default=now)
        return max(oldest, self._landed_at)

    def _say_silent(self, since: float, now: float) -> None:
        """Tell the log, once each time: until the grace period ends nothing else tells why no batch comes."""
        late = next((path for flight in list(self._queue.flying) if (path := _path_of(flight))), "")
        self._silent_since, self._answered_before = since, self._queue.answered
        _logger.warning(
            "the storage has not answered for %.1f s, asked for %s%s",
            now - since, late,
            "" if self._grace == math.inf else f"; waiting up to {self._grace:g} s for it",
        )  # fmt: skip


def _path_of(flight: Flight | Run) -> str:
    """Return what a flight is reading; nothing where it waits for a thread, or its thread has just ended it."""
    parts, at = flight.parts, flight.place if isinstance(flight, Run) else len(flight.results)
    return parts[at].path if flight.moved is not None and at < len(parts) else ""
