"""The threads that read: as many as are of use, none that stays in the way."""

from __future__ import annotations

import threading
import weakref

import pytest
from fakes import wait_until

from asyncbatch.readers._pool import DaemonThreadPool


async def test_closing_gives_up_a_read_that_hangs():
    """Closing does not wait for ever for a call that is stuck, and never begins those that were waiting behind it."""
    begun, stuck, done = threading.Event(), threading.Event(), []
    pool = DaemonThreadPool(1, "test-stuck")
    running = pool.submit(lambda: begun.set() or stuck.wait())
    wait_until(begun.is_set)
    waiting = pool.submit(done.append, "too late")
    assert await pool.aclose(0.01) == 1
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(print)
    stuck.set()
    assert running.result()
    pool.shutdown(wait=True)
    assert done == []


def test_pool_reuses_idle_threads():
    """One call after the other runs on one thread."""
    pool = DaemonThreadPool(8, "test-idle")
    names = set()
    for _ in range(20):
        names.add(pool.submit(lambda: threading.current_thread().name).result())
    pool.shutdown()
    assert names == {"test-idle-0"}


def test_pool_starts_a_thread_for_every_call_that_would_wait():
    """A call never waits behind one that hangs while the pool may start another thread."""
    pool, stuck = DaemonThreadPool(8, "test-busy"), threading.Event()
    for _ in range(50):  # quick calls, whose threads come and go between idle and busy
        pool.submit(int).result()
    hanging = [pool.submit(stuck.wait) for _ in range(7)]
    assert pool.submit(lambda: "not behind them").result() == "not behind them"
    stuck.set()
    assert all(future.result() for future in hanging)
    pool.shutdown()


def test_pool_keeps_no_result_alive():
    """An idle thread holds on to nothing of the call it finished."""

    class Result:
        pass

    pool = DaemonThreadPool(1, "test-results")
    reference = weakref.ref(pool.submit(Result).result())
    wait_until(lambda: reference() is None)
    pool.shutdown()


def named(prefix):
    return sum(thread.name.startswith(prefix) for thread in threading.enumerate())


def test_pool_lets_idle_threads_go():
    """Threads that had work for a moment and then none end by themselves; the next call starts one again."""
    pool, gate = DaemonThreadPool(8, "test-brief", idle=0.05), threading.Event()
    calls = [pool.submit(gate.wait) for _ in range(8)]
    assert named("test-brief") == 8
    gate.set()
    assert all(call.result() for call in calls)
    wait_until(lambda: named("test-brief") == 0)
    assert pool.submit(lambda: "again").result() == "again"
    pool.shutdown()


def test_pool_replaces_a_thread_that_was_given_up():
    """A call that is stuck takes no place; when it comes back at last, its thread ends and its result is its own."""
    counts = []
    pool, stuck, threads = DaemonThreadPool(1, "test-lost", on_lost=counts.append), threading.Event(), []
    late = pool.submit(lambda: threads.append(threading.current_thread()) or stuck.wait())
    wait_until(lambda: threads)
    waiting = pool.submit(lambda: "in its place")
    assert not waiting.done()
    pool.give_up(threads[0])
    assert waiting.result() == "in its place"
    assert pool.lost == 1
    stuck.set()
    assert late.result()
    threads[0].join()
    assert pool.lost == 0
    assert counts == [1, 0]
    assert pool.submit(threading.current_thread).result() is not threads[0]
    pool.shutdown()


async def test_closing_does_not_wait_for_lost_threads():
    """What was given up once is not waited for again, however long the others may take."""
    pool, stuck, threads = DaemonThreadPool(4, "test-gone"), threading.Event(), []
    pool.submit(lambda: threads.append(threading.current_thread()) or stuck.wait())
    wait_until(lambda: threads)
    pool.give_up(threads[0])
    assert pool.submit(int).result() == 0
    assert await pool.aclose(60.0) == 1  # the test's own time limit would end a wait
    stuck.set()


def test_giving_up_the_last_thread_of_a_closed_pool_ends_it():
    """Closing waits for a call, which is then given up: the wait is over."""
    pool, stuck, threads = DaemonThreadPool(1, "test-last"), threading.Event(), []
    pool.submit(lambda: threads.append(threading.current_thread()) or stuck.wait())
    wait_until(lambda: threads)
    closing = threading.Thread(target=pool.shutdown)
    closing.start()
    pool.give_up(threads[0])
    closing.join()
    stuck.set()


def test_pool_does_with_fewer_threads_where_no_more_can_be_started(monkeypatch):
    """A system that allows three threads gets its work done on three; one that allows none is an error at once."""
    allowed, start = [3], threading.Thread.start

    def limited(thread):
        if not allowed[0]:
            raise RuntimeError("can't start new thread")
        allowed[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    pool = DaemonThreadPool(8, "test-few")
    barrier = threading.Barrier(3)
    calls = [pool.submit(barrier.wait) for _ in range(9)]
    assert sorted(call.result() for call in calls) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    pool.shutdown()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        DaemonThreadPool(1, "test-none").submit(int)
