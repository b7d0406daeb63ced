"""Reads that wait for their turn, and those under way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from operator import call

from aiofiles.ospath import wrap

from asyncbatch._mailbox import Mailbox
from asyncbatch.readers._direct import DirectQueue
from asyncbatch.readers._fates import Fate, fate_of
from asyncbatch.readers._flight import Ask, Flight, resolve
from asyncbatch.readers._pool import DaemonThreadPool
from asyncbatch.readers._run import Run
from asyncbatch.readers._tuning import Tuner
from asyncbatch.readers._waiting import WaitingReads
from asyncbatch.readers._whole import Content, Outcome, Readable

__all__ = ["ReadQueue"]

_DEVICES = 64  # file systems that an example is kept of


class ReadQueue:
    """Carries out the reads of one storage, as many at once as the tuner allows; while reading is fast, in shared hops.

    A thread goes from one hop to the next by itself, a stint of them, for as long as reads wait and the tuner has room
    for it. To come back to the event loop for each file would cost more CPU than reading it: a task, two futures and
    two wake-ups, with decode threads waiting for the interpreter meanwhile. So what threads and the loop share is
    guarded by a lock, and a flight belongs to who takes it out of `flying`: the thread when it has landed, or the loop
    when it gives it up. All methods but those that say otherwise belong to the loop.

    Args:
        pool: The threads.
        tuner: How many hops at once, of how many files.
        mailbox: From the threads to the loop.
        max_size: Larger parts are refused, in bytes.
        on_busy: Called when a read is asked for.
        on_landed: Called with flights that came back in time, some at once.
        on_take_off: Called with each flight that begins, a little later; None costs less.
        on_run: Called with each run that came back.
        on_crash: Called with an error that is no sample's.

    Attributes:
        flying: What is under way, the oldest first.
        direct: Runs, which go past this queue.
        devices: An example of each file system that was read, by its number.
        good: The part that was read last without an error; None before the first.
        answered: When the latest of all hops that the storage answered had begun, in seconds of `time.monotonic`.
    """

    def __init__(
        self,
        pool: DaemonThreadPool,
        tuner: Tuner,
        mailbox: Mailbox,
        max_size: int,
        *,
        on_busy: Callable[[], None],
        on_landed: Callable[[Sequence[Flight]], None],
        on_take_off: Callable[[Flight], None] | None,
        on_run: Callable[[Run], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self.flying: dict[Flight | Run, None] = {}
        self.good: Readable | None = None
        self.answered = 0.0
        self._pool = pool
        self._tuner = tuner
        self._max_size = max_size
        self._on_busy = on_busy
        self._on_landed = on_landed
        self._on_take_off = on_take_off
        self._mailbox = mailbox
        self._loop = asyncio.get_running_loop()
        self.devices: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive
        self._will_pump = False
        self._on_run = on_run
        self._lock = threading.Lock()  # guards what follows, and `flying`
        self.direct = DirectQueue(self._lock, self.flying, pool, mailbox, self._run_landed, on_crash)
        self._waiting = WaitingReads()
        self._stints = 0
        self._held = False

    @property
    def others_wait(self) -> bool:
        """Whether more reads are asked for than may begin."""
        return bool(self._waiting)

    def put(self, ask: Ask, *, urgent: bool = False, at_once: bool = False) -> None:
        """Have something read in its turn, among the urgent ones if it is; or `at_once`, whatever else is under way."""
        if at_once:
            self._send([ask])
        else:
            with self._lock:
                self._waiting.append(ask, urgent=urgent)
            self.look()
        self._on_busy()

    def hold(self) -> None:
        """Begin no read until `resume`, but those asked for at once."""
        self._held = True

    def resume(self) -> None:
        """Go on where `hold` stopped."""
        self._held = False
        self._pump_soon()

    def look(self) -> None:
        """Begin more reads if the tuner has room for them."""
        if self._waiting and self._stints < self._tuner.most:
            self._pump_soon()

    def close(self) -> None:
        """Begin nothing any more; what is under way stops where it is safe."""
        self.hold()
        self.direct.close()
        for flight in list(self.flying):
            flight.given_up = True

    def hear(self) -> None:
        """Take note of all that has landed, whether or not somebody waits for it."""
        self._mailbox.flush()

    def send_scout(self) -> bool:
        """Begin one read beyond the limit, to see whether the storage answers at all; False if there is none to try."""
        with self._lock:
            asks = self._next_asks(1)
        if not asks and self.good is not None:
            nobody: asyncio.Future[Outcome] = self._loop.create_future()
            nobody.cancel()
            asks = [Ask(self.good, nobody)]
        if asks:
            self._send(asks)
        return bool(asks)

    def give_up(self, flight: Flight | Run, error: Exception) -> bool:
        """Wait no longer for a flight: the file that it is at gets `error`, those behind it another hop.

        Returns:
            False if it has just landed.
        """
        if isinstance(flight, Run):
            return self.direct.give_up(flight, error)
        self._tuner.hung()  # what shared its hop may hang as well, and would do so one by one
        with self._lock:
            if self.flying.pop(flight, flight) is flight:
                return False
            flight.given_up = True
            results = list(flight.results)
            self._waiting.put_back(flight.asks[len(results) + 1 :])
            self._stints -= flight.in_stint
        if flight.thread is not None:
            self._pool.give_up(flight.thread)
        resolve(flight.asks, [*results, error])
        self._pump_soon()
        return True

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """Answer everybody with an error of their own; threads that are under way go on, and nobody hears of them."""
        with self._lock:
            asks = [ask for flight in self.flying if isinstance(flight, Flight) for ask in flight.asks]
            asks += self._waiting
            self._waiting.clear()
        self.direct.fail_all(error)
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_exception(error())

    def _pump_soon(self) -> None:
        if not self._will_pump:
            self._will_pump = True
            self._loop.call_soon(self._pump)  # after everybody who asks in this turn of the loop

    def _pump(self) -> None:
        self._will_pump = False
        if self._may_recruit():
            self._employ(self._stint, self._no_stint)

    def _send(self, asks: list[Ask]) -> None:
        """Begin a hop beyond the limit."""
        with self._lock:
            flight = self._begin(asks, in_stint=False)
        self._employ(lambda: self._fly_alone(flight), lambda error: self._never_flew(flight, error))

    def _employ(self, work: Callable[[], object], on_failure: Callable[[BaseException], None]) -> None:
        task = asyncio.ensure_future(_carry_out(work, executor=self._pool))
        self._tasks.add(task)
        task.add_done_callback(partial(self._employed, on_failure))

    def _employed(self, on_failure: Callable[[BaseException], None], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            on_failure(error)  # the pool's: no thread can be started

    def _no_stint(self, error: BaseException) -> None:
        with self._lock:
            self._stints -= 1
            asks = [] if self._stints else self._next_asks(1)
        resolve(asks, [error] * len(asks))  # whoever asked knows when to try again

    def _never_flew(self, flight: Flight, error: BaseException) -> None:
        with self._lock:
            del self.flying[flight]
        resolve(flight.asks, [error] * len(flight.asks))

    # -- in a thread, or with the lock ---------------------------------------------------------------------------------

    def _stint(self) -> None:
        # Starting a thread takes as long as it takes to get hold of the interpreter, so that a hundred of them would
        # keep the loop for long. Here each brings two more.
        for _ in range(2):
            if self._may_recruit():
                self._pool.submit(self._stint)
        flight = self._next_flight()
        while flight is not None:
            flight.read()
            flight = self._next_flight(flight)

    def _may_recruit(self) -> bool:
        """Count one more stint if there is work and room for it."""
        with self._lock:
            may = not self._held and bool(self._waiting) and self._stints < self._tuner.most
            self._stints += may
            return may

    def _next_flight(self, landed: Flight | None = None) -> Flight | None:
        """Begin the next flight of a stint, and tell of the one before it, that has landed; None ends the stint."""
        following = None
        with self._lock:
            if landed is not None and not self._has_landed(landed):
                return None  # the loop gave it up, and this thread with it
            room = not self._held and self._stints <= self._tuner.most
            if room and (asks := self._next_asks(self._tuner.group)):
                following = self._begin(asks, in_stint=True)
            else:
                self._stints -= 1
        if landed is not None:
            self._mailbox.post_lazily(self._landed, landed)
        return following

    def _next_asks(self, count: int) -> list[Ask]:
        asks: list[Ask] = []
        while len(asks) < count and (taken := self._waiting.take()):
            asks += taken
        return asks

    def _begin(self, asks: list[Ask], *, in_stint: bool) -> Flight:
        flight = Flight(asks, self._tuner.generation, self._max_size, self.devices, in_stint)
        self.flying[flight] = None
        if self._on_take_off is not None:
            self._mailbox.post(self._on_take_off, flight)
        return flight

    def _fly_alone(self, flight: Flight) -> None:
        flight.read()
        with self._lock:
            if not self._has_landed(flight):
                return
        self._mailbox.post_lazily(self._landed, flight)

    def _has_landed(self, flight: Flight) -> bool:
        """Take a flight that is over from those under way; False if it was given up before."""
        return self.flying.pop(flight, flight) is not flight

    # -- on the loop again ---------------------------------------------------------------------------------------------

    def _landed(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            if flight.alarm is not None:
                flight.alarm.cancel()
            self._learn(flight)
            resolve(flight.asks, flight.results)
        self._on_landed(flights)
        self.look()

    def _run_landed(self, run: Run) -> None:
        if run.count > len(run.troubles):
            self.good = run.parts[run.place]
            self.answered = max(self.answered, run.began or 0.0)
        self._on_run(run)

    def _learn(self, flight: Flight) -> None:
        for part, result in zip(flight.parts, flight.results, strict=False):
            if isinstance(result, Content):
                self.good = part
                if result.device not in self.devices and len(self.devices) < _DEVICES:
                    self.devices[result.device] = part.path
            elif isinstance(result, Exception) and fate_of(result) in (Fate.DEAD, Fate.SCARCE):
                continue
            self.answered = max(self.answered, flight.began or 0.0)


_carry_out = wrap(call)
"""`await _carry_out(work, executor=pool)`: aiofiles' way to have a blocking call done in a thread."""
