"""What was tried once, and what stands in for another, is read before all that is only read ahead."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest
from fakes import Listed, number

import asyncbatch as ab
from asyncbatch._reads import Reads
from asyncbatch.readers import _whole
from asyncbatch.readers._waiting import WaitingReads

NAMES = [str(index) for index in range(40)]


@pytest.fixture
def samples(tmp_path):
    """Files that hold their numbers."""
    for name in NAMES:
        (tmp_path / name).write_bytes(int(name).to_bytes(8, "little"))
    return Listed(ab.Sample(key=name, path=str(tmp_path / name), label=int(name)) for name in NAMES)


class Storage(list):
    """The names of what was read of it, in that order.

    Attributes:
        error: What the first file fails with, once.
        answers: Set once the others may be read.
    """

    def __init__(self):
        super().__init__()
        self.error = None
        self.answers = threading.Event()

    def read(self, part, *args):
        name = part.path.rpartition("/")[2]
        self.append(name)
        if name == "0" and self.count(name) == 1:
            raise self.error
        self.answers.wait(10)
        return self.read_file(part, *args)


@pytest.fixture
def storage(monkeypatch):
    storage = Storage()
    storage.read_file = _whole.read_file
    monkeypatch.setattr(_whole, "read_file", storage.read)
    return storage


async def test_what_failed_is_tried_again_before_the_others(monkeypatch, storage, samples):
    """With one read at a time: the next has begun when the first is to be tried again, and all the others wait."""
    storage.error = OSError(errno.EIO, "try again")
    put_first = WaitingReads.put_first

    def put(self, asks):
        put_first(self, asks)
        storage.answers.set()  # not before, so that the others wait still

    monkeypatch.setattr(WaitingReads, "put_first", put)
    async with asyncio.timeout(10), ab.FileReader(concurrency=1, backoff=0.001).open() as reader:
        data = await asyncio.gather(*map(reader.read, samples))
    assert data == [int(name).to_bytes(8, "little") for name in NAMES]
    assert storage == ["0", "1", "0", *NAMES[2:]]


def test_a_stand_in_is_read_before_the_others(monkeypatch, storage, samples):
    """The batch of a missing file is the next to leave, and needs nothing else."""
    storage.error = FileNotFoundError(errno.ENOENT, "gone")
    asked = []
    ask_at_once = Reads.ask_at_once

    def ask(self, assembly, slot, sample):
        ask_at_once(self, assembly, slot, sample)
        asked.append(sample.key)
        storage.answers.set()

    monkeypatch.setattr(Reads, "ask_at_once", ask)
    settings = {"reader": ab.FileReader(concurrency=1), "decoder": number, "on_error": ab.Replace(1)}
    with ab.Loader(samples, batch_size=2, **settings) as loader:
        assert sum(len(batch.images) for batch in loader) == 40
    assert len(asked) == 1
    assert storage[:3] == ["0", "1", asked[0]]
