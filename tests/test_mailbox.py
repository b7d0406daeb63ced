"""From threads to the loop: everything arrives, in order, and with as few wake-ups as will do."""

from __future__ import annotations

import asyncio
import threading
import weakref

import pytest

from asyncbatch._mailbox import Mailbox

AT_A_TIME = 16  # lazy items that come along with one delivery


class Loop:
    """Counts what the mailbox asks of a loop, and does it when the test says so.

    Attributes:
        announced: What it was asked to call and has not called yet.
        announcements: How often it was asked.
    """

    def __init__(self):
        self.announced = []
        self.announcements = 0

    def call_soon_threadsafe(self, callback):
        self.announcements += 1
        self.announced.append(callback)

    def turn(self):
        """Call what was asked for so far."""
        callbacks, self.announced = self.announced, []
        for callback in callbacks:
            callback()


class Urgency:
    """An `is_urgent` that says what it was told, and counts how often it was asked."""

    def __init__(self, says):
        self.says = says
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return self.says


@pytest.fixture
def loop():
    return Loop()


def post_all(mailbox, got, items, *, lazily=False):
    for item in items:
        if lazily:
            mailbox.post_lazily(got.extend, item)
        else:
            mailbox.post(got.append, item)


# -- what is not lazy --------------------------------------------------------------------------------------------------


def test_items_come_in_order(loop):
    """What is posted is delivered in the order in which it was, on the loop and not before."""
    mailbox, got = Mailbox(loop), []
    post_all(mailbox, got, range(100))
    assert got == []
    loop.turn()
    assert got == list(range(100))


def test_many_posts_are_one_announcement(loop):
    """However much is posted before the loop comes to it, it is woken once; and once again for what comes later."""
    mailbox, got = Mailbox(loop), []
    for round_ in range(1, 4):
        post_all(mailbox, got, range(50))
        assert loop.announcements == round_
        loop.turn()
    assert got == 3 * list(range(50))


def test_what_is_posted_while_delivering_comes_too(loop):
    """An item that posts another is answered in the same delivery or the next, never lost."""
    mailbox, got = Mailbox(loop), []

    def again(item):
        got.append(item)
        if item < 10:
            mailbox.post(again, item + 1)

    mailbox.post(again, 0)
    while loop.announced:
        loop.turn()
    assert got == list(range(11))


def test_an_error_in_delivering_loses_nothing_else(loop):
    """An item whose delivery raises is that one's trouble: what was posted after it comes with the next post."""
    mailbox, got = Mailbox(loop), []
    mailbox.post(lambda item: 1 / item, 0)
    post_all(mailbox, got, [1, 2])
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    assert got == []
    mailbox.post(got.append, 3)
    loop.turn()
    assert got == [1, 2, 3]


def test_order_of_each_thread_on_a_real_loop():
    """Threads that post at once, on a real event loop: each one's items come in its order, and all of them."""
    threads, count = 8, 500
    got, mailbox_is_there, begin = [], threading.Event(), threading.Barrier(threads)

    async def receive():
        done = asyncio.Event()

        def deliver_all(items):
            got.extend(items)
            if len(got) == threads * count:
                done.set()

        boxes.append((Mailbox(asyncio.get_running_loop()), deliver_all))
        mailbox_is_there.set()
        await done.wait()

    def send(name):
        mailbox_is_there.wait()
        begin.wait()
        mailbox, deliver_all = boxes[0]
        for number in range(count):
            if number % 3 == 0:
                mailbox.post_lazily(deliver_all, (name, number))
            else:
                mailbox.post(deliver_all, [(name, number)])

    boxes = []
    senders = [threading.Thread(target=send, args=(name,)) for name in range(threads)]
    for sender in senders:
        sender.start()
    asyncio.run(receive())
    for sender in senders:
        sender.join()
    for name in range(threads):
        for lazy in (True, False):  # the ones go before the others, each kind in its own order
            mine = [number for who, number in got if who == name and (number % 3 == 0) == lazy]
            assert mine == [number for number in range(count) if (number % 3 == 0) == lazy]


def test_posting_after_the_loop_closed_does_nothing():
    """A thread that comes back after the end is not bothered with an error, and nothing is delivered."""
    loop = asyncio.new_event_loop()
    mailbox, got = Mailbox(loop), []
    loop.close()
    post_all(mailbox, got, range(3))
    post_all(mailbox, got, range(3), lazily=True)
    assert got == []


# -- what is lazy ------------------------------------------------------------------------------------------------------


def test_lazy_items_wait_for_one_that_is_not(loop):
    """While nobody waits for them, lazy items wake nobody; they come after the next item that does."""
    mailbox, got = Mailbox(loop, Urgency(False)), []
    post_all(mailbox, got, range(5), lazily=True)
    assert loop.announcements == 0
    mailbox.post(got.append, "not lazy")
    assert loop.announcements == 1
    loop.turn()
    assert got == ["not lazy", 0, 1, 2, 3, 4]


def test_lazy_items_come_a_few_at_a_time(loop):
    """While nobody waits for them, each delivery brings 16 lazy items at most, after all that are not lazy."""
    mailbox, got = Mailbox(loop, Urgency(False)), []
    post_all(mailbox, got, range(40), lazily=True)
    expected = []
    for start in range(0, 40, AT_A_TIME):
        post_all(mailbox, got, ["a", "b"])
        loop.turn()
        expected += ["a", "b", *range(start, min(start + AT_A_TIME, 40))]
        assert got == expected
    assert loop.announcements == 3


def test_urgent_lazy_items_are_announced(loop):
    """While somebody waits for them, lazy items wake the loop like any other, once, and all of them come."""
    mailbox, got = Mailbox(loop, Urgency(True)), []
    post_all(mailbox, got, range(40), lazily=True)
    assert loop.announcements == 1
    loop.turn()
    assert got == list(range(40))


def test_urgency_may_end_while_lazy_items_are_delivered(loop):
    """Urgency is asked again after each 16 items: the rest waits as soon as nobody needs it."""
    urgency, got = Urgency(True), []
    mailbox = Mailbox(loop, urgency)

    def deliver(items):
        got.extend(items)
        urgency.says = len(got) < 20

    for number in range(40):
        mailbox.post_lazily(deliver, number)
    loop.turn()
    assert got == list(range(2 * AT_A_TIME))


def test_lazy_items_for_the_same_come_at_once(loop):
    """Each receiver gets a list of what was posted for it in a row, and the order of all is kept."""
    mailbox, got = Mailbox(loop, Urgency(False)), []

    def one(items):
        got.append(("one", items))

    def other(items):
        got.append(("other", items))

    for deliver, item in [(one, 1), (one, 2), (other, 3), (one, 4)]:
        mailbox.post_lazily(deliver, item)
    mailbox.flush()
    assert got == [("one", [1, 2]), ("other", [3]), ("one", [4])]


@pytest.mark.parametrize("lazily", [False, True])
def test_an_error_in_delivering_is_told(loop, lazily):
    """Whoever is responsible hears of what a delivery raised, and everything else is delivered all the same."""
    told, got = [], []
    mailbox = Mailbox(loop, on_crash=told.append)

    def fail(item):
        raise ArithmeticError(item)

    if lazily:
        mailbox.post_lazily(fail, "a")
    else:
        mailbox.post(fail, "a")
    post_all(mailbox, got, [1, 2], lazily=lazily)
    loop.turn()
    assert [type(error) for error in told] == [ArithmeticError]
    assert got == [1, 2]


def test_whether_it_is_urgent_is_asked_once_an_announcement(loop):
    """Once the loop will come anyway, posting costs no question; nor does what is not lazy."""
    urgency, got = Urgency(True), []
    mailbox = Mailbox(loop, urgency)
    post_all(mailbox, got, range(10), lazily=True)
    assert urgency.asked == 1
    loop.turn()
    urgency.asked = 0
    post_all(mailbox, got, range(10))
    assert urgency.asked == 0


def test_open_brings_what_became_urgent(loop):
    """Whoever makes lazy items urgent opens the mailbox, and gets every one of them without an announcement."""
    urgency, got = Urgency(False), []
    mailbox = Mailbox(loop, urgency)
    post_all(mailbox, got, range(40), lazily=True)
    urgency.says = True
    mailbox.open()
    assert got == list(range(40))
    assert loop.announcements == 0


@pytest.mark.parametrize("answer", [False, True])
def test_no_item_is_lost_between_the_question_and_the_answer(loop, answer):
    """A thread is told "not urgent", and before it goes on it becomes so: `open` finds the item there already."""
    asked, go_on = threading.Event(), threading.Event()
    urgent = False

    def is_urgent():
        if threading.current_thread() is poster:
            said = urgent or answer
            asked.set()
            go_on.wait()
            return said
        return urgent

    mailbox, got = Mailbox(loop, is_urgent), []
    poster = threading.Thread(target=mailbox.post_lazily, args=(got.extend, "item"))
    poster.start()
    asked.wait()
    urgent = True
    mailbox.open()
    assert got == ["item"]
    go_on.set()
    poster.join()
    loop.turn()
    assert got == ["item"]
    assert loop.announcements == answer
    post_all(mailbox, got, range(3), lazily=True)  # and what comes later is announced as ever
    loop.turn()
    assert got == ["item", 0, 1, 2]


def test_flush_brings_everything(loop):
    """Somebody who has to know now gets all that is there, urgent or not, what is not lazy first."""
    mailbox, got = Mailbox(loop, Urgency(False)), []
    post_all(mailbox, got, range(40), lazily=True)
    post_all(mailbox, got, ["not lazy"])
    mailbox.flush()
    assert got == ["not lazy", *range(40)]
    loop.turn()
    assert got == ["not lazy", *range(40)]


def test_what_comes_with_the_next_wakes_nobody(loop):
    """It is delivered by the wake-up of what the same thread posts next, and before it."""
    mailbox, got = Mailbox(loop, Urgency(True)), []
    mailbox.post(got.append, "first", with_next=True)
    loop.turn()
    assert got == []
    mailbox.post(got.append, "second")
    loop.turn()
    assert got == ["first", "second"]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_clear_drops_what_is_there_and_what_comes(loop):
    """After `clear` nothing is delivered any more: not what waited, and not what threads still post."""
    mailbox, got = Mailbox(loop, Urgency(True)), []
    post_all(mailbox, got, range(3))
    post_all(mailbox, got, range(3), lazily=True)
    mailbox.clear()
    loop.turn()
    post_all(mailbox, got, range(3))
    post_all(mailbox, got, range(3), lazily=True)
    mailbox.open()
    loop.turn()
    assert got == []


def test_clear_lets_go_of_what_it_drops(loop):
    """Bytes that were not delivered, and those that come later, are kept by nothing."""

    class Bytes:
        pass

    mailbox, alive = Mailbox(loop, Urgency(False)), weakref.WeakSet()
    for post in (mailbox.post, mailbox.post_lazily):
        item = Bytes()
        alive.add(item)
        post(print, item)
    del item
    assert len(alive) == 2
    mailbox.clear()
    assert len(alive) == 0
    item = Bytes()
    alive.add(item)
    mailbox.post(print, item)
    del item
    assert len(alive) == 0
