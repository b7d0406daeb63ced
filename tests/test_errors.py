"""Promise 5: whatever goes wrong reaches the caller in its turn, as itself, with key, index and cause."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fakes import Numbers, Ready, encode, number, wait_until

import asyncbatch as ab
from asyncbatch._counters import Counters
from asyncbatch._pipeline import Pipeline
from asyncbatch.readers._tuning import Tuner


class Broken(Exception):
    """What the user's code raises."""


class FailingReader(Ready):
    """A reader for which some samples cannot be read."""

    def __init__(self, *bad):
        super().__init__(concurrency=8)
        self.bad = frozenset(bad)
        self.begun = 0

    async def read(self, sample):
        self.begun += 1
        if int(sample.path) in self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return encode(sample)


class Recording:
    """A hook."""

    def record(self, span):
        pass


def failing_decoder(*bad, error=None):
    def decode(data):
        if int.from_bytes(data, "little") in bad:
            raise error or Broken("no such number")
        return number(data)

    return decode


@dataclass(frozen=True)
class FailingSource(Numbers):
    bad: int = 0

    def __getitem__(self, index):
        if index == self.bad:
            raise Broken("lost its list")
        return super().__getitem__(index)


def make(source=None, reader=None, decoder=number, **settings):
    return ab.Loader(source or Numbers(100), batch_size=10, reader=reader or Ready(), decoder=decoder, **settings)


async def consume_async(loader):
    seen = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the callers look at it
        async for batch in loader:
            seen.append(batch)  # noqa: PERF401 - a comprehension would lose what came before the error
    return len(seen), caught.value


def by_for(loader):
    batches = iter(loader)
    seen = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the callers look at it
        while True:
            seen.append(next(batches))
    return len(seen), caught.value


def by_async_for(loader):
    return asyncio.run(consume_async(loader))


@pytest.mark.parametrize("iterate", [by_for, by_async_for])
@pytest.mark.parametrize(
    ("settings", "kind", "text", "cause"),
    [
        ({"reader": FailingReader(57, 53, 99)}, ab.ReadError, "number-53 (sample 53): Input/output error", OSError),
        ({"decoder": failing_decoder(57, 53, 99)}, ab.DecodeError, "number-53 (sample 53): no such number", Broken),
        ({"source": FailingSource(100, bad=53)}, ab.SourceError, "source[53] failed: lost its list", Broken),
        ({"decoder": failing_decoder(53, error=OSError())}, ab.DecodeError, "number-53 (sample 53): OSError", OSError),
    ],
    ids=["reader", "decoder", "source", "wordless"],
)  # fmt: skip
def test_error_comes_in_its_turn(iterate, settings, kind, text, cause):
    """The five batches before the bad sample are delivered, then its error: the first of its batch, with its cause."""
    before, error = iterate(make(**settings))
    assert before == 5
    assert type(error) is kind
    assert str(error) == text
    assert type(error.__cause__) is cause


def test_sample_error_has_key_index_and_reason():
    """A `SampleError` can be handled without parsing its message."""
    _, error = by_for(make(reader=FailingReader(53)))
    assert (error.key, error.index, error.reason) == ("number-53", 53, "Input/output error")
    assert isinstance(error, ab.SampleError)


def test_out_of_order_error_comes_when_it_happens():
    """With `in_order=False` an error does not wait for batches that are still being made."""
    _, error = by_for(make(reader=FailingReader(53), in_order=False))
    assert error.index == 53


def test_after_an_error_the_iteration_is_over_and_the_next_begins():
    """An iterator that raised has ended, and the loader can be iterated again."""
    loader = make(reader=FailingReader(53))
    batches = iter(loader)
    with pytest.raises(ab.ReadError):
        list(batches)
    with pytest.raises(StopIteration):
        next(batches)
    assert next(iter(loader)).epoch == 1


def test_exit_from_a_decoder_is_not_swallowed():
    """`SystemExit` in a decode thread, which Python would drop there, ends the caller's loop."""
    with pytest.raises(SystemExit):
        list(make(decoder=failing_decoder(53, error=SystemExit(3))))


class OddReader(Ready):
    """A reader that goes wrong in ways that are no ordinary error."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    async def read(self, sample):
        if sample.path == "53":
            return self.how()
        return encode(sample)


def cancelled():
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("how", "text"),
    [(cancelled, "CancelledError"), (lambda: None, "NoneType"), (lambda: 3, "int"), (lambda: sys.exit(3), "3")],
)
def test_odd_reader_is_an_error_and_no_hang(how, text):
    """A reader whose read was cancelled inside it, or that returns no bytes, is the sample's error like any other."""
    _, error = by_for(make(reader=OddReader(how)))
    assert isinstance(error, ab.ReadError)
    assert error.index == 53
    assert text in str(error)


@dataclass(frozen=True)
class CancelledSource(Numbers):
    def __getitem__(self, index):
        raise asyncio.CancelledError


class CancelledOpening:
    @asynccontextmanager
    async def open(self):
        raise asyncio.CancelledError
        yield


def cancelled_decoder(data):
    raise asyncio.CancelledError


@pytest.mark.parametrize("iterate", [by_for, by_async_for])
@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"source": CancelledSource(100)}, ab.SourceError),
        ({"decoder": cancelled_decoder}, ab.DecodeError),
        ({"reader": CancelledOpening()}, ab.LoaderClosed),
    ],
    ids=["source", "decoder", "opening"],
)
def test_cancelled_errors_of_user_code_are_errors(iterate, settings, kind):
    """A `CancelledError` out of a user's code neither hangs nor passes for the end of the epoch."""
    before, error = iterate(make(**settings))
    assert before == 0
    assert type(error) is kind


def test_nothing_is_read_behind_an_error():
    """Once a batch is bound to raise, no later one is planned: a dead mount is not hammered meanwhile."""
    reader = FailingReader(*range(60, 1_000_000))
    batches = iter(make(source=Numbers(1_000_000), reader=reader, prefetch=8))
    for _ in range(6):
        next(batches)
    wait_until(lambda: batches._engine._producer._doomed)
    with pytest.raises(ab.ReadError, match="sample 60"):
        next(batches)
    assert reader.begun < 60 + 4 * 64 + 8


class FailingHook:
    def __init__(self, stage):
        self.stage = stage

    def record(self, span):
        if span.stage == self.stage:
            raise Broken(span.stage)


@pytest.mark.parametrize("stage", ["read", "decode", "wait"])
def test_failing_hook_is_loud(stage):
    """A hook that raises ends the loop with its own error, neither a hang nor an exception group."""
    with pytest.raises(Broken, match=stage):
        list(make(hooks=[FailingHook(stage)]))


@dataclass(frozen=True)
class FilesOf(Numbers):
    folder: Path = Path()

    def __getitem__(self, index):
        return ab.Sample(key=f"number-{index}", path=str(self.folder / f"{index}"), label=index)


@pytest.mark.parametrize("where", [(Tuner, "landed"), (Counters, "read"), (Pipeline, "_account")])
def test_mistake_of_ours_is_loud(monkeypatch, tmp_path, where):
    """What should never raise on the event loop, and does, ends the loop with its error: nobody waits for ever."""
    for index in range(8):
        (tmp_path / f"{index}").write_bytes(index.to_bytes(8, "little"))

    def fail(*args, **kwargs):
        raise Broken(where[1])

    monkeypatch.setattr(*where, fail)
    reader = ab.FileReader(concurrency=2)
    with make(FilesOf(8, folder=tmp_path), reader) as loader, pytest.raises(Broken, match=where[1]):
        list(loader)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({3: (2,)}, "number-3 (sample 3): its row is (2,) int64, those before it (1,) int64"),
        ({0: (2,)}, "number-1 (sample 1): its row is (1,) int64, those before it (2,) int64"),
        (dict.fromkeys(range(20, 30), (2,)), "number-20 (sample 20): its row is (2,) int64, those before it (1,) int"),
    ],
    ids=["third", "first", "whole batch"],
)
def test_rows_of_other_shapes_are_named(shapes, text):
    """Without a declared size all rows must be alike; the first in the plan that differs is named, with a remedy."""

    def decode(data):
        return np.resize(number(data), shapes.get(int.from_bytes(data, "little"), (1,)))

    _, error = by_for(make(decoder=decode))
    assert str(error).startswith(text)
    assert "image_size=(height, width)" in str(error)


def test_decoder_that_ignores_its_slot_is_caught():
    """A decoder that declares its rows but returns another array would leave garbage in the batch: it is an error."""

    class Careless:
        row_shape = (1,)
        row_dtype = np.dtype(np.int64)

        def decode(self, data, out, seed):
            return number(data)

    _, error = by_for(make(decoder=Careless()))
    assert "must fill and return `out`" in str(error)


@dataclass(frozen=True)
class Pairs(Numbers):
    def __getitem__(self, index):
        return "path", index


def test_a_source_of_other_things_than_samples_is_told():
    """A source that gives pairs, as datasets of PyTorch do, gets the line to write."""
    _, error = by_for(make(source=Pairs(100)))
    assert str(error).startswith("source[0] failed: it is tuple, not asyncbatch.Sample; write Sample(key, label, path)")


@dataclass(frozen=True)
class Labelled(Numbers):
    labels: tuple = ()

    def __getitem__(self, index):
        return ab.Sample(key=str(index), label=self.labels[index % len(self.labels)], path=str(index))


@pytest.mark.parametrize("labels", [(1, None), ((1, 2), (3,)), (object(), object()), (3, "cat")])
def test_labels_that_do_not_fit_together_are_refused(labels):
    """Labels of one batch that make no array raise `SourceError`, never an object array."""
    _, error = by_for(make(source=Labelled(100, labels=labels)))
    assert isinstance(error, ab.SourceError)
    assert "do not fit into one array" in str(error)


@pytest.mark.parametrize(
    ("labels", "shape", "dtype"),
    [((1, 2), (10,), "int64"), ((0.5, 1.5), (10,), "float64"), ((np.float32([1, 2]),), (10, 2), "float32")],
)
def test_labels_become_one_array(labels, shape, dtype):
    """Whole numbers become (B,) int64; vectors are stacked and keep their dtype."""
    batch = next(iter(make(source=Labelled(100, labels=labels))))
    assert (batch.labels.shape, batch.labels.dtype) == (shape, dtype)


def test_no_labels_are_none():
    """A source without labels gives None as the second element."""
    assert next(iter(make(source=Labelled(100, labels=(None,))))).labels is None


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0; write batch_size=32"),
        ({"batch_size": 2.5}, "got 2.5"),
        ({"batch_size": True}, "got True"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"prefetch": 0}, "write prefetch=4"),
        ({"decode_threads": "many"}, "decode_threads must be a whole number of at least 1, got 'many'"),
        ({"read_ahead": "lots"}, "read_ahead must be a size above 0, got 'lots'; write read_ahead=\"256MB\""),
        ({"batch_size": 101, "drop_last": True}, "drop_last=True leaves no batch: an epoch has 100 samples"),
        ({"image_size": (8, 8)}, "write decoder=ImageDecoder(image_size, ...) alone"),
        ({"reader": 64}, "write reader=FileReader(concurrency=64)"),
        ({"batch_size": "32"}, "got '32'"),
        ({"shuffle": "yes"}, "shuffle must be True or False, got 'yes'; write shuffle=True"),
        ({"drop_last": "no"}, "drop_last must be True or False, got 'no'; write drop_last=True"),
        ({"in_order": None}, "in_order must be True or False, got None; write in_order=False"),
        ({"read_ahead": "256"}, "read_ahead='256' has no unit; write read_ahead=\"256MB\", or a number for bytes"),
        ({"sampler": 5}, "such as ab.sampling.BlockShuffle(1000), a sequence of indices, or a function"),
        ({"hooks": Ready()}, "hooks must be a list of objects with `def record(self, span)`, got <"),
        ({"hooks": Recording()}, "write hooks=[hook]"),
        ({"hooks": [3]}, "hooks must be objects with `def record(self, span)`, got 3 among them"),
        ({"hooks": [Recording]}, "among them"),
        ({"hooks": "log"}, "got 'log'"),
        (
            {"decoder": ab.ImageDecoder((100_000, 100_000))},
            "a batch of 10 rows of shape (100000, 100000, 3) uint8 takes 300.0 GB, and this process may use",
        ),
    ],
)
def test_wrong_settings_are_refused_in_words(wrong, text):
    """A setting that cannot be used is refused before any work, with its name, its value and a line that works."""
    settings = {"batch_size": 10, "reader": Ready(), "decoder": number} | wrong
    with pytest.raises(ab.ConfigError) as caught:
        ab.Loader(Numbers(100), **settings)
    assert text in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_numbers_of_numpy_are_taken_as_pythons_own():
    """Sizes, seeds and counts that NumPy computed are as good, and the state that holds them is JSON all the same."""
    settings = {"batch_size": np.int64(10), "seed": np.uint8(3), "prefetch": np.int32(2), "decode_threads": np.int8(1),
                "shard": (np.int64(0), np.int64(2)), "shuffle": np.True_, "read_ahead": np.int64(10**6),
                "hooks": [Recording()]}  # fmt: skip
    with ab.Loader(Numbers(100), reader=Ready(), decoder=number, **settings) as loader:
        batches = loader.epochs(np.int64(1))
        next(batches)
        loader.set_epoch(np.int64(2))
        state = json.loads(json.dumps(loader.state_dict()))
        loader.load_state_dict(state)
    assert (state["seed"], state["epoch"], state["global_batch"]) == (3, 2, 20)
    reader = ab.FileReader(concurrency=np.int64(4), retries=np.int64(2), max_lost=np.int64(3))
    assert "np." not in repr((reader, ab.sampling.BlockShuffle(np.int64(10)), ab.sampling.WithReplacement(np.int64(7))))


def test_a_sampler_that_raises_is_named():
    """A function's error is a `ConfigError` with its name and the epoch; the cause is kept."""

    def curriculum(epoch):
        return [0, 1, 2][epoch + 5]

    with pytest.raises(
        ab.ConfigError, match=r"the sampler .*curriculum raised IndexError for epoch 0: list index"
    ) as it:
        ab.Loader(Numbers(10), batch_size=2, decoder=number, reader=Ready(), sampler=curriculum)
    assert isinstance(it.value.__cause__, IndexError)


def test_an_empty_source_says_so():
    """A source without samples is refused when the loader is made."""
    with pytest.raises(ab.SourceError, match="the source is empty"):
        ab.Loader(Numbers(0), batch_size=10)
