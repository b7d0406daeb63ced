"""Reads files, more and more at once, and keeps the time, without trusting any read to return."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

__all__ = ["LEVELS", "Level", "Probe", "Reading"]

LEVELS = (1, 2, 4, 8, 16, 32, 64, 128)
BYTES = 512_000_000  # that are read in all, at most
FILE_BYTES = 1 << 20  # that are read of a file, at most: the larger ones would use the budget up
GAIN = 1.1  # a level is of use when it reads at least so much more than the best before it
AGAIN = 8  # files that are read a second time, to see whether the system kept them

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Reading:
    """One file, read: moments in seconds of one clock, and bytes."""

    start: float
    opened: float
    stop: float
    size: int
    cached: bool | None = None

    @property
    def seconds(self) -> float:
        return self.stop - self.start


@dataclass(slots=True)
class Level:
    """What so many readers at once got done.

    Attributes:
        readers: How many there were.
        readings: The files that were read.
        full: How long all readers were busy, in seconds from `began`; after that some had nothing left to read.
        began: When it began.
        processor: Seconds of processor time that this process used, a second.
        errors: Error numbers and messages of the files that could not be read.
        hung: Files whose reads had not returned at the end, and how long each had taken.
        reused: Whether some files had been read before, for want of others.
    """

    readers: int
    readings: list[Reading] = field(default_factory=list)
    full: float = 0.0
    began: float = 0.0
    processor: float = 0.0
    errors: list[str] = field(default_factory=list)
    hung: list[tuple[str, float]] = field(default_factory=list)
    reused: bool = False

    @property
    def files_per_second(self) -> float:
        """Files a second while all readers were busy; a read that went on beyond counts for its share within."""
        return self._done(lambda _: 1.0)

    @property
    def bytes_per_second(self) -> float:
        return self._done(lambda reading: float(reading.size))

    def _done(self, worth: Callable[[Reading], float]) -> float:
        end = self.began + self.full
        shares = ((r, (min(r.stop, end) - r.start) / max(r.seconds, 1e-9)) for r in self.readings)
        return sum(worth(r) * share for r, share in shares if share > 0) / max(self.full, 1e-9)


class Probe:
    """Reads the files of a list, each once as long as there are enough.

    Args:
        files: What to read.
        seconds: How long all levels together may take.
        tick: Told after each level which share of the time is over, 0 to 1.
    """

    def __init__(self, files: Sequence[str], seconds: float, tick: Callable[[float], None] = lambda _: None) -> None:
        self._files = files
        self._used = 0
        self._began = time.perf_counter()
        self._end = self._began + seconds
        self._stop = self._began + 0.9 * seconds  # no read begins later: the last tenth is for those that are late
        self._share = 0.9 * seconds / len(LEVELS)
        self._tick = tick
        self._bytes = 0
        self.levels: list[Level] = []
        self.again: list[Reading] = []
        self.ended = ""

    def run(self) -> None:
        """Measure level after level until more readers are of no use, or a bound is reached; `ended` says which."""
        for readers in LEVELS:
            if self.ended:
                return
            if readers > len(self._files):
                self.ended = "files"  # two readers on one file would wait for each other
                return
            self._measure(readers)
            self._tick((time.perf_counter() - self._began) / (self._end - self._began))
        self.ended = self.ended or "most"

    def _measure(self, readers: int) -> None:
        count = max(32, 8 * readers)
        size = self._mean_size()
        affordable = int((BYTES - self._bytes) / 2 / max(size, 1)) if size else count
        count = min(count, max(affordable, 0), max(readers, len(self._files)))
        if count < 2 * readers and affordable < 2 * readers:
            self.ended = "bytes"
            return
        chosen = [self._files[(self._used + i) % len(self._files)] for i in range(count)]
        level = self._work(readers, chosen, self._share)
        level.reused = self._used + len(level.readings) > len(self._files)
        self._used += len(level.readings) + len(level.errors) + len(level.hung)
        self._bytes += sum(reading.size for reading in level.readings)
        self.levels.append(level)
        if level.hung:
            self.ended = "hung"
        elif not level.readings:
            self.ended = "errors"
        elif readers == 1 and time.perf_counter() < self._stop:
            self._read_again(chosen[: min(AGAIN, len(level.readings))])
        if not self.ended and self._no_use():
            self.ended = "plateau"
        if not self.ended and self._stop - time.perf_counter() < self._share / 2:
            self.ended = "time"

    def _work(self, readers: int, files: Sequence[str], seconds: float, *, fresh: bool = True) -> Level:
        """Read for so long if there is so much left; then wait until the very end, for a hung read ends it all."""
        now = time.perf_counter()
        seconds = max(0.0, min(seconds, self._stop - now))
        return _Team(readers, files, seconds, fresh=fresh).work(max(0.5, self._end - now - seconds))

    def _mean_size(self) -> float:
        readings = [reading for level in self.levels for reading in level.readings]
        return sum(reading.size for reading in readings) / len(readings) if readings else 0.0

    def _no_use(self) -> bool:
        """Tell whether the last two levels are no better than the best before: one alone may be bad luck."""
        rates = [level.files_per_second for level in self.levels]
        return len(rates) > 2 and max(rates[-2:]) < GAIN * max(rates[:-2])

    def _read_again(self, files: list[str]) -> None:
        level = self._work(1, files, self._share / 4, fresh=False)
        self.again = level.readings
        if level.hung:
            self.levels[-1].hung += level.hung
            self.ended = "hung"


class _Team:
    """Readers on daemon threads, which share a list of files."""

    def __init__(self, readers: int, files: Sequence[str], seconds: float, *, fresh: bool = True) -> None:
        self._level = Level(readers)
        self._left = deque(files)  # its popleft is atomic
        self._seconds = seconds
        self._fresh = fresh
        self._under_way: dict[int, tuple[str, float]] = {}
        self._gone: SimpleQueue[float] = SimpleQueue()  # when each reader found nothing more to read

    def work(self, patience: float) -> Level:
        """Read until the files or the time are over, then wait up to `patience` seconds for those under way."""
        level = self._level
        level.began = time.perf_counter()
        self._end = level.began + self._seconds
        processor = time.process_time()
        threads = []
        for number in range(level.readers):
            thread = threading.Thread(target=self._read, args=(number,), name="asyncbatch-doctor", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads allowed: those there are will do
                level.readers = max(number, 1)
                break
            threads.append(thread)
        gone = list(self._await(len(threads), self._end + patience))
        # Between copies: readers that hang may yet return, and what they find must not change what is reported.
        result = Level(level.readers, list(level.readings), began=level.began, errors=list(level.errors))
        result.full = min([*gone, self._end, time.perf_counter()]) - level.began
        result.processor = (time.process_time() - processor) / max(time.perf_counter() - level.began, 1e-9)
        now = time.perf_counter()
        if len(gone) < len(threads):
            result.hung = [(path, now - start) for path, start in list(self._under_way.values())]
            # What a reader that hangs did not read must not count against those that went on.
            result.full = min(result.full, max((r.stop - level.began for r in result.readings), default=0.0))
        else:
            for thread in threads:
                thread.join()
        return result

    def _await(self, readers: int, end: float) -> Iterator[float]:
        for _ in range(readers):
            try:
                yield self._gone.get(timeout=max(0.0, end - time.perf_counter()))
            except Empty:
                self._left.clear()
                return

    def _read(self, number: int) -> None:
        try:
            while True:
                path = self._left.popleft()
                self._under_way[number] = (path, time.perf_counter())
                try:
                    self._level.readings.append(read(path, fresh=self._fresh))
                except OSError as error:
                    self._level.errors.append(f"{path}: {error.strerror}")
                del self._under_way[number]
                if time.perf_counter() >= self._end:  # asked afterwards: however late it began, each reads one
                    return
        except IndexError:  # nothing is left
            pass
        finally:
            self._gone.put(time.perf_counter())


def read(path: str, *, fresh: bool) -> Reading:
    """Read a file's first MiB, after asking the system to forget what it holds of it (`fresh`).

    Raises:
        OSError: That failed, or it is no regular file.
    """
    start = time.perf_counter()
    descriptor = os.open(path, _FLAGS)
    try:
        opened = time.perf_counter()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file")
        if fresh and hasattr(os, "posix_fadvise"):  # drops clean pages only, and harms nobody: the next reader reads
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        cached = _is_cached(descriptor)
        left = FILE_BYTES
        while left and (data := os.read(descriptor, left)):
            left -= len(data)
    finally:
        os.close(descriptor)
    return Reading(start, opened, time.perf_counter(), FILE_BYTES - left, cached)


def _is_cached(descriptor: int) -> bool | None:
    """Tell whether the system has the file's beginning in memory; None where it does not say, as on most mounts."""
    if sys.platform != "linux":
        return None
    try:
        return True if os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT) else None  # an empty file is nowhere
    except BlockingIOError:
        return False
    except OSError:
        return None
