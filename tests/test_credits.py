"""Leave to open batches: never more than there is, none lost, and the loop is woken only where somebody needs it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from asyncbatch._credits import Credits

COUNT = 3


class Loop:
    """A loop that counts how often it is woken up."""

    def __init__(self):
        self.wakes = 0

    def create_future(self):
        return asyncio.get_running_loop().create_future()

    def call_soon_threadsafe(self, callback):
        self.wakes += 1
        asyncio.get_running_loop().call_soon(callback)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def exhausted(leave):
    """Take all there are, and wait for one more."""
    for _ in range(COUNT):
        await leave.take()
    task = asyncio.ensure_future(leave.take())
    await settle()
    assert not task.done()
    return task


async def test_one_that_is_given_back_wakes_who_waits():
    loop = Loop()
    leave = Credits(COUNT, loop, lambda: True)
    task = await exhausted(leave)
    leave.give()
    await settle()
    assert (task.done(), loop.wakes) == (True, 1)


async def test_nobody_is_woken_up_where_there_is_enough_to_do():
    """The credit is there, though, when the loop looks, or is asked for one more."""
    loop = Loop()
    leave = Credits(COUNT, loop, lambda: False)
    task = await exhausted(leave)
    leave.give()
    leave.give()
    await settle()
    assert (task.done(), loop.wakes) == (False, 0)
    leave.look()
    await settle()
    assert task.done()
    await asyncio.wait_for(leave.take(), 5)
    more = asyncio.ensure_future(leave.take())
    leave.look()
    await settle()
    assert not more.done()
    more.cancel()


async def test_nobody_is_woken_up_where_nobody_waits():
    loop = Loop()
    leave = Credits(COUNT, loop, lambda: True)
    for _ in range(COUNT):
        await leave.take()
    leave.give()
    await settle()
    assert loop.wakes == 0
    await asyncio.wait_for(leave.take(), 5)


async def test_the_credit_is_there_before_the_question():
    """Whoever makes it urgent after the answer, and looks, finds it."""
    seen = []

    def is_urgent():
        leave.look()
        seen.append(True)
        return False

    leave = Credits(COUNT, Loop(), is_urgent)
    task = await exhausted(leave)
    leave.give()
    await settle()
    assert (task.done(), seen) == (True, [True])


async def test_who_was_cancelled_is_forgotten():
    leave = Credits(COUNT, Loop(), lambda: True)
    task = await exhausted(leave)
    task.cancel()
    await settle()
    leave.give()
    await settle()
    assert task.cancelled()


async def test_a_loop_that_is_gone_is_no_error():
    loop = asyncio.new_event_loop()
    leave = Credits(COUNT, loop, lambda: True)
    for _ in range(COUNT):
        await leave.take()
    waiting = leave.take()
    waiting.send(None)
    loop.close()
    leave.give()
    waiting.close()


@pytest.mark.parametrize("urgent", [True, False])
async def test_none_is_lost_between_threads(urgent):
    """One thread gives back what the loop has taken, as fast as both can; the work that is left decides who wakes."""
    rounds = 2000
    leave = Credits(COUNT, asyncio.get_running_loop(), lambda: urgent or open_now <= 1)
    lock = threading.Lock()
    opened, ended = threading.Semaphore(0), asyncio.Event()
    open_now = most = 0

    def one_ended(loop):
        def told():
            leave.look()
            if not open_now:
                ended.set()

        nonlocal open_now
        for _ in range(rounds):
            opened.acquire()
            with lock:
                open_now -= 1
            loop.call_soon_threadsafe(told)
            leave.give()

    thread = threading.Thread(target=one_ended, args=(asyncio.get_running_loop(),))
    thread.start()
    for _ in range(rounds):
        await asyncio.wait_for(leave.take(), 30)
        with lock:
            open_now += 1
        most = max(most, open_now)
        opened.release()
    while open_now:
        ended.clear()
        await asyncio.wait_for(ended.wait(), 30)
    thread.join()
    assert 1 <= most <= COUNT
