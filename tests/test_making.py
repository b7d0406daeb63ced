"""Batches by their numbers: what a process does that makes them for a loader elsewhere."""

from __future__ import annotations

import asyncio
import pickle
import threading

import numpy as np
import pytest
from fakes import Failing, Numbers, Ready, number

import asyncbatch as ab
from asyncbatch.making import MadeBatch, Times

SIZE, BATCH = 50, 7


def loader(**settings):
    settings.setdefault("reader", Ready(8))
    return ab.Loader(Numbers(SIZE), batch_size=BATCH, decoder=number, shuffle=True, seed=3, **settings)


async def made_by(one, numbers):
    maker = one.maker()
    try:
        return await asyncio.gather(*map(maker.make, numbers))
    finally:
        maker.close()


def told(made):
    return made.epoch, made.step, np.asarray(made.rows).ravel().tolist(), made.indices.tolist(), list(made.keys)


def test_batches_in_any_order_are_those_of_the_plan():
    """Numbers run through all epochs, and may be asked for in any order and again."""
    with loader() as one:
        expected = [
            (batch.epoch, batch.step, batch.images.ravel().tolist(), batch.indices.tolist(), list(batch.keys))
            for batch in one.epochs(3)
        ]
        numbers = np.random.default_rng(0).permutation(len(expected)).tolist()
        made = asyncio.run(made_by(one, numbers))
        assert [one.number for one in made] == numbers
        assert [told(batch) for batch in made] == [expected[place] for place in numbers]
        assert [told(batch) for batch in asyncio.run(made_by(one, [5, 2]))] == [expected[5], expected[2]]


def test_what_fails_is_told_by_its_batch_and_the_others_are_made():
    """Whoever delivers decides whether it is too much: here nothing is raised, and batches after it are made."""
    bad = {4, 30}
    for on_error, rows in (("raise", 0), (ab.Skip(0), BATCH - 1), (ab.Replace(2), BATCH)):
        with loader(reader=Failing(bad), on_error=on_error) as one:
            made = asyncio.run(made_by(one, range(8)))
        failing = [batch for batch in made if bad & {*batch.indices.tolist()} or batch.failures or batch.error]
        assert len(made) == 8
        assert len(failing) == 2
        for batch in failing:
            if on_error == "raise":
                assert isinstance(batch.error, ab.ReadError)
                assert not len(batch.rows)
            else:
                assert batch.error is None
                assert len(batch.failures) == 1
                assert len(batch.rows) == rows


def test_a_source_that_fails_for_one_batch_is_asked_for_the_others():
    """A batch that another worker lost may be asked for after one that fails."""

    class Moody(Numbers):
        def __getitem__(self, index):
            if index == 10:
                raise OSError("no longer")
            return super().__getitem__(index)

    with ab.Loader(Moody(40), batch_size=10, decoder=number, reader=Ready(4)) as one:
        made = asyncio.run(made_by(one, range(4)))
    assert [type(batch.error) for batch in made] == [type(None), ab.SourceError, type(None), type(None)]


def test_a_closed_maker_ends_what_is_under_way_and_its_threads():
    """Whoever waits hears of it; a thread that waits for numbers ends."""

    async def run():
        with loader(reader=Stuck()) as one:
            maker = one.maker()
            tasks = [asyncio.create_task(maker.make(place)) for place in range(3)]
            await asyncio.sleep(0)
            maker.close()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            with pytest.raises(ab.LoaderClosed):
                await maker.make(3)
            return results

    before = threading.active_count()
    results = asyncio.run(run())
    assert [type(result) for result in results] == [ab.LoaderClosed] * 3
    for thread in threading.enumerate():
        if thread.name.startswith("asyncbatch"):
            thread.join(5)
    assert threading.active_count() <= before


class Stuck:
    """A reader that never answers."""

    concurrency = 4

    async def read(self, sample):
        await asyncio.Event().wait()


def test_what_breaks_it_is_raised_for_all():
    """A hook's error is no batch's: everybody who waits hears it."""

    class Broken:
        def record(self, span):
            raise RuntimeError("no hook")

    async def run():
        with loader(hooks=[Broken()]) as one:
            maker = one.maker()
            results = await asyncio.gather(*map(maker.make, range(3)), return_exceptions=True)
            maker.close()
            return results

    assert {str(result) for result in asyncio.run(run())} == {"no hook"}


def test_checking_reads_a_few_samples():
    """One that is missing is its batch's matter; all of them are not reachable here."""

    async def check(one):
        maker = one.maker()
        try:
            await maker.check()
        finally:
            maker.close()

    with loader(reader=Failing({0})) as one:
        asyncio.run(check(one))
    with (
        loader(reader=Failing(set(range(SIZE)))) as one,
        pytest.raises(ab.SourceError, match=r"number-0.*nor 3 others"),
    ):
        asyncio.run(check(one))
    with ab.Loader(ab.sources.arrays(np.zeros((4, 2))), batch_size=2) as one:
        asyncio.run(check(one))


class Peculiar(Exception):
    """Pickles, and does not come back."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("cause", "kind"), [(OSError(5, "Input/output error"), OSError), (Peculiar(1, 2), RuntimeError)]
)
def test_a_batch_travels_with_the_causes_of_its_errors(cause, kind):
    """The traceback of another process is there in words, and an exception that cannot travel is told in words."""
    error = ab.ReadError("a.png", 3, "Input/output error", errno=5, attempts=2)
    try:
        raise cause
    except type(cause) as raised:
        error.__cause__ = raised
    made = MadeBatch(
        number=9, epoch=1, step=2, rows=np.arange(6).reshape(3, 2), indices=np.arange(3), keys=["a", "b", "c"],
        failures=[error], times=Times(1.0, 2.0, 0.5),
    )  # fmt: skip
    copy = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert told(copy) == told(made)
    assert (copy.number, copy.times) == (9, made.times)
    (travelled,) = copy.failures
    assert (str(travelled), travelled.errno) == (str(error), 5)
    assert type(travelled.__cause__) is kind
    assert str(cause) in str(travelled.__cause__)
    assert "test_a_batch_travels" in travelled.__cause__.__notes__[0]


def test_times_are_moved_to_another_clock():
    """All but the time of a read that did not take place."""
    made = MadeBatch(number=0, epoch=0, step=0, indices=np.arange(0), times=Times(0.0, 5.0, 0.5))
    assert made.later(2.0).times == Times(0.0, 7.0, 0.5)
    assert made.is_void
