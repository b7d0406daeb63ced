"""An executor of daemon threads, for reads that may never return.

`concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter exits, so one read that hangs on a dead
mount would keep the process alive, and it never lets a thread go. These threads are daemons, they end when there has
been nothing to do for a while, and one that is stuck can be given up: another takes its place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from asyncbatch._priority import work_in_the_background

__all__ = ["DaemonThreadPool", "in_thread"]

P = ParamSpec("P")
R = TypeVar("R")

_Job = tuple[Future[Any], Callable[[], Any]]

# A thread without work costs its stack for so many seconds: longer than a pause between two epochs.
_IDLE = 10.0


class DaemonThreadPool(Executor):
    """Runs calls on up to `max_threads` daemon threads, started when no idle one is left.

    Args:
        max_threads: The most calls that run at once, those on lost threads apart; further ones wait their turn.
        name: What the threads are called, followed by their number.
        idle: Seconds without work after which a thread ends.
        on_lost: Told how many threads are lost each time that changes; from any thread.
        on_refused: Told how many threads there are when the system allows no further one and those must do.
    """

    def __init__(
        self,
        max_threads: int,
        name: str,
        *,
        idle: float = _IDLE,
        on_lost: Callable[[int], None] = lambda count: None,
        on_refused: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._max_threads = max_threads
        self._name = name
        self._idle = idle
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards all below
        self._unfinished = 0  # calls that wait or run: as many threads are of use
        self._threads: set[threading.Thread] = set()
        self._lost: set[threading.Thread] = set()  # given up, and stuck still
        self._started = 0
        self._closed = False
        self._ended: Future[None] = Future()  # no thread is left but lost ones
        self._ended.set_running_or_notify_cancel()  # from here on nobody who gives up waiting can cancel it

    @property
    def lost(self) -> int:
        """Threads that were given up and have not come back."""
        return len(self._lost)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queue `fn(*args, **kwargs)`.

        Raises:
            RuntimeError: The pool is closed, or not even one thread can be started.
        """
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the thread pool is closed")
            if len(self._threads) < min(self._unfinished + 1, self._max_threads):
                self._start_thread()
            self._unfinished += 1
            self._jobs.put((future, lambda: fn(*args, **kwargs)))
        return future

    def give_up(self, thread: threading.Thread) -> None:
        """Count a thread that is stuck in its call no longer: another may be started for it, and it ends by itself."""
        with self._lock:
            if thread in self._threads:
                self._threads.remove(thread)
                self._lost.add(thread)
                self._on_lost(len(self._lost))
                self._unfinished -= 1
                if self._closed:
                    self._end_if_empty()
                elif self._unfinished > len(self._threads):
                    self._start_thread(needed=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Drop the calls that have not begun and let the threads go when they return from theirs.

        Args:
            wait: Wait for the threads, however long that takes; see `aclose` for a deadline.
            cancel_futures: Must be True: a call that has not begun never begins after this.
        """
        with self._lock:
            threads = list(self._threads)
            if not self._closed:
                self._closed = True
                self._cancel_waiting()
                for _ in threads:
                    self._jobs.put(None)
                self._end_if_empty()
        if wait:
            self._ended.result()
            self._join(threads)

    async def aclose(self, deadline: float) -> int:
        """Shut down, and wait up to `deadline` seconds for the threads; return how many were given up."""
        with self._lock:
            threads = list(self._threads)
        self.shutdown(wait=False)
        ended = asyncio.wrap_future(self._ended)
        await asyncio.wait([ended], timeout=deadline)
        ended.cancel()
        if self._ended.done():
            self._join(threads)
        return len(self._threads) + len(self._lost)

    def _join(self, threads: list[threading.Thread]) -> None:
        # They have said that they are leaving: this waits microseconds, and then they are gone for certain.
        for thread in threads:
            if thread not in self._lost:
                thread.join()

    def _start_thread(self, *, needed: bool = True) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
        self._threads.add(thread)  # before it runs, for it looks itself up
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            if needed and not self._threads:
                raise
            self._on_refused(len(self._threads))
            return
        self._started += 1

    def _cancel_waiting(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is not None:
                job[0].cancel()

    def _end_if_empty(self) -> None:
        if self._closed and not self._threads and not self._ended.done():
            self._ended.set_result(None)

    def _work(self) -> None:
        work_in_the_background()
        me = threading.current_thread()
        while (job := self._next_job(me)) is not None:
            self._run(me, *job)
            del job  # an idle thread must not keep a picture's bytes alive
            if me in self._lost:
                break
        with self._lock:
            if me in self._lost:
                self._lost.remove(me)
                self._on_lost(len(self._lost))
            self._threads.discard(me)
            self._end_if_empty()

    def _next_job(self, me: threading.Thread) -> _Job | None:
        while True:
            try:
                return self._jobs.get(timeout=self._idle)
            except Empty:
                with self._lock:  # calls are queued under it: what came meanwhile is seen here
                    if self._jobs.empty():
                        self._threads.discard(me)
                        return None

    def _run(self, me: threading.Thread, future: Future[Any], call: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            self._finish(me)
            return
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it
            self._finish(me)
            future.set_exception(error)
            del future  # the error's traceback holds this frame: no cycle
        else:
            self._finish(me)
            future.set_result(result)

    def _finish(self, me: threading.Thread) -> None:
        # Before the future is done: who submits the next call on hearing of it finds this thread counted as free.
        with self._lock:
            if me not in self._lost:
                self._unfinished -= 1


async def in_thread(call: Callable[[], R], name: str) -> R:
    """Run a call that may wait in a thread of its own: never on the loop, nor on its default executor."""
    pool = DaemonThreadPool(1, name)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, call)
    finally:
        await pool.aclose(0.1)
