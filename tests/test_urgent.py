"""What was tried once, and what stands in for another, is read before all that is only read ahead."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest
from fakes import number

import asyncbatch as ab
from asyncbatch._reads import Reads
from asyncbatch.readers import _whole
from asyncbatch.readers._flight import Ask
from asyncbatch.readers._waiting import WaitingReads


@pytest.fixture
def tree(tmp_path):
    """A folder of files that hold their numbers."""
    for index in range(40):
        (tmp_path / f"{index}").write_bytes(index.to_bytes(8, "little"))
    return tmp_path


def samples(tree):
    return [ab.Sample(key=str(index), path=str(tree / f"{index}"), label=index) for index in range(40)]


@pytest.fixture
def reads(monkeypatch):
    """Which files are read, in their order; `fails` names one that fails once, and `goes_on` lets the others come."""

    class Seen(list):
        goes_on = threading.Event()
        fails = None

    seen = Seen()
    seen.goes_on = threading.Event()
    read_file = _whole.read_file

    def read(part, *args):
        name = part.path.rpartition("/")[2]
        seen.append(name)
        if name == seen.fails and seen.count(name) == 1:
            raise OSError(errno.EIO, "try again")
        seen.goes_on.wait(10)
        return read_file(part, *args)

    monkeypatch.setattr(_whole, "read_file", read)
    return seen


async def test_what_failed_is_tried_again_before_the_others(reads, tree):
    """With one read at a time: the next has begun when the first is to be tried again, and all the others wait."""
    reads.fails = "0"
    async with ab.FileReader(concurrency=1, backoff=0.001).open() as reader:
        waiting = reader._replicas.preferred._queue._waiting
        tasks = [asyncio.create_task(reader.read(sample)) for sample in samples(tree)]
        while not reader.counters.retries or len(waiting) < 39:  # noqa: ASYNC110 - those in the queue tell nobody
            await asyncio.sleep(0.001)
        reads.goes_on.set()
        assert await asyncio.gather(*tasks) == [index.to_bytes(8, "little") for index in range(40)]
    assert reads == ["0", "1", "0", *(str(index) for index in range(2, 40))]


class Listed(list):
    fingerprint = "listed"


def test_a_stand_in_is_read_before_the_others(monkeypatch, reads, tree):
    """The batch of a missing file is the next to leave, and needs nothing else."""
    (tree / "0").unlink()
    asked = []
    ask_at_once = Reads.ask_at_once

    def ask(self, assembly, slot, sample):
        ask_at_once(self, assembly, slot, sample)
        asked.append(sample.key)
        reads.goes_on.set()

    monkeypatch.setattr(Reads, "ask_at_once", ask)
    read_file = _whole.read_file

    def read(part, *args):
        if part.path.endswith("/0"):
            reads.append("0")
            raise FileNotFoundError(errno.ENOENT, "gone")
        return read_file(part, *args)

    monkeypatch.setattr(_whole, "read_file", read)
    settings = {"reader": ab.FileReader(concurrency=1), "decoder": number, "on_error": ab.Replace(1)}
    with ab.Loader(Listed(samples(tree)), batch_size=2, **settings) as loader:
        assert sum(len(batch.images) for batch in loader) == 40
    assert len(asked) == 1
    assert reads[:3] == ["0", "1", asked[0]]


def test_urgent_reads_take_their_turn_first():
    waiting = WaitingReads()
    for name in ("a", "b"):
        waiting.put(Ask(ab.Sample(key=name, path=name), Undone(), None))
    waiting.put(Ask(ab.Sample(key="c", path="c"), Undone(), None), urgent=True)
    assert [ask.part.path for _ in range(3) for ask in waiting.take()] == ["c", "a", "b"]


class Undone:
    def done(self):
        return False
