"""`on_error`: a sample that fails is let pass up to a limit, reported each time, and never depends on timing."""

from __future__ import annotations

import asyncio
import copy
import errno
import gc
import logging
import math
import sys
import threading
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from fakes import Failing, Gated, Numbers, Ready, encode, number, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncbatch as ab
from asyncbatch import _pipeline
from asyncbatch._errors import FileChanged

SIZE = 100


class CannotDecode(Exception):
    """What the decoder raises."""


def decoder(bad=(), slots=False):
    """Return a decoder that fails chosen samples, with or without a declared shape of its rows."""

    def decode(data):
        if int.from_bytes(data, "little") in bad:
            raise CannotDecode("no such number")
        return number(data)

    class Decoder:
        row_shape = (1,)
        row_dtype = np.dtype(np.int64)

        def decode(self, data, out, seed):
            out[...] = -1  # a row of a sample that fails is half written
            out[...] = decode(data)
            return out

    return Decoder() if slots else decode


def make(on_error, bad=(), size=SIZE, batch_size=10, **settings):
    settings.setdefault("reader", Failing(bad))
    settings.setdefault("decoder", number)
    settings.setdefault("source", Numbers(size))
    return ab.Loader(settings.pop("source"), batch_size=batch_size, on_error=on_error, **settings)


async def drain_async(batches, seen):
    async for batch in batches:
        seen.append(batch)


def drain(batches, by_async=False):
    """Return every batch, and the error that ended them, or None."""
    seen = []
    try:
        if by_async:
            asyncio.run(drain_async(batches, seen))
        else:
            for batch in batches:
                seen.append(batch)  # noqa: PERF402 - what came before an error counts
    except ab.AsyncbatchError as error:
        return seen, error
    return seen, None


def failed(errors):
    return [error.index for error in errors]


# -- the model: what the documentation says, one sample after another --------------------------------------------------


def stand_in(seed, epoch, index, planned, tried, size):
    for avoided in ([*planned, *tried], [index, *tried]):
        left = sorted(set(range(size)) - set(avoided))
        if left:
            seeds = np.random.SeedSequence(seed, spawn_key=(epoch, index, len(tried)))
            return left[np.random.default_rng(seeds).integers(len(left))]
    return None


def by_hand(*, size, batch_size, seed, epochs, bad, on_error):
    """Return what is delivered, as (epoch, step, indices, errors), how it ends, and every error let pass."""
    delivered, let_pass, riding = [], [], []
    limit = on_error.limit
    allowed = limit if isinstance(limit, int) else math.ceil(Fraction(str(limit)) * size)
    for epoch in range(epochs):
        order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(size).tolist()
        count = 0
        for step, start in enumerate(range(0, size, batch_size)):
            planned = order[start : start + batch_size]
            rows = []
            for index in planned:
                one, tried = index, []
                while one is not None and one in bad:
                    count += 1
                    if count > allowed:
                        return delivered, (ab.ErrorLimitExceeded, one), let_pass
                    let_pass.append(one)
                    riding.append(one)
                    if isinstance(on_error, ab.Skip):
                        one = None
                        break
                    tried += [one] if one != index else []
                    one = stand_in(seed, epoch, index, planned, tried, size) if len(tried) < 8 else None
                    if one is None:
                        return delivered, (ab.SampleError, index), let_pass
                if one is not None:
                    rows.append(one)
            if rows:
                delivered.append((epoch, step, rows, riding))
                riding = []
    return delivered, None, let_pass


def told(batches):
    return [(batch.epoch, batch.step, batch.indices.tolist(), failed(batch.errors)) for batch in batches]


def assert_whole(batch):
    """All parts of a batch speak of the same samples."""
    indices = batch.indices.tolist()
    assert batch.images.ravel().tolist() == batch.labels.tolist() == indices
    assert batch.images.shape == (len(indices), 1)
    assert batch.images.flags.c_contiguous
    assert batch.keys == tuple(f"number-{index}" for index in indices)
    assert (batch.indices.dtype, batch.labels.dtype) == (np.int64, np.int64)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from([ab.Skip, ab.Replace]))
def test_what_is_delivered_follows_from_what_is_bad(data, kind):
    """Whatever fails, in whichever order reads end: rows, reports, and the end are those of the model by hand."""
    size, batch_size = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 12))
    few = st.sets(st.integers(0, size - 1), max_size=data.draw(st.sampled_from([2, size])))
    unread, undecoded = data.draw(few), data.draw(few)
    limit = data.draw(st.one_of(st.integers(0, 2 * size), st.sampled_from([0.01, 0.07, 0.5, 1.0])))
    seed, epochs = data.draw(st.integers(0, 2**80)), data.draw(st.integers(1, 3))
    loader = make(
        kind(limit),
        source=Numbers(size),
        batch_size=batch_size,
        reader=Failing(unread, seed=data.draw(st.integers(0, 2**32)), concurrency=data.draw(st.sampled_from([1, 8]))),
        decoder=decoder(undecoded, slots=data.draw(st.booleans())),
        shuffle=True,
        seed=seed,
        prefetch=data.draw(st.integers(1, 4)),
        read_ahead=data.draw(st.sampled_from([1, 30_000, "256MB"])),
    )
    delivered, end, let_pass = by_hand(
        size=size, batch_size=batch_size, seed=seed, epochs=epochs, bad=unread | undecoded, on_error=kind(limit)
    )
    batches, error = drain(loader.epochs(epochs), by_async=data.draw(st.booleans()))
    assert told(batches) == delivered
    for batch in batches:
        assert_whole(batch)
    if end is None:
        assert error is None
    else:
        assert isinstance(error, end[0])
        assert (error.errors[-1] if isinstance(error, ab.ErrorLimitExceeded) else error).index == end[1]
    stats = loader.stats()
    assert failed(stats.errors) == let_pass[-1000:]
    assert stats.skipped == (len(let_pass) if kind is ab.Skip else 0)
    assert (stats.batches, stats.samples) == (len(batches), sum(len(batch.indices) for batch in batches))


def test_failing_reader_permutes():
    """Positive control: the fake's reads do overtake each other, and differently by seed."""
    orders = []
    for seed in (1, 2):
        reader = Failing(seed=seed)
        list(make("raise", reader=reader))
        orders.append(reader.finished)
        assert sorted(orders[-1]) == list(range(SIZE))
    assert orders[0] != orders[1] != sorted(orders[1])


# -- the limit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_async", [False, True])
@pytest.mark.parametrize("kind", ["read", "decode"])
def test_skip_five_lets_five_pass_and_raises_at_the_sixth(kind, by_async):
    """`Skip(5)`: five samples are left out and named; the sixth raises in its turn, as its own cause, with all six."""
    bad = (3, 4, 27, 55, 71, 78, 79)
    unread, undecoded = (bad, ()) if kind == "read" else ((), bad)
    loader = make(ab.Skip(5), unread, decoder=decoder(undecoded))
    batches, error = drain(loader, by_async)
    assert [len(batch.indices) for batch in batches] == [8, 10, 9, 10, 10, 9, 10]
    assert [failed(batch.errors) for batch in batches] == [[3, 4], [], [27], [], [], [55], []]
    assert type(error) is ab.ErrorLimitExceeded
    assert failed(error.errors) == [3, 4, 27, 55, 71, 78]
    assert error.__cause__ is error.errors[-1]
    assert type(error.__cause__) is (ab.ReadError if kind == "read" else ab.DecodeError)
    assert str(error) == (
        "6 failed samples in epoch 0, which has 100, are more than on_error=Skip(limit=5) lets pass; "
        f"the last was {error.__cause__}; if so many may fail, write on_error=Skip(limit=12)"
    )
    assert str(error.__cause__).startswith("number-78 (sample 78): ")


def test_exactly_the_limit_passes_in_every_epoch():
    """The limit is counted an epoch: five of five pass again and again."""
    batches, error = drain(make(ab.Skip(5), range(5)).epochs(3))
    assert error is None
    assert sum(len(batch.errors) for batch in batches) == 15


@pytest.mark.parametrize("kind", [ab.Skip, ab.Replace])
@pytest.mark.parametrize(
    ("limit", "bad", "passes"), [(0, 1, False), (0.01, 1, True), (0.01, 2, False), (0.07, 7, True), (0.07, 8, False)]
)
def test_a_share_is_of_the_epoch_and_rounded_up(kind, limit, bad, passes):
    """0.01 of 100 samples is one and 0.07 seven, not eight; 0 lets nothing pass. Stand-ins here are sound."""
    loader = make(kind(limit), range(bad), batch_size=50)
    _, error = drain(loader)
    assert (error is None) == passes
    if kind is ab.Replace and passes:
        assert loader.stats().replaced == bad
    assert type(error) in (type(None), ab.ErrorLimitExceeded)


def test_a_share_is_of_the_samples_that_the_epoch_has():
    """What `drop_last` leaves out counts for nothing: half of 100 is 50."""
    _, error = drain(make(ab.Skip(0.5), range(50), size=109, drop_last=True))
    assert error is None
    _, error = drain(make(ab.Skip(0.5), range(51), size=109, drop_last=True))
    assert "51 failed samples in epoch 0, which has 100," in str(error)


@pytest.mark.parametrize("kind", [ab.Skip, ab.Replace])
@pytest.mark.parametrize("limit", [True, -1, 0.0, -0.1, 1.5, math.nan, math.inf, "1%", None])
def test_limits_that_are_none_are_refused_in_words(kind, limit):
    """A limit is a count or a share; anything else is refused at once with a line that works."""
    with pytest.raises(ab.ConfigError) as caught:
        kind(limit)
    assert f"got {limit!r}; write on_error={kind.__name__}(limit=0.01)" in str(caught.value)


@pytest.mark.parametrize("wrong", ["skip", ab.Skip, 5, None])
def test_on_error_that_is_none_is_refused_in_words(wrong):
    """`on_error` is one of three; the class without its limit is not."""
    with pytest.raises(ab.ConfigError, match="write on_error=Skip"):
        make(wrong)


def test_the_line_in_the_message_works():
    """What the message of a passed limit says to write is a limit, at the edges too."""
    for on_error in (ab.Skip(0), ab.Skip(1), ab.Skip(0.01), ab.Skip(0.2), ab.Skip(0.6), ab.Replace(1.0)):
        failed = on_error.allowed(1000) + 1
        remedy = on_error.remedy(1000, failed)
        if 2 * failed >= 1000:  # a limit that lets half of the data be lost is no advice
            assert remedy.startswith("so many that something is wrong with the data")
            continue
        assert remedy.startswith("if so many may fail, write on_error=")
        line = remedy.rpartition("on_error=")[2]
        proposed = eval(line, {"Skip": ab.Skip, "Replace": ab.Replace})  # noqa: S307
        assert type(proposed.limit) is type(on_error.limit)
        assert 2 * failed <= proposed.allowed(1000) < 1000


@pytest.mark.parametrize(
    ("samples", "failed", "limit"), [(200, 2, 0.02), (201, 100, 200), (7, 3, 0.86), (10**6, 1, 0.01)]
)
def test_a_proposed_share_is_never_all(samples, failed, limit):
    """A share covers twice what failed, in whole percent, and is a count where that would be all."""
    assert ab.Skip(0.001).remedy(samples, failed).endswith(f"write on_error=Skip(limit={limit})")


def test_limits_of_numpy_are_plain_numbers():
    """A count or a share of NumPy is taken as Python's own."""
    for limit, plain in ((np.int64(5), 5), (np.float64(0.25), 0.25)):
        assert repr(ab.Skip(limit)) == f"Skip(limit={plain})"
        assert type(ab.Replace(limit).limit) is type(plain)


def test_out_of_order_the_limit_counts_as_batches_leave():
    """With `in_order=False` errors are counted in the order in which batches leave, which is their completion."""
    reader = Gated(held=[0])
    loader = make(ab.Skip(1), size=20, reader=reader, decoder=decoder([1, 11]), in_order=False)
    batches = iter(loader)
    first = next(batches)
    assert (first.step, failed(first.errors)) == (1, [11])
    reader.release()
    with pytest.raises(ab.ErrorLimitExceeded) as caught:
        next(batches)
    assert failed(caught.value.errors) == [11, 1]


def test_out_of_order_epochs_are_counted_apart():
    """Batches of two epochs may leave by turns, and each epoch has its own count."""
    reader = Gated(held=[0])
    batches = make(ab.Skip(2), size=20, reader=reader, decoder=decoder([1, 11]), in_order=False).epochs(2)
    first = [next(batches) for _ in range(2)]  # the second batch of either epoch; both first ones wait
    reader.release()
    rest, error = drain(batches)
    assert error is None
    assert {(batch.epoch, batch.step) for batch in first} == {(0, 1), (1, 1)}
    assert [len(batch.errors) for batch in [*first, *rest]] == [1, 1, 1, 1]


def test_nothing_is_read_behind_a_limit_that_is_passed():
    """Once an epoch is bound to raise, no later batch is planned; before that, planning goes on."""
    reader = Failing(range(60, 1_000_000))
    batches = iter(make(ab.Skip(15), size=1_000_000, reader=reader, prefetch=8))
    wait_until(lambda: batches._engine._producer._doomed)
    seen, error = drain(batches)
    assert [len(batch.indices) for batch in seen] == [10] * 6
    assert failed(error.errors) == list(range(60, 76))
    assert len(reader.begun) < 80 + 4 * 64 + 8


# -- what is not let pass ----------------------------------------------------------------------------------------------


class StorageDies(Ready):
    async def read(self, sample):
        if int(sample.path) == 53:
            raise ab.StorageUnresponsive("the mount is gone")
        if int(sample.path) in (12, 51):
            raise OSError(errno.EIO, "no")
        return encode(sample)


@pytest.mark.parametrize("on_error", ["raise", ab.Skip(1.0), ab.Replace(1.0)])
def test_what_a_reader_says_of_the_storage_is_raised_as_it_is(on_error):
    """`StorageUnresponsive` is no sample's error: raised in batch order as itself, whatever `on_error` lets pass."""
    batches, error = drain(make(on_error, reader=StorageDies(), decoder=decoder([13])))
    if on_error == "raise":
        assert (len(batches), error.index) == (1, 12)
    else:
        assert len(batches) == 5
        assert str(error) == "the mount is gone"
        assert type(error) is ab.StorageUnresponsive


@dataclass(frozen=True)
class FailingSource(Numbers):
    bad: int = 0

    def __getitem__(self, index):
        if index == self.bad:
            raise LookupError("lost its list")
        return super().__getitem__(index)


@pytest.mark.parametrize("on_error", [ab.Skip(1.0), ab.Replace(1.0)])
def test_a_failing_source_is_never_let_pass(on_error):
    """A source that cannot say what a sample is raises `SourceError` in its turn."""
    batches, error = drain(make(on_error, source=FailingSource(SIZE, bad=53)))
    assert len(batches) == 5
    assert type(error) is ab.SourceError


def test_a_source_that_fails_for_a_stand_in_raises():
    """The same when it is asked for a stand-in; the samples of the batch are not to blame."""
    own = stand_in(0, 0, 7, range(10), [], SIZE)
    batches, error = drain(make(ab.Replace(5), [7], source=FailingSource(SIZE, bad=own)))
    assert batches == []
    assert str(error) == f"source[{own}] failed: lost its list"


@pytest.mark.parametrize("on_error", [ab.Skip(1.0), ab.Replace(1.0)])
def test_rows_of_other_shapes_are_not_let_pass(on_error):
    """Which shape is odd depends on which row came first: that is no sample's fault, and `image_size` mends it."""

    def decode(data):
        return np.resize(number(data), {25: (2,)}.get(int.from_bytes(data, "little"), (1,)))

    batches, error = drain(make(on_error, [3, 20], decoder=decode))
    assert len(batches) == 2
    assert str(error).startswith("number-25 (sample 25): its row is (2,) int64, those before it (1,) int64")


class Changed(Failing):
    def error(self):
        error = FileChanged(errno.ESTALE, "its size changed")
        error.attempts = 5
        return error


@pytest.mark.parametrize("on_error", ["raise", ab.Skip(1)])
def test_a_changed_file_has_its_own_error_and_says_how_often_it_was_tried(on_error):
    """A reader's `FileChanged` becomes `SampleChanged`; errno and attempts of the cause are the sample's."""
    batches, error = drain(make(on_error, reader=Changed([3])))
    error = error or batches[0].errors[0]
    assert type(error) is ab.SampleChanged
    assert (error.errno, error.attempts) == (errno.ESTALE, 5)
    assert str(error) == "number-3 (sample 3): its size changed, after 5 attempts"


# -- Skip --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read", "decode", "both"])
@pytest.mark.parametrize("slots", [False, True])
def test_batches_of_which_nothing_is_left_are_not_delivered(kind, slots):
    """Their errors come with the next batch, before its own, across epochs too; those of the last are in the stats."""
    bad = [*range(10, 30), 35, *range(90, 100)]
    unread = {"read": bad, "decode": [], "both": bad[::2]}[kind]
    loader = make(ab.Skip(50), unread, decoder=decoder(bad, slots), prefetch=1)
    batches, error = drain(loader.epochs(2))
    assert error is None
    assert len(loader) == 10
    steps = [0, 3, 4, 5, 6, 7, 8]
    assert [(batch.epoch, batch.step) for batch in batches] == [(epoch, step) for epoch in (0, 1) for step in steps]
    assert failed(batches[1].errors) == [*range(10, 30), 35]
    assert failed(batches[7].errors) == list(range(90, 100))
    assert failed(loader.stats().errors) == bad * 2
    assert loader.stats().skipped == 2 * len(bad)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_a_batch_of_one_is_delivered_or_not(prefetch):
    """With `batch_size=1` a bad sample's batch is left out, and no room is lost to it."""
    loader = make(ab.Skip(1.0), range(0, 100, 2), batch_size=1, prefetch=prefetch, decoder=decoder([5, 7, 9]))
    batches, error = drain(loader)
    assert error is None
    assert [batch.labels.item() for batch in batches] == [1, 3, *range(11, 100, 2)]
    assert failed(batches[2].errors) == [4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("prefetch", [1, 4])
def test_an_epoch_of_which_nothing_is_left_ends(prefetch):
    """If all samples fail and all may, there is no batch and no error, and the stats name every one."""
    loader = make(ab.Skip(1.0), range(100), prefetch=prefetch)
    assert drain(loader) == ([], None)
    assert failed(loader.stats().errors) == list(range(100))


class Painter:
    """A decoder of rows of 12 kB, all of their sample's number."""

    row_shape = (64, 64, 3)
    row_dtype = np.dtype(np.uint8)

    def decode(self, data, out, seed):
        out[...] = 255
        if seed[2] % 7 == 3:
            raise CannotDecode
        out[...] = seed[2] % 251
        return out


@pytest.mark.parametrize("on_error", [ab.Skip(1.0), ab.Replace(1.0)])
def test_a_kept_batch_never_changes_though_samples_were_left_out(on_error):
    """Rows moved together or filled by stand-ins lie in memory that is used again only when nothing refers to it."""
    loader = ab.Loader(Numbers(128 * 12), batch_size=128, decoder=Painter(), reader=Ready(), on_error=on_error)
    kept = list(loader)
    places = [batch.images.ctypes.data for batch in kept]
    assert len(set(places)) == 12
    for batch in kept:
        assert (batch.images == (batch.indices % 251)[:, None, None, None]).all()
        assert 3 not in batch.indices % 7
        assert batch.images.flags.c_contiguous
    del kept, batch
    again = {images.ctypes.data for images, _ in loader}
    # Positive control: what is not kept is used again, but for 4 batches that are ready and 2 in hands. Where the
    # interpreter has no lock, an array ends a little later, when the thread that made it comes to that.
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert len(again) <= (4 + 2 if has_lock else 4 + 2 + 2)


# -- Replace -----------------------------------------------------------------------------------------------------------


def test_a_stand_in_brings_its_own_label_index_and_key():
    """The batch keeps its shape; the stand-in is none of its batch's samples, and the failed one is named."""
    loader = make(ab.Replace(5), [7, 42])
    batches, error = drain(loader)
    assert error is None
    own = stand_in(0, 0, 7, range(10), [], SIZE)
    assert own not in range(10)
    assert batches[0].indices.tolist() == [*range(7), own, 8, 9]
    assert [failed(batch.errors) for batch in batches] == [[7], [], [], [], [42], [], [], [], [], []]
    for batch in batches:
        assert_whole(batch)
    assert loader.stats().replaced == 2
    assert loader.stats().skipped == 0
    second = [batch.indices.tolist() for batch in loader]
    assert second[0][7] == stand_in(0, 1, 7, range(10), [], SIZE) != own  # another epoch, another draw


def test_a_stand_in_that_fails_is_followed_by_another():
    """Every failure of a place is counted and reported, in the order in which they were tried."""
    first = stand_in(0, 0, 7, range(10), [], SIZE)
    second = stand_in(0, 0, 7, range(10), [first], SIZE)
    third = stand_in(0, 0, 7, range(10), [first, second], SIZE)
    loader = make(ab.Replace(50), [7, first], decoder=decoder([second]))
    batch = next(iter(loader))
    assert batch.indices[7] == third
    assert failed(batch.errors) == [7, first, second]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_after_eight_stand_ins_the_sample_itself_raises(batch_size):
    """Nine failures in one place are no accident: the place's own sample raises, in its turn."""
    loader = make(ab.Replace(1.0), range(batch_size, 100), batch_size=batch_size)
    batches, error = drain(loader)
    assert [batch.indices.tolist() for batch in batches] == [list(range(batch_size))]
    assert type(error) is ab.ReadError
    assert error.index == batch_size
    assert len(loader.stats().errors) >= 9
    assert failed(loader.stats().errors)[0] == batch_size


def test_a_limit_below_eight_ends_the_tries():
    """No stand-in is read that the limit rules out: `Replace(0)` reads none."""
    reader = Failing([7])
    _, error = drain(make(ab.Replace(0), reader=reader, size=10))
    assert type(error) is ab.ErrorLimitExceeded
    assert sorted(reader.begun) == list(range(10))


def test_a_source_that_has_no_other_sample_raises():
    """Where the batch is the whole source its own samples stand in; where there is one sample, nothing can."""
    batches, error = drain(make(ab.Replace(1.0), [2], size=4))
    assert error is None
    assert batches[0].indices[2] in (0, 1, 3)
    _, error = drain(make(ab.Replace(1.0), [0], size=1))
    assert type(error) is ab.ReadError


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_stand_in_needs_no_room_in_a_full_window(concurrency):
    """With a window that holds one sample, and one read at a time, what the next batch waits for is read."""
    reader = Failing([0], concurrency=concurrency)
    batches, error = drain(make(ab.Replace(5), reader=reader, read_ahead=1, prefetch=1))
    assert (len(batches), error) == (10, None)


class HoldsBack(Failing):
    """A reader that fails sample 0 and never answers for what is not of the first batch, once it is asked again."""

    def __init__(self):
        super().__init__([0], concurrency=10)
        self.asked = threading.Event()

    async def read(self, sample):
        if len(self.begun) == 10:
            self.asked.set()
            await asyncio.Event().wait()
        return await super().read(sample)


def test_nothing_is_left_of_a_stand_in_that_was_being_read(footprint):
    """An iteration that ends while a stand-in is under way leaves neither thread nor task."""
    reader = HoldsBack()
    batches = iter(make(ab.Replace(1), size=11, reader=reader, batch_size=10, drop_last=True))
    reader.asked.wait()
    batches.close()
    assert reader.begun[-1] != 10
    footprint.assert_same()


def test_augmentation_of_a_stand_in_is_its_own():
    """A stand-in is decoded under its own (seed, epoch, index), as it would be in its own place."""
    seeds = []

    class Recorder:
        row_shape = row_dtype = None

        def decode(self, data, out, seed):
            seeds.append(seed)
            if seed[2] == 7:
                raise CannotDecode
            return number(data)

    list(make(ab.Replace(5), decoder=Recorder(), seed=11, size=50))
    own = stand_in(11, 0, 7, range(10), [], 50)
    assert seeds.count((11, 0, own)) == 2
    assert len(seeds) == 51


@dataclass(frozen=True)
class OnItsThread(Numbers):
    threads: set = field(default_factory=set)

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        return super().__getitem__(index)


def test_the_source_is_asked_for_stand_ins_in_the_planning_thread():
    """`source[index]` may be slow and need not be safe in threads: one thread asks it, for stand-ins too."""
    source = OnItsThread(SIZE)
    list(make(ab.Replace(1.0), range(0, 100, 3), source=source))
    assert source.threads == {"asyncbatch-plan-0"}


@dataclass(frozen=True)
class Labelled(Numbers):
    labels: tuple = ()

    def __getitem__(self, index):
        return ab.Sample(key=f"number-{index}", label=self.labels[index % len(self.labels)], path=str(index))


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ((1, 2, 3), "int64"),
        ((0.5, 2, 3), "float64"),
        ((np.float32([1, 2]),), "float32"),
        ((np.uint8(3),), "uint8"),
        (("a", "bb", "a long name"), None),
        ((None,), None),
    ],
)
@pytest.mark.parametrize("on_error", [ab.Skip(1.0), ab.Replace(1.0)])
def test_labels_follow_their_samples(labels, dtype, on_error):
    """Labels of every kind are left out or exchanged with their sample, and keep the batch's dtype."""
    source = Labelled(SIZE, labels=labels)
    batches, error = drain(make(on_error, range(0, 100, 7), source=source))
    assert error is None
    for batch in batches:
        expected = [source[index].label for index in batch.indices]
        if labels[0] is None:
            assert batch.labels is None
        else:
            assert batch.labels.dtype == dtype or dtype is None
            assert np.array_equal(batch.labels, np.array(expected))


@pytest.mark.parametrize("labels", [(1, 0.5), (1, None), (1, "cat")])
def test_a_stand_in_whose_label_does_not_fit_is_refused(labels):
    """A label is never rounded, cut or dropped to fit among the others: that is the source's error."""
    own = stand_in(0, 0, 0, [0], [], SIZE)
    source = Labelled(SIZE, labels=tuple(labels[1] if index == own else labels[0] for index in range(SIZE)))
    batches, error = drain(make(ab.Replace(5), [0], source=source, batch_size=1))
    assert batches == []
    assert type(error) is ab.SourceError
    assert str(error).startswith("the labels of a batch with stand-ins failed: ")


# -- sources in memory -------------------------------------------------------------------------------------------------


def odd_rows(row):
    if row[0] % 5 == 1:
        raise CannotDecode("odd")
    return row


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_rows_in_memory_that_fail_are_skipped(batch_size):
    """A decoder's failure on rows in memory is let pass like any other."""
    x = np.arange(50).reshape(50, 1)
    loader = ab.Loader(
        ab.sources.arrays(x, x[:, 0]), batch_size=batch_size, decoder=odd_rows, on_error=ab.Skip(10), prefetch=2
    )
    batches, error = drain(loader)
    assert error is None
    assert np.concatenate([batch.images for batch in batches]).ravel().tolist() == [i for i in range(50) if i % 5 != 1]
    assert failed(loader.stats().errors) == list(range(1, 50, 5))


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_rows_in_memory_that_fail_are_replaced(batch_size):
    """A stand-in's row is taken from memory and decoded; labels and keys are its own."""
    x = np.arange(50).reshape(50, 1)
    loader = ab.Loader(ab.sources.arrays(x, x[:, 0]), batch_size=batch_size, decoder=odd_rows, on_error=ab.Replace(1.0))
    delivered, _, _ = by_hand(size=50, batch_size=batch_size, seed=0, epochs=1, bad=(), on_error=ab.Replace(1.0))
    batches, error = drain(loader)
    assert error is None
    assert len(batches) == len(delivered)
    for step, batch in enumerate(batches):
        planned = list(range(50))[step * batch_size : (step + 1) * batch_size]
        expected = []
        for index in planned:
            one, tried = index, []
            while one % 5 == 1:
                tried += [one] if one != index else []
                one = stand_in(0, 0, index, planned, tried, 50)
            expected.append(one)
        assert batch.indices.tolist() == batch.images.ravel().tolist() == batch.labels.tolist() == expected
        assert batch.keys == tuple(map(str, expected))


@dataclass(frozen=True)
class FailingMemory(Numbers):
    def take(self, indices):
        if 7 not in indices and len(indices) == 1:
            raise LookupError("gone")
        return np.asarray(indices)[:, None]


def test_memory_that_fails_for_a_stand_in_is_the_sources_error():
    """`take` failing is never a sample's fault."""

    def decode(row):
        if row[0] == 7:
            raise CannotDecode
        return row

    batches, error = drain(ab.Loader(FailingMemory(50), batch_size=10, decoder=decode, on_error=ab.Replace(5)))
    assert batches == []
    assert str(error) == "FailingMemory.take failed: gone"


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_error", "word"), [(ab.Skip(5), "skipped"), (ab.Replace(5), "to be replaced:")])
def test_every_failed_sample_is_logged_once(on_error, word, caplog):
    """One warning a failed sample: key, index, reason, errno and attempts, and no traceback."""
    list(make(on_error, [3], decoder=decoder([21])))
    assert [(record.name, record.levelno, record.exc_info) for record in caplog.records] == [
        ("asyncbatch", logging.WARNING, None)
    ] * 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{word} 'number-3' (sample 3): Input/output error (errno {errno.EIO}, attempts 1)",
        f"{word} 'number-21' (sample 21): no such number (errno None, attempts 1)",
    ]


def test_what_is_raised_is_not_logged(caplog):
    """Under "raise" the error itself is the report; and so is that of a limit."""
    drain(make("raise", [3]))
    drain(make(ab.Skip(0), [3]))
    assert caplog.records == []


def test_stats_keep_the_last_thousand_errors():
    """`stats().errors` is bounded, over the loader's life and over its iterations."""
    loader = make(ab.Skip(1.0), range(0, 1400, 2), size=1400)
    list(loader)
    before = loader.stats()
    list(loader)
    stats = loader.stats()
    assert (len(before.errors), before.skipped) == (700, 700)
    assert (len(stats.errors), stats.skipped) == (1000, 1400)
    assert failed(stats.errors) == [*range(800, 1400, 2), *range(0, 1400, 2)]


class Traced(np.ndarray):
    """An array that can be referred to weakly."""


def failing_with_pictures(alive, error=CannotDecode):
    """Return a function that has a picture in hand when it raises."""

    def fail(_data):
        picture = np.zeros(1000).view(Traced)
        alive.append(weakref.ref(picture))
        try:
            raise KeyError("within")
        except KeyError:
            raise error("without") from None

    return fail


def still(alive):
    gc.collect()
    return sum(picture() is not None for picture in alive)


@pytest.mark.parametrize("on_error", [ab.Skip(1.0), ab.Replace(1.0)])
def test_errors_let_pass_hold_no_pictures(on_error):
    """An error that is let pass lets go of every frame that it came through, and keeps its cause."""
    alive = []
    fail = failing_with_pictures(alive)
    loader = make(on_error, decoder=lambda data: fail(data) if data[0] % 9 == 0 else number(data))
    _, error = drain(loader)
    assert error is None
    assert len(alive) == len(loader.stats().errors) >= 12
    assert all(one.__cause__.args == ("without",) for one in loader.stats().errors)
    assert still(alive) == 0


class FailingWithPictures(Ready):
    def __init__(self, alive):
        super().__init__()
        self.fail = failing_with_pictures(alive, OSError)

    async def read(self, sample):
        if int(sample.path) >= 50:
            self.fail(sample)
        return encode(sample)


@pytest.mark.parametrize("on_error", ["raise", ab.Skip(1), ab.Replace(1)])
@pytest.mark.parametrize("kind", ["read", "decode", "memory"])
def test_the_error_that_is_raised_holds_no_batch(kind, on_error, monkeypatch):
    """The error that ends the loop keeps its cause's traceback, for whoever mends it, but no row beside its own."""
    alive, assemblies = [], []
    fail = failing_with_pictures(alive)

    def decode(data):
        index = data[0] if kind == "memory" else int.from_bytes(data, "little")
        return fail(data) if index >= 50 else np.array([index])

    settings = {"reader": FailingWithPictures(alive)} if kind == "read" else {"decoder": decode}
    if kind == "memory":
        settings |= {"source": ab.sources.arrays(np.arange(SIZE)[:, None]), "reader": None}
    remember_assemblies(monkeypatch, assemblies)
    batches, error = drain(make(on_error, **settings))
    while not isinstance(error, ab.SampleError):
        error = error.__cause__
    assert len(batches) == 5
    frames = []
    trace = error.__cause__.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "fail" in frames
    assert len(assemblies) >= 6
    del batches
    assert still(alive) == 1  # what was in hand as it was raised
    assert still(assemblies) == 0


def remember_assemblies(monkeypatch, made):
    class Remembered(_pipeline.Assembly):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr(_pipeline, "Assembly", Remembered)


def test_a_batch_with_errors_can_be_copied():
    """What a user's own queue does to a batch keeps its errors."""
    batch = copy.copy(next(iter(make(ab.Skip(1), [3]))))
    assert failed(batch.errors) == [3]


# -- counters ----------------------------------------------------------------------------------------------------------


class Counting(Ready):
    def __init__(self):
        super().__init__()
        self.counters = ab.ReadCounters(retries=1000, concurrency=3)

    async def read(self, sample):
        self.counters.retries += 1
        self.counters.timeouts += 2
        self.counters.hedges += 3
        self.counters.lost_threads = 4
        self.counters.concurrency += 1
        return encode(sample)


class CountingFactory:
    def __init__(self):
        self.opened = []

    def open(self):
        self.opened.append(Counting())
        return nullcontext(self.opened[-1])


@pytest.mark.parametrize("reader", [Counting, CountingFactory])
def test_readers_counters_add_up(reader):
    """Counts go on over the iterations of a loader, whether a reader is opened anew for each or not."""
    loader = make("raise", reader=reader())
    assert (loader.stats().retries, loader.stats().concurrency) == (0, 0)
    for epoch in (1, 2, 3):
        list(loader)
        stats = loader.stats()
        assert (stats.retries, stats.timeouts, stats.hedges) == (100 * epoch, 200 * epoch, 300 * epoch)
        assert (stats.lost_threads, stats.concurrency) == (4, 103 if reader is CountingFactory else 3 + 100 * epoch)


def test_a_running_readers_counters_are_seen():
    """`stats()` tells of the iteration under way, and a thread that comes back later is lost no more."""
    factory = CountingFactory()
    loader = make("raise", reader=factory)
    batches = iter(loader)
    next(batches)
    wait_until(lambda: loader.stats().retries == 100)
    batches.close()
    factory.opened[0].counters.lost_threads = 1
    assert loader.stats().lost_threads == 1


def test_a_reader_that_does_not_count_tells_its_concurrency():
    """Of a plain reader only how many reads it allows is known; of memory nothing is read."""
    loader = make("raise", reader=Ready(5))
    list(loader)
    assert (loader.stats().concurrency, loader.stats().retries) == (5, 0)
    memory = ab.Loader(ab.sources.arrays(np.arange(4)), batch_size=2)
    list(memory)
    assert memory.stats().concurrency == 0


# -- the decode threads ------------------------------------------------------------------------------------------------


class NoMoreThreads:
    """`threading.Thread.start`, for which the system allows only so many threads of a name."""

    def __init__(self, monkeypatch, name, allowed):
        self.refused = 0
        start = threading.Thread.start

        def start_or_not(thread):
            if thread.name.startswith(name) and sum(t.name.startswith(name) for t in threading.enumerate()) >= allowed:
                self.refused += 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_not)


@pytest.mark.parametrize("allowed", [1, 2, 3])
@pytest.mark.parametrize("source", [Numbers(SIZE), ab.sources.arrays(np.arange(SIZE)[:, None])])
def test_fewer_decode_threads_than_wanted_do_the_work(allowed, source, monkeypatch, footprint):
    """Where the system allows fewer threads than `decode_threads`, those that start decode everything."""
    few = NoMoreThreads(monkeypatch, "asyncbatch-decode", allowed)
    reader = Ready() if isinstance(source, Numbers) else None
    batches, error = drain(make("raise", source=source, reader=reader, decode_threads=6))
    assert (len(batches), error) == (10, None)
    assert few.refused == 1
    footprint.assert_same()


def test_no_decode_thread_at_all_is_an_error(monkeypatch, footprint):
    """Without a single decode thread the loop raises what the system said, and nothing is left."""
    NoMoreThreads(monkeypatch, "asyncbatch-decode", 0)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(iter(make("raise")))
    footprint.assert_same()


def test_places_are_held_for_the_threads_that_start_later(monkeypatch):
    """Decode threads leave room for the one that plans and one that reads: with four allowed, two decode."""
    few = NoMoreThreads(monkeypatch, "asyncbatch-", 5)  # the engine's is the fifth
    names = set()

    def decode(data):
        names.add(threading.current_thread().name)
        return number(data)

    batches, error = drain(make("raise", decode_threads=6, decoder=decode))
    assert (len(batches), error) == (10, None)
    assert few.refused >= 1
    assert names <= {"asyncbatch-decode_0", "asyncbatch-decode_1"}
