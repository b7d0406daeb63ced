"""Reads that hang: given up, reported, replaced, and gone when the storage lets them go."""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Footprint
from numbered import SIZE, make_loader, name_of, names_of, read_all

import asyncbatch as ab
from asyncbatch.readers import _tuning

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(60)

PLACES = {
    "spread": range(5, 100, 13),  # 8 of them
    "first": range(8),  # as many as are read at once to begin with: nothing else is answered until one is given up
    "last": range(92, 100),  # nothing is read after them that could be answered
}


def hangs(indices, on="open"):
    return [{"fault": "hang", "on": on, "names": names_of(indices)}]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("on", ["open", "read"])
def test_hung_reads_are_given_up(faultfs, on, place):
    """8 files that hang for ever are 8 reports, all other samples are delivered, and nothing of it stays."""
    hung = list(PLACES[place])
    fs = faultfs(100, rules=hangs(hung, on))
    before, start = Footprint(), time.monotonic()
    with make_loader(fs.path, 100, on_error=ab.Skip(8)) as loader:
        indices, errors = read_all(loader)
        stats = loader.stats()
    assert time.monotonic() - start < 20  # for ever would be longer
    assert indices == [index for index in range(100) if index not in hung]
    assert [error.index for error in errors] == hung
    assert {(error.errno, error.attempts) for error in errors} == {(errno.ETIMEDOUT, 1)}
    assert all(isinstance(error, ab.ReadError) for error in errors)
    assert fs.count(f"{on} hang") == fs.count("hanging") == 8
    assert stats.timeouts == stats.skipped == 8
    assert 1 <= stats.lost_threads <= 8
    fs.release()
    before.assert_same_soon(5.0)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("on", ["open", "read", "open, in shared hops"])
def test_a_hang_is_found_within_its_deadline_and_a_second(faultfs, on, place, monkeypatch):
    """From the moment when the k-th read hangs, the deadline and one second more pass at most until k are given up."""
    deadline = 2.0
    on, *in_hops = on.split(", ")
    if in_hops:  # those behind the first hang when it was given up, and nothing was asked of the storage meanwhile
        monkeypatch.setattr(_tuning, "_FAST", 10.0)
    fs = faultfs(100, rules=hangs(PLACES[place], on))
    hung, given_up, done = [], [], threading.Event()
    with make_loader(fs.path, 100, reader={"timeout": deadline, "grace": 20.0}, on_error=ab.Skip(8)) as loader:

        def look():
            is_last = False
            while not is_last:
                is_last = done.wait(0.01)
                hung.extend([time.monotonic()] * (fs.count(f"{on} hang") - len(hung)))
                given_up.extend([time.monotonic()] * (loader.stats().timeouts - len(given_up)))

        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            try:
                indices, errors = read_all(loader)
            finally:
                done.set()
            looking.result()
    assert (len(indices), len(errors), len(hung), len(given_up)) == (92, 8, 8, 8)
    waits = [end - start for start, end in zip(hung, given_up, strict=True)]
    assert deadline - 0.1 < min(waits)
    assert max(waits) < deadline + 1.0, waits


def test_a_batch_of_nothing_but_hangs(faultfs):
    """Where every sample of a batch hangs, the batches around it are delivered all the same."""
    fs = faultfs(60, rules=hangs(range(20, 30)))
    with make_loader(fs.path, 60, on_error=ab.Skip(10)) as loader:
        indices, errors = read_all(loader)
    assert indices == [*range(20), *range(30, 60)]
    assert [error.index for error in errors] == list(range(20, 30))
    assert fs.count("open hang") == 10


def test_hangs_side_by_side_do_not_wait_for_one_another(faultfs, monkeypatch):
    """Files that shared a hop each get one of their own once the first hangs: not a deadline after a deadline."""
    monkeypatch.setattr(_tuning, "_FAST", 10.0)  # so that files share hops, however fast this mount is
    fs = faultfs(60, rules=hangs(range(16, 24)))
    with make_loader(fs.path, 60, reader={"timeout": 2.0, "grace": 20.0}, on_error=ab.Skip(8)) as loader:
        batches = iter(loader)
        next(batches)
        fs.wait_for("hanging", 8)
        assert loader.stats().timeouts < 8 / 2  # one after the other it would be 7


def test_a_hang_raises_in_its_turn(faultfs):
    """Unless told otherwise, the first hung sample is an error, after the batches before it."""
    fs = faultfs(100, rules=hangs([45]))
    with make_loader(fs.path, 100) as loader:
        delivered = []
        with pytest.raises(ab.ReadError) as caught:
            for batch in loader:
                delivered += batch.indices.tolist()
    assert delivered == list(range(40))
    assert (caught.value.key, caught.value.errno, caught.value.attempts) == (name_of(45), errno.ETIMEDOUT, 1)
    assert fs.count("open hang") == 1


def test_lost_threads_come_back_and_late_results_are_dropped(faultfs):
    """A read that ends after it was given up changes nothing that was delivered, and its thread is no longer lost."""
    hung = list(range(0, 80, 10))
    fs = faultfs(100, rules=hangs(hung, "read"))
    with make_loader(fs.path, 100, on_error=ab.Skip(8)) as loader:
        batches = iter(loader)
        first = next(batches)
        assert [error.index for error in first.errors] == [0]
        fs.release()
        rest = [batch.indices.tolist() for batch in batches]
        kept = first.indices.tolist()
    delivered = kept + [index for indices in rest for index in indices]
    assert delivered == sorted(delivered)
    assert 0 not in delivered
    assert set(range(100)) - set(delivered) <= set(hung)
    assert fs.count("read hang") >= 1


def test_no_more_threads_are_lost_than_allowed(faultfs):
    """`max_lost` bounds the threads that are given up; what hangs beyond that ends the run with an error."""
    fs = faultfs(60, rules=hangs(range(10, 50, 2)))
    with make_loader(fs.path, 60, reader={"max_lost": 4}, on_error=ab.Skip(60)) as loader:
        with pytest.raises(ab.StorageUnresponsive):
            read_all(loader)
        assert 1 <= loader.stats().lost_threads <= 4
    assert fs.count("open hang") >= 4


@pytest.mark.parametrize("on", ["open", "read"])
def test_closing_during_hangs_is_prompt(faultfs, on):
    """`close()` while 8 reads hang returns at once, and not one file is opened after it."""
    # Far enough from one another not to share a hop, in which the second hangs only when the first was given up.
    fs = faultfs(200, rules=hangs(range(20, 180, 20), on))
    before = Footprint()
    loader = make_loader(fs.path, 200, reader={"timeout": 30.0, "grace": 60.0, "concurrency": 16})
    batches = iter(loader)
    next(batches)
    fs.wait_for("hanging", 8)
    start = time.monotonic()
    loader.close()
    assert time.monotonic() - start <= 2.0
    opens = fs.count("open")
    assert fs.count("hanging") == 8
    fs.release()
    before.assert_same_soon(5.0)
    assert fs.count("open") == opens


def test_memory_of_hung_reads_is_given_back(faultfs, tmp_path):
    """The bytes of reads that come too late are freed with their threads."""
    size, count = 16_000_000, 8
    for index in range(count):
        with (tmp_path / name_of(index)).open("wb") as file:
            file.truncate(size)
    fs = faultfs(source=tmp_path, rules=hangs(range(count), "read"))
    before, resident = Footprint(), resident_bytes()
    loader = make_loader(fs.path, count, batch_size=1, reader={"timeout": 30.0, "grace": 60.0, "concurrency": count})
    batches = iter(loader)
    fs.wait_for("hanging", count)
    loader.close()
    del batches
    fs.release()
    before.assert_same_soon(10.0)
    assert resident_bytes() - resident < 2 * size


def resident_bytes():
    fields = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in fields if line.startswith("VmRSS"))


def test_a_slow_tail_is_no_hang(faultfs):
    """Reads that are late, but within their deadline, are waited for: no time-out, no retry, no lost thread."""
    fs = faultfs(300, tail=0.05, tail_seconds=0.5)
    with make_loader(fs.path, 300, reader={"timeout": 5.0, "grace": 10.0}) as loader:
        assert read_all(loader) == (list(range(300)), [])
        stats = loader.stats()
    assert (stats.timeouts, stats.lost_threads, stats.retries) == (0, 0, 0)
    assert fs.count("tail") > 0


def test_a_large_file_that_keeps_coming_is_no_hang(faultfs, tmp_path):
    """The deadline is one of progress: a file that takes longer, but brings bytes all the time, is delivered."""
    data = (1).to_bytes(40 * 100_000, "big")
    (tmp_path / name_of(0)).write_bytes(data)
    for index in range(1, 10):
        (tmp_path / name_of(index)).write_bytes((index + 1).to_bytes(SIZE, "big"))
    fs = faultfs(source=tmp_path, latency={"read": 0.05}, rules=[{"fault": "partial", "size": 100_000}])
    with make_loader(fs.path, 10) as loader:
        (batch,) = loader
        assert batch.images[:, 0].tolist() == list(range(10))
        assert batch.images[0, 1] == len(data)
        assert loader.stats().timeouts == 0
    assert fs.count("read partial") >= 40  # of 50 ms each: four times the deadline
