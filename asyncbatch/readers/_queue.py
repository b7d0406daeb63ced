"""Reads that wait for their turn, and those under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from asyncbatch.readers._fates import Fate, fate_of
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.readers._tuning import Tuner
from asyncbatch.readers._whole import Content, Hop, Part, run

__all__ = ["Ask", "Flight", "ReadQueue"]

_DEVICES = 64  # file systems that an example is kept of

Ask = tuple[Part, "asyncio.Future[Content]", "asyncio.Future[None] | None"]
"""A read, who is told what it gave, and who is told that it is slow."""


class Flight(Hop):
    """A hop under way, and who waits for it.

    Attributes:
        alarm: Goes off when it is slow.
    """

    __slots__ = ("alarm", "asks", "generation")

    def __init__(self, asks: list[Ask], generation: int, max_size: int, devices: dict[int, str]) -> None:
        super().__init__([part for part, _, _ in asks], max_size, devices)
        self.asks = asks
        self.generation = generation
        self.alarm: asyncio.TimerHandle | None = None

    def is_slow(self) -> None:
        """Tell whoever wants to hear of it."""
        for _, answer, slow in self.asks:
            if slow is not None and not slow.done() and not answer.done():
                slow.set_result(None)


class ReadQueue:
    """Starts the reads of one storage, as many at once as the tuner allows; belongs to the event loop.

    While reading is fast, files share a hop to a thread. On slow storage each has a thread of its own, and none waits
    for another.

    Args:
        pool: The threads.
        tuner: How many hops at once, of how many files.
        max_size: Larger parts are refused, in bytes.
        on_take_off: Called with each flight that begins.
        on_landed: Called with each flight that came back in time.

    Attributes:
        flying: What is under way, the oldest first.
        good: The part that was read last without an error; None before the first.
        answered: When the latest of all hops that the storage answered had begun, in seconds of `time.monotonic`.
    """

    def __init__(
        self,
        pool: DaemonThreadPool,
        tuner: Tuner,
        max_size: int,
        *,
        on_take_off: Callable[[Flight], None],
        on_landed: Callable[[Flight], None],
    ) -> None:
        self.flying: dict[Flight, None] = {}
        self.good: Part | None = None
        self.answered = 0.0
        self._pool = pool
        self._tuner = tuner
        self._max_size = max_size
        self._on_take_off = on_take_off
        self._on_landed = on_landed
        self._waiting: deque[Ask] = deque()
        self._devices: dict[int, str] = {}
        self._held = False
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive
        self._will_pump = False

    def ask(
        self, part: Part, slow: asyncio.Future[None] | None = None, *, at_once: bool = False
    ) -> asyncio.Future[Content]:
        """Have a part read in its turn.

        Args:
            part: What to read.
            slow: Is told if it takes long once it has begun.
            at_once: Now, whatever else is under way or held back.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Content] = loop.create_future()
        if at_once:
            self._take_off([(part, answer, slow)])
        else:
            self._waiting.append((part, answer, slow))
            self._pump_soon()
        return answer

    def hold(self) -> None:
        """Begin no read until `resume`, but those asked for at once."""
        self._held = True

    def resume(self) -> None:
        """Go on where `hold` stopped."""
        self._held = False
        self._pump_soon()

    def send_scout(self) -> bool:
        """Begin one read beyond the limit, to see whether the storage answers at all; False if there is none to try."""
        asks = self._next_asks(1)
        if not asks and self.good is not None:
            nobody: asyncio.Future[Content] = asyncio.get_running_loop().create_future()
            nobody.cancel()
            asks = [(self.good, nobody, None)]
        if asks:
            self._take_off(asks)
        return bool(asks)

    def give_up(self, flight: Flight, error: Exception) -> None:
        """Wait no longer for a flight: the file that it is at gets `error`, those behind it another hop."""
        del self.flying[flight]
        flight.given_up = True
        if flight.thread is not None:
            self._pool.give_up(flight.thread)
        results = list(flight.results)
        self._resolve(flight.asks, [*results, error])
        self._waiting.extendleft(reversed(flight.asks[len(results) + 1 :]))
        self._pump_soon()

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """Answer everybody with an error of their own; threads that are under way go on, and nobody hears of them."""
        asks = [ask for flight in self.flying for ask in flight.asks]
        asks += self._waiting
        self._waiting.clear()
        for _, answer, _ in asks:
            if not answer.done():
                answer.set_exception(error())

    def _pump_soon(self) -> None:
        if not self._will_pump:
            self._will_pump = True
            asyncio.get_running_loop().call_soon(self._pump)  # after everybody who asks in this turn of the loop

    def _pump(self) -> None:
        self._will_pump = False
        while not self._held and len(self.flying) < self._tuner.limit and (asks := self._next_asks(self._tuner.group)):
            self._take_off(asks)

    def _next_asks(self, count: int) -> list[Ask]:
        asks: list[Ask] = []
        while self._waiting and len(asks) < count:
            ask = self._waiting.popleft()
            if not ask[1].done():  # done: cancelled, for the iteration ends
                asks.append(ask)
        return asks

    def _take_off(self, asks: list[Ask]) -> None:
        flight = Flight(asks, self._tuner.generation, self._max_size, self._devices)
        self.flying[flight] = None
        task = asyncio.ensure_future(run(flight, executor=self._pool))
        self._tasks.add(task)
        task.add_done_callback(partial(self._landed, flight))
        self._on_take_off(flight)

    def _landed(self, flight: Flight, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if flight.alarm is not None:
            flight.alarm.cancel()
        if task.cancelled():
            return
        error = task.exception()  # the pool's: no thread can be started
        if flight.given_up:
            return
        del self.flying[flight]
        self._learn(flight)
        self._resolve(flight.asks, [error] * len(flight.asks) if error is not None else flight.results)
        self._on_landed(flight)
        self._pump()

    def _learn(self, flight: Flight) -> None:
        for part, result in zip(flight.parts, flight.results, strict=False):
            if isinstance(result, Content):
                self.good = part
                if result.device not in self._devices and len(self._devices) < _DEVICES:
                    self._devices[result.device] = part.path
            elif fate_of(result) in (Fate.DEAD, Fate.SCARCE):
                continue
            self.answered = max(self.answered, flight.began or 0.0)

    @property
    def others_wait(self) -> bool:
        """Whether more reads are asked for than may begin."""
        return bool(self._waiting)

    @staticmethod
    def _resolve(asks: Sequence[Ask], results: Sequence[Content | BaseException]) -> None:
        for (_, answer, _), result in zip(islice(asks, len(results)), results, strict=True):
            if answer.done():  # cancelled, or answered otherwise
                continue
            if isinstance(result, Content):
                answer.set_result(result)
            else:
                answer.set_exception(result)
