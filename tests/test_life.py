"""Design 3.2: whatever ends an iteration, no thread, file or task of it is left, and nothing is read afterwards."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest
from conftest import Footprint
from fakes import Gated, Numbers, Ready, number, wait_until

import asyncbatch as ab
from asyncbatch.readers._pool import DaemonThreadPool


def make(size=200, batch_size=10, **settings):
    settings.setdefault("reader", Ready())
    settings.setdefault("decoder", number)
    return ab.Loader(Numbers(size), batch_size=batch_size, **settings)


class CallerFailed(Exception):
    """What a caller's own loop raises."""


def drop_after_break(loader):
    for _batch in loader:
        break


def drop_after_exception(loader):
    with pytest.raises(CallerFailed):
        for _batch in loader:
            raise CallerFailed


def drop_iterator(loader):
    batches = iter(loader)
    next(batches)
    del batches


def drop_iterator_in_a_cycle(loader):
    batches = iter(loader)
    next(batches)
    cycle = [batches]
    cycle.append(cycle)
    del batches, cycle
    gc.collect()


def close_loader(loader):
    next(iter_kept := iter(loader))
    loader.close()
    assert iter_kept is not None


def leave_with_block(loader):
    with loader:
        batches = iter(loader)
        next(batches)


def close_iterator(loader):
    batches = iter(loader)
    next(batches)
    batches.close()


def exhaust(loader):
    batches = iter(loader)
    assert sum(1 for _ in batches) == len(loader)


WAYS_TO_END = [
    drop_after_break, drop_after_exception, drop_iterator, drop_iterator_in_a_cycle, close_loader, leave_with_block,
    close_iterator, exhaust,
]  # fmt: skip


@pytest.mark.parametrize("end", WAYS_TO_END)
def test_nothing_is_left(end, footprint):
    """However an iteration ends, its threads and descriptors are gone when the caller goes on."""
    reader = Ready()
    loader = make(reader=reader)
    end(loader)
    footprint.assert_same()


def test_footprint_sees_a_running_iteration(footprint):
    """Positive control: while an iteration runs, the footprint differs."""
    batches = iter(make())
    with pytest.raises(AssertionError):
        footprint.assert_same()
    batches.close()


@pytest.mark.parametrize("end", [drop_after_break, close_loader, close_iterator])
def test_nothing_is_read_afterwards(end, footprint):
    """Reading stops with the iteration, though far from everything was read."""
    reader = Ready()
    loader = make(1_000_000, reader=reader)
    end(loader)
    read = reader.reads
    footprint.assert_same()
    assert 10 <= read < 1_000_000
    assert reader.reads == read


@pytest.mark.parametrize("step", range(4))
def test_nothing_is_left_wherever_a_short_epoch_is_left(step, footprint):
    """A break at any batch, the last too, meets the end of the epoch at any moment and leaves nothing."""
    loader = make(size=40)
    for _ in range(100):
        for batch in loader:
            if batch.step == step:
                break
        footprint.assert_same()


async def break_async(loader):
    async for _batch in loader:
        break


async def fail_async(loader):
    with pytest.raises(CallerFailed):
        async for _batch in loader:
            raise CallerFailed


async def aclose_loader(loader):
    async for _batch in loader:
        await loader.aclose()
        break


async def leave_async_with_block(loader):
    async with loader:
        async for _batch in loader:
            break


async def exhaust_async(loader):
    assert len([batch async for batch in loader]) == len(loader)


async def cancel_waiting_task(loader):
    async def wait_for_ever():
        async for _batch in loader:
            await asyncio.Event().wait()

    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task


@pytest.mark.parametrize(
    "end", [break_async, fail_async, aclose_loader, leave_async_with_block, exhaust_async, cancel_waiting_task]
)
async def test_nothing_is_left_async(end):
    """The same on an event loop, which has no task left over either; what is only dropped ends unawaited."""
    before, tasks = Footprint(), asyncio.all_tasks()
    await end(make())
    gc.collect()
    before.assert_same_soon()
    assert asyncio.all_tasks() == tasks


class SlowToOpenOrClose:
    """A reader factory that takes as long to open, or to close, as the test says."""

    def __init__(self, slow):
        self.slow = slow
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.closed = False

    async def _wait(self):
        self.begun.set()
        while not self.may_end.is_set():  # noqa: ASYNC110 - set from another thread, which knows no asyncio event
            await asyncio.sleep(0)

    @asynccontextmanager
    async def open(self):
        if self.slow == "open":
            await self._wait()
        yield Ready()
        await self._wait()
        self.closed = True


def test_stopping_does_not_break_off_cleaning_up(footprint):
    """A stop that comes while the end of an epoch is cleaning up lets it come to its end."""
    reader = SlowToOpenOrClose("close")
    batches = iter(make(size=10, batch_size=10, reader=reader))
    next(batches)
    reader.begun.wait()
    closer = threading.Thread(target=batches.close)
    closer.start()
    wait_until(lambda: batches._engine._producer._stopped)
    reader.may_end.set()
    closer.join()
    assert reader.closed
    footprint.assert_same()


def test_stopping_ends_an_opening_that_hangs(footprint):
    """Closing does not wait for a reader that never gets to open."""
    reader = SlowToOpenOrClose("open")
    batches = iter(make(reader=reader))
    reader.begun.wait()
    batches.close()
    footprint.assert_same()


def test_closing_twice_is_closing_once():
    """`close()` again, and on an iterator that ended, does nothing."""
    loader = make()
    batches = iter(loader)
    next(batches)
    for _ in range(2):
        batches.close()
        loader.close()


def test_use_after_close_says_so():
    """A closed loader, and an iterator that it ended, raise `LoaderClosed` in words."""
    loader = make()
    batches = iter(loader)
    next(batches)
    loader.close()
    with pytest.raises(ab.LoaderClosed, match="the loader was closed"):
        next(batches)
    with pytest.raises(ab.LoaderClosed, match="make a new one"):
        iter(loader)


def test_a_new_iterator_ends_the_one_before_it():
    """The older iterator says why it has no more batches, instead of ending as if the epoch were over."""
    loader = make()
    older = iter(loader)
    next(older)
    newer = iter(loader)
    with pytest.raises(ab.LoaderClosed, match="newer iterator"):
        next(older)
    assert sum(1 for _ in newer) == len(loader)
    with pytest.raises(StopIteration):
        next(newer)


def test_an_iterator_outlives_the_name_of_its_loader():
    """`for … in Loader(…)` keeps working although nothing but the iterator refers to the loader."""
    batches = iter(make())
    gc.collect()
    assert sum(1 for _ in batches) == 20


def test_two_loaders_run_at_once():
    """Two loaders do not disturb each other, and closing one leaves the other alone."""
    first, second = make(), make(shuffle=True)
    pairs = list(zip(first, second, strict=True))
    assert len(pairs) == 20
    remaining = iter(second)
    first.close()
    assert sum(1 for _ in remaining) == 20


def test_close_wakes_a_waiting_thread():
    """A thread that waits for a batch is told when another closes the loader."""
    reader = Gated(held=range(10))
    loader = make(reader=reader)
    batches = iter(loader)
    caught = []

    def wait():
        try:
            next(batches)
        except ab.LoaderClosed as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    reader.arrived.wait()
    loader.close()
    thread.join()
    assert len(caught) == 1


def test_interrupted_wait_ends_the_iteration(footprint, monkeypatch):
    """Ctrl-C while waiting for a batch ends the work at once, although its traceback keeps the iterator alive."""
    batches = iter(make(reader=Gated(held=range(10))))

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(batches._engine.handoff, "get", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        next(batches)
    footprint.assert_same()
    assert kept.traceback


async def test_a_blocked_event_loop_does_not_stop_the_prefetching():
    """A caller that never awaits still gets the next `prefetch` batches read and decoded behind its back."""
    reader, decoded = Ready(), []

    def decode(data):
        decoded.append(data)
        return number(data)

    batches = aiter(make(reader=reader, decoder=decode, prefetch=4))
    await anext(batches)
    wait_until(lambda: len(decoded) == 50)  # holds this thread, and with it this event loop
    assert reader.reads >= 50
    await batches.aclose()


async def test_an_event_loop_with_a_loader_is_shared():
    """Other tasks run between batches, even when every batch is there before it is asked for."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    seen = [turns async for _batch in make()]
    task.cancel()
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


async def test_an_error_is_not_lost_to_a_cancel():
    """An error that was taken is raised then and there: no wait stands between, in which a time-out could lose it."""
    loader = make(decoder=lambda data: 1 / 0)
    batches = aiter(loader)
    wait_until(lambda: batches._engine._handoff._ended)
    task = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(ab.DecodeError):
        await task


def test_close_drops_an_error_that_was_pending():
    """After `close` the answer is that it was closed, not an error that nobody asked for any more."""
    batches = iter(make(decoder=lambda data: 1 / 0))
    wait_until(lambda: batches._engine._handoff._ended)
    batches.close()
    with pytest.raises(ab.LoaderClosed):
        next(batches)


async def test_giving_up_on_a_batch_loses_none():
    """A time-out around `anext` takes nothing: the next call gets the batch that was waited for."""
    reader = Gated(held=[0])
    batches = aiter(make(reader=reader))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(batches), 0.01)
    wait_until(reader.arrived.is_set)
    reader.release()
    assert [batch.step async for batch in batches] == list(range(20))


def test_no_more_than_prefetch_batches_are_decoded_ahead():
    """Decoding stops at `prefetch` batches ahead of the caller, while reading goes on."""
    reader, decoded, allowed = Ready(), [], 30

    def decode(data):
        decoded.append(data)
        assert len(decoded) <= allowed
        return number(data)

    batches = iter(make(reader=reader, decoder=decode, prefetch=3))
    wait_until(lambda: reader.reads == 200)
    wait_until(lambda: len(decoded) == 30)
    allowed = 40
    next(batches)
    wait_until(lambda: len(decoded) == 40)
    allowed = 200
    assert len(list(batches)) == 19


def test_reading_ahead_stops_at_its_budget():
    """Bytes read ahead stay within `read_ahead`, and one sample larger than all of it still passes."""
    big = [7 for _ in range(60)]

    class Large(Ready):
        async def read(self, sample):
            self.reads += 1
            return bytes(big[0] * 10_000)

    reader = Large(concurrency=4)
    loader = make(60, 1, reader=reader, decoder=lambda _: number(b"\1"), prefetch=1, read_ahead=500_000)
    batches = iter(loader)
    next(batches)
    wait_until(lambda: batches._engine._handoff._batches)  # it has prefetched what it may
    assert reader.reads <= 2 + 500_000 // 70_000 + 4
    assert len(list(batches)) == 59
    tiny = make(5, 1, reader=Large(), decoder=lambda _: number(b"\1"), read_ahead=1)
    assert len(list(tiny)) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's threads have a rank of their own")
def test_the_callers_threads_go_first():
    """Those that read and decode have a lower rank than whoever trains, on the processor too."""
    seen = {}

    class Ranked:
        concurrency = 2

        async def read(self, sample):
            seen["engine"] = rank()
            return b"1"

    def rank():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def decode(data):
        seen["decode"] = rank()
        return np.zeros(1)

    before = rank()
    with ab.Loader(Listed(), batch_size=2, reader=Ranked(), decoder=decode) as loader:
        assert len(list(loader)) == 2
    assert seen == {"engine": before, "decode": min(19, before + 10)}
    assert rank() == before
    with DaemonThreadPool(1, "test") as pool:
        assert pool.submit(rank).result() == min(19, before + 10)


class Listed:
    fingerprint = "listed"

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return ab.Sample(key=str(index), path="p", label=0)
