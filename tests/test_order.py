"""Promise 2: which samples form a batch never depends on timing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import Gated, Numbers, Permuted, Ready, number, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncbatch as ab
from asyncbatch._leaving import Leaving

EPOCHS = 3


def make(size, batch_size, *, reader, **settings):
    return ab.Loader(Numbers(size), batch_size=batch_size, decoder=number, reader=reader, shuffle=True, **settings)


def contents(batches):
    return [
        (b.epoch, b.step, b.images.ravel().tolist(), b.labels.tolist(), b.indices.tolist(), b.keys) for b in batches
    ]


async def collect(iterator):
    return [batch async for batch in iterator]


def by_hand(size, batch_size, seed, drop_last):
    """Return what the documentation says the batches are, without any of the machinery."""
    expected = []
    for epoch in range(EPOCHS):
        order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(size)
        for step, start in enumerate(range(0, size, batch_size)):
            chosen = order[start : start + batch_size].tolist()
            if len(chosen) == batch_size or not drop_last:
                expected.append((epoch, step, chosen, chosen, chosen, tuple(f"number-{i}" for i in chosen)))
    return expected


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 150),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    completions=st.integers(0, 2**32),
    prefetch=st.integers(1, 5),
    drop_last=st.booleans(),
    concurrency=st.sampled_from([1, 8, 64]),
)
def test_batches_are_those_of_the_plan_in_any_order_of_completion(
    size, batch_size, seed, completions, prefetch, drop_last, concurrency
):
    """`for` and `async for` give the batches of the plan over three shuffled epochs, however reads overtake."""
    drop_last = drop_last and size >= batch_size
    total = EPOCHS * (size - size % batch_size if drop_last else size)

    def loader():
        return make(
            size, batch_size, seed=seed, prefetch=prefetch, drop_last=drop_last,
            reader=Permuted(concurrency, total, completions),
        )  # fmt: skip

    expected = by_hand(size, batch_size, seed, drop_last)
    assert contents(loader().epochs(EPOCHS)) == expected
    assert contents(asyncio.run(collect(loader().epochs(EPOCHS)))) == expected


@pytest.mark.parametrize("concurrency", [1, 8, 64])
def test_each_iteration_is_the_next_epoch(concurrency):
    """Iterating again is the next epoch, the same whether by `iter` or by `epochs`."""
    loader = make(100, 7, seed=3, reader=Ready(concurrency))
    assert contents([*loader, *loader, *loader]) == by_hand(100, 7, 3, drop_last=False)
    assert [batch.epoch for batch in loader.epochs(2)] == [3] * 15 + [4] * 15


def test_permuted_reader_does_permute():
    """Positive control: the fake's reads do finish out of order, and in order at a concurrency of 1."""
    reader, one_by_one = Permuted(8, 100, 1), Permuted(1, 100, 1)
    planned = [index for batch in make(100, 10, reader=reader) for index in batch.indices]
    list(make(100, 10, reader=one_by_one))
    assert sorted(reader.finished) == sorted(planned)
    assert reader.finished != planned
    assert one_by_one.finished == planned


def test_out_of_order_changes_only_the_order():
    """`in_order=False` hands out a batch while an earlier one is held up; their contents stay those of the plan."""
    reader = Gated(held=[0])
    loader = ab.Loader(Numbers(64), batch_size=8, decoder=number, reader=reader, in_order=False)
    batches = iter(loader)
    first = [next(batches) for _ in range(7)]  # every batch but the one that waits for sample 0
    reader.release()
    rest = list(batches)
    assert sorted(batch.step for batch in first) == list(range(1, 8))
    assert [batch.step for batch in rest] == [0]
    ordered = ab.Loader(Numbers(64), batch_size=8, decoder=number, reader=Ready())
    assert sorted(contents(first + rest)) == contents(ordered)


async def test_the_end_comes_once_when_all_is_quiet():
    """After the last batch it waits for what threads have left to tell, and is told once."""
    quiet, drained = [], []
    leaving = Leaving(True, lambda: bool(quiet), lambda: drained.append(True))
    batch = SimpleNamespace(planned=SimpleNamespace(place=0))
    leaving.expect()
    leaving.complete(batch)
    leaving.expect_no_more()
    leaving.look()
    assert await leaving.next() is batch
    assert drained == []
    quiet.append(True)
    for _ in range(2):
        leaving.look()
    assert await leaving.next() is None
    assert drained == [True]
    assert leaving._queue.empty()


def test_set_epoch_chooses_the_epoch():
    """`set_epoch` makes an epoch repeatable, and counting goes on from it."""
    loader = make(50, 8, reader=Ready())
    epochs = [contents(loader) for _ in range(3)]
    loader.set_epoch(1)
    assert contents(loader) == epochs[1]
    assert contents(loader) == epochs[2]


def test_set_epoch_within_an_epoch_holds():
    """`set_epoch` during an iteration is about the next one."""
    loader = make(50, 8, reader=Ready())
    for batch in loader:
        if batch.step == 2:
            loader.set_epoch(7)
    assert {batch.epoch for batch in loader} == {7}


def test_set_epoch_holds_whatever_is_delivered_meanwhile():
    """`set_epoch` holds when it comes before an iterator's first batch, and in the midst of `epochs`."""
    loader = make(20, 10, reader=Ready())
    batches = iter(loader)
    loader.set_epoch(7)
    assert next(batches).epoch == 0
    assert next(iter(loader)).epoch == 7
    for batch in loader.epochs(2):
        if batch.epoch == 8:
            loader.set_epoch(3)
    assert next(iter(loader)).epoch == 3


def test_out_of_order_epochs_count_on():
    """Batches of an earlier epoch that come late do not set the count of epochs back."""
    reader = Gated(held=[0])
    loader = ab.Loader(Numbers(20), batch_size=10, decoder=number, reader=reader, in_order=False, prefetch=4)
    batches = loader.epochs(2)
    epochs = [next(batches).epoch for _ in range(2)]
    reader.release()
    epochs += [batch.epoch for batch in batches]
    assert sorted(epochs) == [0, 0, 1, 1]
    assert next(iter(loader)).epoch == 2


def test_after_a_break_the_next_epoch_follows():
    """After `break`, also out of `epochs()`, iteration goes on with the epoch after the last one seen."""
    loader = make(50, 8, reader=Ready())
    for _batch in loader:
        break
    for batch in loader.epochs():
        if batch.epoch == 3:
            break
    assert next(iter(loader)).epoch == 4


@pytest.mark.parametrize(("size", "drop_last", "steps"), [(64, False, 8), (65, False, 9), (65, True, 8), (3, False, 1)])
def test_len_is_batches_an_epoch(size, drop_last, steps):
    """`len(loader)` is the number of batches that an epoch delivers, and the last is short unless dropped."""
    loader = make(size, 8, reader=Ready(), drop_last=drop_last)
    batches = list(loader)
    assert len(loader) == len(batches) == steps
    assert sum(len(batch.images) for batch in batches) == (steps * 8 if drop_last else size)


@pytest.mark.parametrize("in_order", [True, False])
def test_epochs_prefetch_over_the_boundary(in_order):
    """`epochs` reads the next epoch's samples before this one's last batch is taken."""
    reader = Ready()
    batches = make(20, 10, reader=reader, in_order=in_order, prefetch=4).epochs(3)
    next(batches)
    wait_until(lambda: reader.reads == 60)
    assert len(list(batches)) == 5
