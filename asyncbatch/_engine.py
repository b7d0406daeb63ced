"""The thread that an iteration runs on, and its event loop: start, stop, fork, exit.

The loop is the engine's own, so a caller that blocks, or blocks its own event loop, does not stop the prefetching. The
thread lives as long as the iteration and refers to nothing that the caller holds: when the caller drops its iterator,
a finalizer can see that and stop the thread.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeVar

from asyncbatch._errors import AsyncbatchError, LoaderClosed
from asyncbatch._handoff import Handoff
from asyncbatch._made import MadeBatch, Producer

try:
    from uvloop import new_event_loop
except ImportError:  # Windows has none. It trims the hand-off, not the reading, so asyncio serves
    from asyncio import new_event_loop  # type: ignore[assignment]  # returns a base class of uvloop's

__all__ = ["Engine"]

# How long stopping waits for the thread. Decoding and reads under way end in milliseconds; what takes longer than this
# is stuck, and ends as a daemon.
_STOP_TIMEOUT = 2.0


T = TypeVar("T")


class Engine(Generic[T]):
    """Runs one iteration in the background from the moment it is made.

    Args:
        produce: Returns what makes the batches, on the event loop that it is given.
        deliver: Makes of each what the caller is handed; None of one of which there is nothing to hand over. An error
            that it raises is the caller's, in its turn.

    Raises:
        LoaderClosed: The interpreter is shutting down.
        RuntimeError: No further thread can be started.
    """

    def __init__(
        self, produce: Callable[[asyncio.AbstractEventLoop], Producer], deliver: Callable[[MadeBatch], T | None]
    ) -> None:
        self._pid = os.getpid()
        runner = asyncio.Runner(loop_factory=new_event_loop)
        self._loop = loop = runner.get_loop()
        self._producer = producer = produce(loop)
        self._handoff: Handoff[T] = Handoff(on_taken=lambda _: producer.credit())
        self._thread = threading.Thread(
            target=_run, args=(runner, producer, deliver, self._handoff), name="asyncbatch-engine", daemon=True
        )
        _living[self._thread] = self
        try:
            self._thread.start()
        except RuntimeError as error:
            del _living[self._thread]
            runner.close()
            raise _in_words(error) from error
        except BaseException:  # Ctrl-C while the thread was starting: it runs, and nobody would ever stop it
            self.stop()
            raise

    @property
    def is_here(self) -> bool:
        """Whether this is the process that the engine's thread runs in."""
        return os.getpid() == self._pid

    @property
    def handoff(self) -> Handoff[T]:
        """Where the batches come out.

        Raises:
            LoaderClosed: This is a fork of the process whose engine it is: the thread exists only there.
        """
        if not self.is_here:
            raise LoaderClosed(
                "this iterator belongs to the process that made it, and a fork has not its threads; "
                "begin a new one in this process: for images, labels in loader: ..."
            )
        return self._handoff

    def stop(self) -> None:
        """Tell the iteration to end, without waiting; safe in a finalizer, which may run anywhere."""
        if self.is_here:
            _call(self._loop, self._producer.stop)

    def end(self, error: LoaderClosed) -> None:
        """Stop at once; whoever asks for another batch gets `error`."""
        if self.is_here:
            self._handoff.end(error, discard=True)
            self.stop()

    def join(self) -> None:
        """Wait until no thread of the iteration is left, at most for as long as a prompt end can take."""
        if self.is_here and self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_STOP_TIMEOUT)


def _run(
    runner: asyncio.Runner, producer: Producer, deliver: Callable[[MadeBatch], Any], handoff: Handoff[Any]
) -> None:
    try:
        with runner:
            try:
                producer.__enter__()
            except RuntimeError as error:  # not even one thread can be started
                handoff.end(_in_words(error))
                return
            try:
                runner.run(_drain(producer, deliver, handoff))
            finally:
                producer.__exit__()
    finally:
        _living.pop(threading.current_thread(), None)


# Engines whose thread has not ended, though nothing else may refer to them any more: an iterator dropped on an event
# loop is told to stop, but not waited for. The interpreter must not go away under a thread that is inside OpenCV or
# uvloop: that would be an abort.
_living: dict[threading.Thread, Engine[Any]] = {}


def _stop_all() -> None:
    engines = list(_living.values())
    for engine in engines:
        engine.end(_at_exit())
    for engine in engines:
        engine.join()


atexit.register(_stop_all)

# At exit `concurrent.futures` waits until its threads have emptied their queue, which could be hundreds of pictures
# that nobody will see. It does so by a hook of `threading` that has no public name; the last to register goes first.
getattr(threading, "_register_atexit", atexit.register)(_stop_all)


async def _drain(producer: Producer, deliver: Callable[[MadeBatch], Any], handoff: Handoff[Any]) -> None:
    error: BaseException | None = None
    try:
        async with aclosing(producer.batches()) as batches:
            async for made in batches:
                if (delivery := deliver(made)) is not None:
                    handoff.put(delivery)
                else:
                    producer.credit()
    except BaseException as caught:  # noqa: BLE001 - it is the caller's, in its turn
        error = _in_words(caught)
        if isinstance(error, AsyncbatchError):
            error.__traceback__ = None  # our own frames: they tell nothing, and hold whole batches
    handoff.end(error)


def _at_exit() -> LoaderClosed:
    return LoaderClosed("the interpreter is shutting down, and starts no threads for a loader any more")


def _in_words(error: BaseException) -> BaseException:
    """Return what the caller should hear of an error that is about threads and tasks it knows nothing of."""
    if isinstance(error, RuntimeError) and "interpreter shutdown" in str(error):
        return _at_exit()
    if isinstance(error, asyncio.CancelledError):  # raised as it is, it would cancel the caller's task
        return LoaderClosed("opening the reader was cancelled")
    return error


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the iteration is over
        loop.call_soon_threadsafe(callback)
