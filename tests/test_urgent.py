"""What was tried once, and what stands in for another, is read before all that is only read ahead."""

from __future__ import annotations

import asyncio
import errno
import threading
from types import SimpleNamespace

import pytest
from fakes import Listed, number

import asyncbatch as ab
from asyncbatch._reads import Reads
from asyncbatch.readers import _tuning, _whole
from asyncbatch.readers._flight import Ask
from asyncbatch.readers._waiting import WaitingReads
from asyncbatch.readers._whole import Part

NAMES = [str(index) for index in range(40)]


@pytest.fixture
def samples(tmp_path):
    """Files that hold their numbers."""
    for name in NAMES:
        (tmp_path / name).write_bytes(int(name).to_bytes(8, "little"))
    return Listed(ab.Sample(key=name, path=str(tmp_path / name), label=int(name)) for name in NAMES)


def name_of(part):
    return part.path.rpartition("/")[2]


class Storage(list):
    """The names of what was read of it, in that order.

    Attributes:
        error: What the first file fails with, once.
        answers: Set once the others may be read: when one is asked for that is urgent, so that they wait still.
        turns: The paths of what a thread was to read, in the order of their turns: of several threads, the one whose
            turn it was first may be the last to begin.
    """

    def __init__(self):
        super().__init__()
        self.error = None
        self.answers = threading.Event()
        self.turns = []

    def read(self, part, *args):
        name = name_of(part)
        self.append(name)
        if name == "0" and self.count(name) == 1:
            raise self.error
        self.answers.wait(10)
        return self.read_file(part, *args)


@pytest.fixture
def storage(monkeypatch):
    storage = Storage()
    storage.read_file, append, take = _whole.read_file, WaitingReads.append, WaitingReads.take

    def put(self, ask, *, urgent=False):
        append(self, ask, urgent=urgent)
        if urgent:
            storage.answers.set()

    def noted(self):
        taken = take(self)
        storage.turns += [ask.part.path for ask in taken]
        return taken

    monkeypatch.setattr(_whole, "read_file", storage.read)
    monkeypatch.setattr(WaitingReads, "append", put)
    monkeypatch.setattr(WaitingReads, "take", noted)
    return storage


async def test_what_failed_is_tried_again_before_the_others(storage, samples):
    """With one read at a time: the next has begun when the first is to be tried again, and all the others wait."""
    storage.error = OSError(errno.EIO, "try again")
    async with asyncio.timeout(10), ab.FileReader(concurrency=1, backoff=0.001).open() as reader:
        data = await asyncio.gather(*map(reader.read, samples))
    assert data == [int(name).to_bytes(8, "little") for name in NAMES]
    assert storage == ["0", "1", "0", *NAMES[2:]]


def test_those_that_are_urgent_keep_their_order():
    """What had its turn, then the urgent ones as they came, then the others; each list of all says the same."""
    waiting, future = WaitingReads(), SimpleNamespace(done=lambda: False)
    asks = {name: Ask(Part(name), future) for name in "abcdefg"}
    for name in "abcde":
        waiting.append(asks[name], urgent=name in "bde")
    waiting.put_back([asks["f"], asks["g"]])
    expected = list("fgbdeac")
    assert [ask.part.path for ask in waiting] == expected
    assert [waiting.take()[0].part.path for _ in expected] == expected
    assert (len(waiting), waiting.take()) == (0, [])


async def test_a_second_root_reads_in_order_what_the_first_owes(monkeypatch, storage, samples, tmp_path):
    """The first one dies while all wait for it. What the second is asked for first leaves first, too.

    But for the one that the first is at when it dies: that one is given up whenever its thread comes back.
    """
    whole_read, dead, asked_of_it, second = storage.read_file, str(tmp_path / "dead"), [], threading.Event()

    def read(part, *args):
        if part.path.startswith(dead):
            asked_of_it.append(name_of(part))
            if len(asked_of_it) > 1:
                second.wait(10)
            raise OSError(errno.ENOTCONN, "dead")
        second.set()
        return whole_read(part, *args)

    monkeypatch.setattr(_whole, "read_file", read)
    reader = ab.FileReader(roots=[dead, tmp_path], concurrency=1)
    here = [ab.Sample(key=one.key, path=f"{dead}/{one.key}") for one in samples]
    async with asyncio.timeout(10), reader.open() as opened:
        data = await asyncio.gather(*map(opened.read, here))
    assert data == [int(name).to_bytes(8, "little") for name in NAMES]
    assert set(asked_of_it) == {"0", "1"}
    turns = [one for one in storage.turns if not one.startswith(dead) and one != samples[1].path]
    assert [*dict.fromkeys(turns)] == [one.path for one in samples if one is not samples[1]]


@pytest.fixture
def stand_ins(monkeypatch, storage):
    """The keys of those that were asked for."""
    storage.error = FileNotFoundError(errno.ENOENT, "gone")
    asked, ask_at_once = [], Reads.ask_at_once

    def ask(self, assembly, slot, sample):
        asked.append(sample.key)
        ask_at_once(self, assembly, slot, sample)

    monkeypatch.setattr(Reads, "ask_at_once", ask)
    return asked


def test_a_stand_in_is_read_before_the_others(storage, stand_ins, samples):
    """The batch of a missing file is the next to leave, and needs nothing else."""
    settings = {"reader": ab.FileReader(concurrency=1), "decoder": number, "on_error": ab.Replace(1)}
    with ab.Loader(samples, batch_size=2, **settings) as loader:
        assert sum(len(batch.images) for batch in loader) == 40
    assert len(stand_ins) == 1
    assert storage[:3] == ["0", "1", stand_ins[0]]


def test_a_stand_in_is_read_before_the_others_behind_a_cache(storage, stand_ins, samples, monkeypatch):
    """There all forty are asked for, and four at a time begin, however long they take."""
    monkeypatch.setattr(_tuning, "_FIRST", 4)
    monkeypatch.setattr(_tuning.Tuner, "landed", lambda *_, **__: None)
    settings = {"cache": ab.Cache("memory", limit="1MB"), "decoder": number, "on_error": ab.Replace(1)}
    with ab.Loader(samples, batch_size=2, **settings) as loader:
        assert sum(len(batch.images) for batch in loader) == 40
    assert len(stand_ins) == 1
    assert [path.rpartition("/")[2] for path in storage.turns].index(stand_ins[0]) < 8
