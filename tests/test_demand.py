"""Reads take their time while decoding has all that it can take, and hurry as soon as it has not."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest
from fakes import Listed, number

import asyncbatch as ab
from asyncbatch import _demand
from asyncbatch._demand import Demand
from asyncbatch.readers import _found, _whole
from asyncbatch.readers._tuning import MOST, Tuner
from asyncbatch.readers.files import OpenFileReader

THREADS, BATCH = 2, 10
BUSY, ENOUGH = THREADS + 1, 8 * BATCH


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_demand, "monotonic", clock)
    return clock


def make(jobs=BUSY, waiting=ENOUGH, put_by=0, runs=0, incomplete=1, batch_size=BATCH):
    demand = Demand(THREADS, batch_size)
    demand.decoding = SimpleNamespace(jobs=jobs)
    demand.mailbox = SimpleNamespace(put_by=put_by)
    demand.reads = SimpleNamespace(window=SimpleNamespace(waiting=waiting), runs_under_way=runs)
    demand.incomplete = incomplete
    return demand


def decode(demand, clock, *, samples, seconds, jobs=10):
    """Have samples decoded evenly over some time, from an interval's beginning on."""
    demand.decoded(0)
    for _ in range(jobs):
        clock.now += seconds / jobs
        demand.decoded(samples // jobs)


# -- how much is used up, and so is to be read -------------------------------------------------------------------------


def test_somewhat_more_is_read_than_is_decoded(clock):
    demand = make()
    assert demand.pace(0.03, False) is None  # it is not known yet
    decode(demand, clock, samples=400, seconds=0.5)
    assert demand.pace(0.03, False) == pytest.approx(1.1 * 800)
    decode(demand, clock, samples=100, seconds=0.5)  # and it follows
    assert demand.pace(0.03, False) == pytest.approx(1.1 * 200)


@pytest.mark.parametrize(("waiting", "times"), [(2399, 1.5), (2401, 1.1)])
def test_more_is_read_until_the_slowest_read_can_be_waited_for(clock, waiting, times):
    """At 800 a second and reads that take up to 2 s, 1,600 and half of that again are to lie ahead."""
    demand = make(waiting=waiting)
    decode(demand, clock, samples=400, seconds=0.5)
    assert demand.pace(2.0, False) == pytest.approx(times * 800)


@pytest.mark.parametrize(
    "lacking", [{"jobs": THREADS}, {"waiting": ENOUGH - 1}, {"waiting": 0, "put_by": ENOUGH - 1}], ids=str
)
def test_there_is_no_pace_while_decoding_could_take_more(clock, lacking):
    """Threads with nothing more to do, or little read ahead: reads are to come as fast as they can."""
    demand = make(**lacking)
    decode(demand, clock, samples=400, seconds=0.5)
    assert demand.pace(0.03, False) is None


@pytest.mark.parametrize(("slowest", "enough"), [(0.001, 2 * BATCH), (0.0505, 61), (2.0, ENOUGH)])
def test_less_will_do_where_reads_are_quick(clock, slowest, enough):
    """What decoding takes, half as long again as a read does: two batches at least, eight at most."""
    demand = make(waiting=enough)
    decode(demand, clock, samples=400, seconds=0.5)
    assert demand.pace(slowest, True) == pytest.approx(1.5 * 800)
    demand.reads.window.waiting -= 1
    assert demand.pace(slowest, True) is None


def test_how_much_is_decoded_is_guessed_early(clock):
    """A twentieth of a second after decoding began, and over longer times from then on."""
    demand = make()
    demand.decoded(0)
    seen = []
    for _ in range(20):
        clock.now += 0.0501
        demand.decoded(len(seen))
        pace = demand.pace(0.03, False)
        seen.append(round(pace / 1.1 * 0.0501, 1))  # samples in that time: the means of 1, 2, 4 and then 5 times
    assert seen == [0, 0, *[1.5] * 4, *[4.5] * 5, *[9] * 5, *[14] * 4]


def test_tiny_batches_are_not_enough(clock):
    """Eight batches of one sample would keep two threads busy for a moment only."""
    demand = make(waiting=8 * 4 * THREADS - 1, batch_size=1)
    decode(demand, clock, samples=400, seconds=0.5)
    assert demand.pace(0.03, False) is None
    demand.reads.window.waiting += 1
    assert demand.pace(0.03, False) == pytest.approx(1.1 * 800)


def test_reads_that_nobody_has_heard_of_are_there(clock):
    demand = make(waiting=ENOUGH - 30, put_by=30)
    decode(demand, clock, samples=400, seconds=0.5)
    assert demand.pace(0.03, False) == pytest.approx(1.1 * 800)


def test_a_pause_is_no_slow_decoding(clock):
    """A caller that stops for a while, to save its model, does not slow reading down when it goes on."""
    demand = make()
    decode(demand, clock, samples=400, seconds=0.5)
    clock.now += 60.0
    demand.decoded(1)
    assert demand.pace(0.03, False) == pytest.approx(1.1 * 800)


@pytest.mark.parametrize(("jobs", "incomplete", "stands"), [(0, 1, True), (1, 1, False), (0, 0, False)])
def test_decoding_stands_still_where_open_batches_wait_for_all_else(jobs, incomplete, stands):
    assert make(jobs=jobs, incomplete=incomplete).stands_still() == stands


# -- how many reads that takes -----------------------------------------------------------------------------------------


def tuner_of(limit, fixed=None):
    tuner = Tuner(fixed)
    tuner._target = limit
    return tuner


def test_as_many_reads_as_are_needed():
    """Little's law: 1,200 files a second that take 34 ms each are 41 at once."""
    tuner = tuner_of(64)
    assert tuner.most == 64
    tuner.keep_pace(1200.0, 0.034)
    assert (tuner.most, tuner.limit, tuner.is_paced) == (41, 64, True)
    tuner.keep_pace(None, 0.035)
    assert (tuner.most, tuner.is_paced) == (64, False)


@pytest.mark.parametrize(
    ("limit", "rate", "most"), [(64, 1.0, 16), (16, 1.0, 8), (8, 1.0, 8), (4, 1.0, 4), (64, 1e6, 64), (MOST, 1e9, MOST)]
)
def test_never_fewer_than_a_quarter_and_never_more_than_the_limit(limit, rate, most):
    tuner = tuner_of(limit)
    tuner.keep_pace(rate, 0.035)
    assert tuner.most == most
    assert tuner.is_paced == (most < limit)


@pytest.mark.parametrize("fixed", [64, 2 * MOST])
def test_what_the_user_fixed_is_kept(fixed):
    tuner = tuner_of(fixed, fixed=fixed)
    assert (tuner.most, tuner.is_paced) == (fixed, False)
    tuner.keep_pace(1.0, 0.035)
    assert (tuner.most, tuner.is_paced) == (fixed, False)


def test_reads_that_took_their_time_say_nothing_of_full_speed():
    """Those that began while few were under way are told from the others, and not taken for what 64 at once take."""
    tuner = tuner_of(64)
    tuner.keep_pace(1.0, 0.035)
    began = tuner.generation
    tuner.keep_pace(2.0, 0.035)
    assert tuner.generation == began
    tuner.keep_pace(None, 0.035)
    assert tuner.generation != began
    began = tuner.generation
    tuner.keep_pace(None, 0.035)
    assert tuner.generation == began


def test_an_iteration_begins_in_a_hurry():
    """But what one before it had found, it need not find."""
    tuner = tuner_of(64)
    tuner.keep_pace(1.0, 0.035)
    tuner.begin_anew()
    assert (tuner.most, tuner.is_found) == (64, False)
    tuner._best = (64, 1800.0)
    tuner.begin_anew()
    assert (tuner.most, tuner.is_found) == (64, True)


def test_what_was_found_is_known_until_the_storage_is_another():
    """A look around forgets nothing; reads that are fast no more, or hang, are to be found out about anew."""
    tuner = tuner_of(8)
    for _ in range(2000):
        tuner.landed(0.03 * max(1, tuner.limit / 64), tuner.generation, is_the_limit=True)
        if tuner.is_found:
            break
    assert tuner._step == 1.0
    tuner._multiply(1.5)
    assert tuner.is_found
    for _ in range(100):
        tuner.landed(0.0001, tuner.generation, is_the_limit=True)
    assert not tuner.is_found
    assert tuner_of(64, fixed=64).is_found


class Wide(Tuner):
    def __init__(self, fixed, *, in_groups=True):
        super().__init__(fixed, in_groups=in_groups)
        self._target, self.is_found = 64, True

    def landed(self, seconds, generation, *, is_the_limit):
        """Stay as it is."""


async def test_reads_slow_down_and_hurry(monkeypatch, tmp_path):
    """On real threads: 64 reads at once, 16 where few are used up a second, and 64 again when somebody waits."""
    (tmp_path / "file").write_bytes(b"bytes")
    sample = ab.Sample(key="file", path=str(tmp_path / "file"))
    flying, answers, pace, told = [], threading.Semaphore(0), None, []
    read_file = _whole.read_file

    def read_slowly(*args):
        flying.append(None)
        answers.acquire()
        flying.pop()
        return read_file(*args)

    def how_many(slowest, is_found):
        told.append(is_found)
        return pace

    async def until(condition):
        while not condition():  # noqa: ASYNC110 - reading threads know no asyncio event
            await asyncio.sleep(0.001)

    monkeypatch.setattr(_found, "Tuner", Wide)
    monkeypatch.setattr(_whole, "read_file", read_slowly)
    async with ab.FileReader().open(pace=how_many) as reader:
        reads = [asyncio.create_task(reader.read(sample)) for _ in range(400)]
        await until(lambda: len(flying) == 64)
        pace = 0.001
        answers.release(64)  # from here on it is known how long a read takes; threads that were at it begin another
        await until(lambda: sum(read.done() for read in reads) == 64)
        answers.release(64 - 16)
        await until(lambda: sum(read.done() for read in reads) == 2 * 64 - 16 and len(flying) == 16)
        reader.hurry()
        await until(lambda: len(flying) == 64)
        pace = None
        answers.release(400)
        assert await asyncio.gather(*reads) == [b"bytes"] * 400
    assert set(told) == {True}


@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize("stands_still", [False, True])
def test_reads_hurry_where_decoding_stands_still(monkeypatch, tmp_path, cache, stands_still):
    """Whoever loads has its reads hurry when nothing can be decoded before more of them come, and else leaves them."""
    for index in range(20):
        (tmp_path / f"{index}").write_bytes(index.to_bytes(8, "little"))
    hurries = []
    monkeypatch.setattr(OpenFileReader, "hurry", lambda reader: hurries.append(reader.concurrency))
    monkeypatch.setattr(Demand, "stands_still", lambda demand: stands_still)
    reader = ab.FileReader(concurrency=2)
    settings = {"cache": ab.Cache("memory", limit="1MB")} if cache else {}
    paths = [ab.Sample(key=str(index), path=str(tmp_path / f"{index}"), label=index) for index in range(20)]
    with ab.Loader(Listed(paths), batch_size=5, reader=reader, decoder=number, **settings) as loader:
        assert sum(len(batch.images) for batch in loader) == 20
    assert bool(hurries) == stands_still
