"""A batch's memory is used again, and never while anything refers to it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import asyncbatch as ab
from asyncbatch._memory import BatchMemory

ROW = (64, 64, 3)
BYTE = np.dtype(np.uint8)


class Painter:
    """A decoder whose rows are all of their sample's number: whoever overwrites a kept batch is seen."""

    row_shape = ROW
    row_dtype = BYTE

    def decode(self, data, out, seed):
        out[...] = seed[2] % 251
        return out


class Blank:
    fingerprint = "blank"

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return ab.Sample(key=str(index), path="")


class NoBytes:
    concurrency = 4

    async def read(self, sample):
        return b""


def batches(count):
    """1.5 MB each, which is enough to be mapped."""
    return ab.Loader(Blank(128 * count), batch_size=128, decoder=Painter(), reader=NoBytes())


KEEP = {
    "batch": lambda images: images,
    "row": lambda images: images[3],
    "view of a view": lambda images: images[2:][1].reshape(-1)[::7].T,
    "memoryview": memoryview,
    "cast view": lambda images: images[3].view("u1").reshape(64, -1),
    "dlpack": np.from_dlpack,
}


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_what_is_kept_never_changes(keep):
    """A batch that the caller keeps, or anything made of it without a copy, holds its values."""
    kept, expected = [], []
    for images, _labels in batches(30):
        view = keep(images)
        kept.append(view)
        expected.append(bytes(np.array(view)))
        del images, view
    assert [bytes(np.array(view)) for view in kept] == expected


def test_memory_is_used_again_when_nothing_refers_to_it():
    """Positive control: batches that are not kept share a few places, no more than are prefetched and in hand."""
    places = {images.ctypes.data for images, _labels in batches(30)}
    assert len(places) <= 4 + 2


def test_the_latest_memory_is_used_first():
    """What was left last is in the processor's cache rather than what was left long ago."""
    memory = BatchMemory(spare=3)
    first, second = (memory.empty((2_000_000,), BYTE) for _ in range(2))
    places = [array.ctypes.data for array in (second, first)]
    del first, second  # in this order
    again = [memory.empty((2_000_000,), BYTE) for _ in range(2)]
    assert [array.ctypes.data for array in again] == places


def test_a_batch_has_memory_from_its_first_row_on(monkeypatch):
    """Of four that are open, those that wait for the one before them take none yet."""
    taken, decoding, release = [], threading.Event(), threading.Event()
    empty = BatchMemory.empty
    monkeypatch.setattr(BatchMemory, "empty", lambda memory, *kind: taken.append(kind) or empty(memory, *kind))

    class Stuck(Painter):
        def decode(self, data, out, seed):
            if seed[2] == 64:
                decoding.set()
                assert release.wait(30)
            return super().decode(data, out, seed)

    options = {"decoder": Stuck(), "reader": NoBytes(), "prefetch": 4, "decode_threads": 1}
    with ab.Loader(Blank(64 * 8), batch_size=64, **options) as loader:
        reading = iter(loader)
        assert decoding.wait(30)
        assert len(taken) == 2
        release.set()
        assert [images[5, 0, 0, 0] for images, _labels in reading] == [(64 * step + 5) % 251 for step in range(8)]
    assert len(taken) == 8


def test_views_hold_the_memory_and_their_end_frees_it():
    """The memory comes back exactly when the last view goes."""
    memory = BatchMemory(spare=2)
    array = memory.empty((2, *ROW, 100), BYTE)
    place = array.ctypes.data
    view = array[1][3:]
    del array
    assert memory.empty((2, *ROW, 100), BYTE).ctypes.data != place
    gc.collect()
    memory._free.clear()
    del view
    assert memory.empty((1, *ROW, 200), BYTE).ctypes.data == place


def test_a_kept_batch_holds_no_memory_but_its_own():
    """When an iteration is over, its spare memory goes, though a batch of it is kept."""
    memory = BatchMemory(spare=4)
    kept = memory.empty((2_000_000,), BYTE)
    spare = [memory.empty((2_000_000,), BYTE) for _ in range(3)]
    del spare
    assert len(memory._free) == 3
    memory.close()
    assert len(memory._free) == 0
    kept[...] = 1
    del kept
    assert len(memory._free) == 0


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(0, 3), (5, 3), (3, 700, 700)])
def test_arrays_are_ordinary(shape, dtype):
    """Small, empty and large arrays have the shape and dtype asked for, lie in order and can be written to."""
    array = BatchMemory(spare=1).empty(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    array[...] = 1
    assert array.sum(dtype=np.float64) == array.size


FORKING = """
import os
import numpy as np
from asyncbatch._memory import BatchMemory

array = BatchMemory(spare=1).empty((2_000_000,), np.dtype("uint8"))
array[...] = 1
if (child := os.fork()) == 0:
    array[...] = 2
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(array.min(), array.max())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_writes_into_its_own_copy():
    """Batch memory is private: what a child process writes is not seen by its parent."""
    command = [sys.executable, "-W", "error", "-c", FORKING]  # not here: frameworks that other tests load warn of forks
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "1 1\n"


def test_a_slow_caller_of_a_source_in_memory_gets_every_batch():
    """Planning that has run to the end waits for a caller that has not."""
    loader = ab.Loader(ab.sources.arrays(np.arange(100)), batch_size=5, prefetch=1)
    seen = []
    for images, _labels in loader:
        gc.collect()
        seen.extend(images.tolist())
    assert seen == list(range(100))
