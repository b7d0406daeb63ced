"""The decode threads, all of them started before there is work.

A `ThreadPoolExecutor` starts a thread when it has too few for what it was given, and where the system allows no further
one that raises in `submit`, although the threads there are would do the work. So they are started here, and a pool of
as many as could be is what the pipeline gets.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from asyncbatch._priority import work_in_the_background

__all__ = ["start_threads"]

_OTHERS = 2  # the thread that plans and one that reads are started later, and nothing works without them


def start_threads(wanted: int, name: str) -> ThreadPoolExecutor:
    """Return a pool of `wanted` running threads, or of as many as the system allows.

    Args:
        wanted: How many.
        name: What they are called, followed by their number.

    Raises:
        RuntimeError: Not even one can be started.
    """
    with ExitStack() as places:
        _hold(places, _OTHERS)
        while True:
            pool = ThreadPoolExecutor(wanted, thread_name_prefix=name, initializer=work_in_the_background)
            try:
                started = _start(pool, wanted)
            except BaseException:
                pool.shutdown()
                raise
            if started == wanted:
                return pool
            pool.shutdown()
            wanted = started


def _start(pool: ThreadPoolExecutor, wanted: int) -> int:
    """Start up to `wanted` threads; return how many there are."""
    gate = threading.Event()
    started = 0
    try:
        for _ in range(wanted):
            pool.submit(gate.wait)  # each keeps one thread busy, so that the next needs another
            started += 1
    except RuntimeError:
        if not started:
            raise
    finally:
        gate.set()
    return started


def _hold(places: ExitStack, count: int) -> None:
    """Hold the places of threads that are to be started later, until `places` is closed."""
    for _ in range(count):
        gate = threading.Event()
        thread = threading.Thread(target=gate.wait, name="asyncbatch-place")
        try:
            thread.start()
        except RuntimeError:  # it will be as scarce when they are started; the reader knows how to wait
            return
        places.callback(thread.join)
        places.callback(gate.set)
