"""An executor of daemon threads, for reads that may never return.

`concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter exits, so one read that hangs on a dead
mount would keep the process alive. These threads are daemons, and closing gives up the ones that do not come back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

__all__ = ["DaemonThreadPool"]

P = ParamSpec("P")
R = TypeVar("R")

_Job = tuple[Future[Any], Callable[[], Any]]


class DaemonThreadPool(Executor):
    """Runs calls on up to `max_threads` daemon threads, started when no idle one is left.

    Args:
        max_threads: The most calls that run at once; further ones wait their turn.
        name: What the threads are called, followed by their number.
    """

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards the four below
        self._unfinished = 0  # calls that wait or run: as many threads are of use
        self._threads: list[threading.Thread] = []
        self._living = 0
        self._closed = False
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # from here on nobody who gives up waiting can cancel it

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queue `fn(*args, **kwargs)`.

        Raises:
            RuntimeError: The pool is closed, or not even one thread can be started.
        """
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the thread pool is closed")
            self._unfinished += 1
            self._jobs.put((future, lambda: fn(*args, **kwargs)))
            if len(self._threads) < min(self._unfinished, self._max_threads):
                self._start_thread()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Drop the calls that have not begun and let the threads go when they return from theirs.

        Args:
            wait: Wait for the threads, however long that takes; see `aclose` for a deadline.
            cancel_futures: Must be True: a call that has not begun never begins after this.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                self._cancel_waiting()
                for _ in self._threads:
                    self._jobs.put(None)
                if not self._living:
                    self._ended.set_result(None)
        if wait:
            self._ended.result()
            self._join()

    async def aclose(self, deadline: float) -> int:
        """Shut down, and wait up to `deadline` seconds for the threads; return how many were given up."""
        self.shutdown(wait=False)
        ended = asyncio.wrap_future(self._ended)
        await asyncio.wait([ended], timeout=deadline)
        ended.cancel()
        if self._ended.done():
            self._join()
        return self._living

    def _join(self) -> None:
        # They have said that they are leaving: this waits microseconds, and then they are gone for certain.
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads allowed: those there are will do
            if not self._threads:
                raise
            return
        self._threads.append(thread)
        self._living += 1

    def _cancel_waiting(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is not None:
                job[0].cancel()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._run(*job)
            del job  # an idle thread must not keep a picture's bytes alive
        with self._lock:
            self._living -= 1
            if not self._living:
                self._ended.set_result(None)

    def _run(self, future: Future[Any], call: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            self._finish()
            return
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it
            self._finish()
            future.set_exception(error)
            del future  # the error's traceback holds this frame: no cycle
        else:
            self._finish()
            future.set_result(result)

    def _finish(self) -> None:
        # Before the future is done: who submits the next call on hearing of it finds this thread counted as free.
        with self._lock:
            self._unfinished -= 1
