"""Promise 3: a run that is resumed is the run that was not interrupted, bit for bit, wherever and whatever ended it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import Failing, Gated, Numbers, Ready, number

import asyncbatch as ab

STEPS = 40  # of a run: two epochs of 20
SIZE, BATCH = 78, 4  # the last batch of each epoch is shorter


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    dice = np.random.default_rng(0)
    for index in range(SIZE):
        label = folder / f"class_{index % 3}"
        label.mkdir(exist_ok=True)
        cv2.imwrite(str(label / f"{index:03}.png"), dice.integers(0, 255, (24, 30, 3), np.uint8))
    return folder


def make(pictures, concurrency=8, **settings):
    decoder = ab.ImageDecoder(16, transform=[ab.RandomResizedCrop(16), ab.RandomHorizontalFlip()])
    defaults = {"batch_size": BATCH, "shuffle": True, "seed": 3, "reader": ab.FileReader(concurrency=concurrency)}
    return ab.Loader(pictures, decoder=decoder, **(defaults | settings))


def digest(batch):
    """Return all that a batch is, images and augmentations included."""
    content = hashlib.sha256(batch.images.tobytes() + batch.labels.tobytes() + batch.indices.tobytes())
    return batch.epoch, batch.step, content.hexdigest()


def through_json(state):
    text = json.dumps(state)
    assert len(text) < 4096
    return json.loads(text)


async def collect(iterator, most=None):
    found = []
    async for batch in iterator:
        found.append(batch)
        if len(found) == most:
            await iterator.aclose()
            break
    return found


@pytest.fixture(scope="module")
def uninterrupted(pictures):
    with make(pictures) as loader:
        batches = [digest(batch) for batch in loader.epochs(2)]
    assert len(batches) == STEPS
    assert len({content for *_, content in batches}) == STEPS
    return batches


@pytest.mark.parametrize("concurrency", [1, 4, 64])
def test_resumed_at_every_step(pictures, uninterrupted, concurrency):
    """A state taken after each of 40 steps, in a loop, continues with the very batches that were left."""
    states = []
    with make(pictures, concurrency) as loader:
        for batch in loader.epochs(2):
            assert digest(batch) == uninterrupted[len(states)]
            states.append(through_json(loader.state_dict()))
    for step, state in enumerate(states, start=1):
        with make(pictures, concurrency) as loader:
            loader.load_state_dict(state)
            assert loader.state_dict() == state
            rest = loader.epochs(2 - step // 20) if step < STEPS else []
            assert [digest(batch) for batch in rest] == uninterrupted[step:]


@pytest.mark.parametrize("concurrency", [1, 4, 64])
async def test_resumed_at_every_step_by_async_for(pictures, uninterrupted, concurrency):
    """The same by `async for`, the iterator left in the middle each time."""
    for step in range(1, STEPS + 1):
        async with await asyncio.to_thread(make, pictures, concurrency) as loader:
            before = await collect(loader.epochs(2), most=step)
            state = through_json(loader.state_dict())
        async with await asyncio.to_thread(make, pictures, concurrency) as loader:
            loader.load_state_dict(state)
            after = await collect(loader.epochs(None), most=STEPS - step) if step < STEPS else []
        assert [digest(batch) for batch in before + after] == uninterrupted


def test_epochs_one_by_one_are_resumed_too(pictures, uninterrupted):
    """With `iter` for each epoch: the rest of the epoch that was broken off is the next iteration."""
    with make(pictures) as loader:
        for batch in loader:
            if batch.step == 6:
                break
        state = through_json(loader.state_dict())
    with make(pictures) as loader:
        loader.load_state_dict(state)
        assert [digest(batch) for batch in [*loader, *loader]] == uninterrupted[7:]


SCRIPT = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[3])
from test_resume import digest, make
with make(sys.argv[1]) as loader:
    state = sys.argv[2]
    if os.path.exists(state):
        loader.load_state_dict(json.load(open(state)))
    epochs = 2 - loader.state_dict()["epoch"]
    for batch in loader.epochs(epochs) if epochs else ():
        with open(state + ".new", "w") as file:
            json.dump({**loader.state_dict()}, file)
        with open(state + ".seen", "a") as file:
            file.write(json.dumps(digest(batch)) + "\\n")
        os.replace(state + ".new", state)
"""


@pytest.mark.timeout(120)
def test_resumed_after_kill_9(pictures, uninterrupted, tmp_path):
    """A real process that is killed again and again leaves a run that is the uninterrupted one."""
    state = tmp_path / "state.json"
    command = [sys.executable, "-c", SCRIPT, str(pictures), str(state), json.dumps([str(Path(__file__).parent)])]
    kills = 0
    for run in range(30):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wanted = state_size(state) + 9
        while process.poll() is None and not (run < 3 and state_size(state) >= wanted):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
        kills += 1
    assert kills >= 2
    seen = dict.fromkeys(tuple(json.loads(line)) for line in (tmp_path / "state.json.seen").read_text().splitlines())
    assert list(seen) == uninterrupted  # one may be there twice: killed between the batch's line and its state


def state_size(state):
    """Return how many batches a run has noted."""
    seen = state.with_suffix(".json.seen")
    return seen.read_text().count("\n") if seen.exists() else 0


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (1, 4), (4, 1)])
def test_resumed_on_another_number_of_ranks(pictures, before, after):
    """A state of one of 4 ranks resumes on 2, and so on: step for step the ranks together have the same samples."""

    def run(world, steps, state=None):
        got = []
        for rank in range(world):
            with make(pictures, batch_size=8 // world, shard=(rank, world), drop_last=True) as loader:
                if state is not None:
                    loader.load_state_dict(state)
                batches = []
                for batch in loader.epochs():
                    batches.append(batch)
                    if len(batches) == steps:
                        break
                last = through_json(loader.state_dict())
                got.append(batches)
        joined = [
            (of_step[0].epoch, of_step[0].step, np.concatenate([batch.images for batch in of_step]).tobytes())
            for of_step in zip(*got, strict=True)
        ]
        return joined, last

    whole, _ = run(1, 17)
    first, state = run(before, 7)
    rest, _ = run(after, 10, state)
    assert first + rest == whole


def delivered_early(held, count, **settings):
    """Return the steps of the batches that come before the one that sample `held` holds up, and a state after them."""
    reader = Gated(held=[held])
    with ab.Loader(Numbers(64), batch_size=8, decoder=number, reader=reader, in_order=False, **settings) as loader:
        batches = iter(loader)
        early = [next(batches).step for _ in range(count)]
        state = through_json(loader.state_dict())
        reader.release()
    assert state["ahead"]
    return early, state


def test_out_of_order_states_hold_what_was_delivered():
    """With `in_order=False` a state names the batches that came early: no batch is lost, and none comes twice."""
    early, state = delivered_early(0, 5)
    assert 0 not in early
    assert (state["epoch"], state["step"]) == (0, 0)
    assert sum(stop - start for start, stop in state["ahead"]) == 5
    with ab.Loader(Numbers(64), batch_size=8, decoder=number, reader=Ready(), in_order=False) as loader:
        loader.load_state_dict(state)
        late = [batch.step for batch in loader]
        assert sorted(early + late) == list(range(8))
        assert loader.state_dict()["ahead"] == []
        assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (1, 0)


def test_nothing_that_was_seen_is_read():
    """Resuming far into an epoch reads what is left and nothing else."""
    with ab.Loader(Numbers(10_000), batch_size=10, decoder=number, reader=Ready(), shuffle=True) as loader:
        for batch in loader:
            if batch.step == 900:
                break
        state = loader.state_dict()
    reader = Failing()
    asked = []
    whole_read = reader.read

    async def read(sample):
        asked.append(sample.label)
        return await whole_read(sample)

    reader.read = read
    with ab.Loader(Numbers(10_000), batch_size=10, decoder=number, reader=reader, shuffle=True) as loader:
        loader.load_state_dict(state)
        left = [index for batch in loader for index in batch.indices.tolist()]
    assert len(left) == 990
    assert sorted(asked) == sorted(left)


def test_skipped_samples_are_on_record():
    """A state names the samples that an epoch skipped, and a resumed epoch allows no more than one that was not."""
    bad = [3, 50, 90]

    def loader(limit):
        return ab.Loader(Numbers(100), batch_size=10, decoder=number, reader=Failing(bad), on_error=ab.Skip(limit))

    with loader(3) as first:
        for batch in first:
            if batch.step == 6:
                break
        state = through_json(first.state_dict())
    assert (state["failed"], state["skipped"]) == (2, [3, 50])
    with loader(3) as second:
        second.load_state_dict(state)
        assert sum(len(batch.errors) for batch in second) == 1
        assert second.state_dict()["failed"] == 0  # of the next epoch
    with loader(2) as third:
        third.load_state_dict(state)
        with pytest.raises(ab.ErrorLimitExceeded, match="3 failed samples in epoch 0"):
            list(third)


def test_a_thousand_skipped_samples_fit():
    """However many samples were skipped, a state stays small: it counts all of them and names the first."""
    with ab.Loader(
        Numbers(4000), batch_size=10, decoder=number, reader=Failing(range(0, 4000, 4)), on_error=ab.Skip(1000)
    ) as loader:
        for batch in loader:
            if batch.step == 398:
                break
        state = through_json(loader.state_dict())
    assert state["failed"] > 900
    assert state["skipped"] == list(range(0, 256, 4))


def test_a_batch_that_was_skipped_whole_is_done_with():
    """A batch of which nothing was left is not made again."""
    reader = Failing(range(10, 20))
    with ab.Loader(Numbers(50), batch_size=10, decoder=number, reader=reader, on_error=ab.Skip(10)) as loader:
        batches = iter(loader)
        assert [next(batches).step for _ in range(2)] == [0, 2]
        assert loader.state_dict()["step"] == 3


def test_states_before_between_and_after():
    """Before the first batch, after the last of an epoch, after `set_epoch`: where the next batch will be from."""
    with ab.Loader(Numbers(20), batch_size=10, decoder=number, reader=Ready()) as loader:

        def place():
            state = loader.state_dict()
            return state["epoch"], state["step"]

        assert place() == (0, 0)
        batches = iter(loader)
        assert place() == (0, 0)
        next(batches)
        assert place() == (0, 1)
        list(batches)
        assert place() == (1, 0)
        loader.set_epoch(5)
        assert place() == (5, 0)
        assert {batch.epoch for batch in loader} == {5}
        assert place() == (6, 0)


def test_loading_ends_the_iterator_that_is_alive():
    """Whoever still iterates is told why there are no more batches."""
    with ab.Loader(Numbers(100), batch_size=10, decoder=number, reader=Ready()) as loader:
        batches = iter(loader)
        next(batches)
        loader.load_state_dict(loader.state_dict())
        with pytest.raises(ab.LoaderClosed, match="a state was loaded"):
            next(batches)
        assert [batch.step for batch in loader] == list(range(1, 10))


def test_a_state_out_of_order_resumes_in_order():
    """A loader in order goes on from a state of one that was not, and its own states are whole."""
    early, state = delivered_early(24, 6)
    assert 3 not in early
    late = []
    with ab.Loader(Numbers(64), batch_size=8, decoder=number, reader=Ready()) as loader:
        loader.load_state_dict(state)
        for batch in loader:
            following = through_json(loader.state_dict())
            assert all(0 < start < stop for start, stop in following["ahead"])
            late.append(batch.step)
    assert sorted(early + late) == list(range(8))


@pytest.mark.parametrize("in_order", [True, False])
def test_batches_skipped_whole_are_done_with_out_of_order_too(in_order):
    """Where every second batch is skipped whole, states stay small, and the end of an epoch is its end."""
    bad = range(1, 400, 2)
    with ab.Loader(
        Numbers(400), batch_size=1, decoder=number, reader=Failing(bad), on_error=ab.Skip(200), in_order=in_order
    ) as loader:
        assert len([through_json(loader.state_dict()) for _ in loader.epochs(2)]) == 400
        last = loader.state_dict()
        assert (last["epoch"], last["step"], last["ahead"], last["failed"]) == (2, 0, [], 0)


def test_what_came_early_of_the_next_epoch_is_not_made_again():
    """Resumed by a `for` for each epoch, batches of the next epoch that were delivered before are left out."""
    reader = Gated(held=[0])
    with ab.Loader(Numbers(16), batch_size=4, decoder=number, reader=reader, in_order=False, prefetch=8) as loader:
        batches = loader.epochs(2)
        early = [next(batches) for _ in range(5)]
        state = through_json(loader.state_dict())
        reader.release()
    assert {batch.epoch for batch in early} == {0, 1}
    with ab.Loader(Numbers(16), batch_size=4, decoder=number, reader=Ready(), in_order=False) as loader:
        loader.load_state_dict(state)
        late = [*loader, *loader]
    places = sorted((batch.epoch, batch.step) for batch in early + late)
    assert places == [(epoch, step) for epoch in range(2) for step in range(4)]


def test_a_rank_does_not_resume_from_what_came_early_to_another():
    """Which batches came out of order is a rank's own affair, and a state that tells of some is refused by others."""
    _, state = delivered_early(0, 1, shard=(0, 2))
    other = ab.Loader(Numbers(64), batch_size=8, decoder=number, reader=Ready(), shard=(1, 2))
    with other, pytest.raises(ab.StateMismatch, match="Resume each rank from its own state"):
        other.load_state_dict(state)


# -- states that do not fit --------------------------------------------------------------------------------------------


def numbers(size=100, **settings):
    defaults = {"batch_size": 10, "decoder": number, "reader": Ready(), "shuffle": True}
    return ab.Loader(Numbers(size), **(defaults | settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 101}, "the number of samples an epoch was 100 and is 101"),
        ({"seed": 1}, "the seed was 0 and is 1"),
        ({"batch_size": 20}, "the global batch, batch_size times the number of ranks, was 10 and is 20"),
        ({"shard": (0, 2)}, "the global batch.* was 10 and is 20"),
        ({"shuffle": False}, r"the sampler was 'Shuffle\(\)' and is 'Sequential\(\)'"),
        ({"drop_last": True}, "drop_last was False and is True"),
    ],
)
def test_another_order_is_refused(settings, words):
    """What differs is named, with what it was and is, and what to do."""
    with numbers() as loader:
        next(iter(loader))
        state = loader.state_dict()
    with numbers(**settings) as other, pytest.raises(ab.StateMismatch, match=f"{words}.*set_epoch"):
        other.load_state_dict(state)


HOSTILE = [
    ("epoch", [-1, 1.5, "1", None, True, 2**60, [0]]),
    ("step", [-1, 10, "0", None, 2**70]),
    ("failed", [-1, "0", 2**60]),
    ("skipped", [None, [-1], ["0"], "000", [0] * 1001, {"0": 1}]),
    ("ahead", [None, [[1]], [[2, 1]], [[0, 1]], [[1, 2], [2, 3]], [[1, 10**9]], [[-2, -1]], [["1", "2"]],
               [[5, 6], [2, 3]],
               [[n, n + 1] for n in range(1, 4003, 2)]]),
    ("asyncbatch", [0, 2, "1", None, True, np.ones(2)]),
    ("drop_last", [0, None]),
    ("samples", [np.ones(2), 100.0]),
    ("source", [None, 3, "x" * 10**6]),
    ("seed", ["0", None, 1.0e300]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HOSTILE for value in values])
def test_a_hostile_state_is_refused(name, value):
    """Wrong types, negative and huge numbers and texts are refused in a few words, and change nothing."""
    with numbers() as loader:
        state = {**loader.state_dict(), name: value}
        with pytest.raises(ab.StateMismatch) as caught:
            loader.load_state_dict(state)
        assert len(str(caught.value)) < 600
        assert loader.state_dict()["step"] == 0
        assert len(list(loader)) == 10


def test_an_outer_loop_as_the_readme_has_it():
    """From the state's epoch on: the rest of the epoch that was broken off, then whole ones, up to the last."""
    with numbers() as loader:
        whole = [batch.keys for _ in range(4) for batch in loader]
    with numbers() as loader:
        seen = [batch.keys for _ in range(2) for batch in loader]
        for batch in loader:
            seen.append(batch.keys)
            checkpoint = {"loader": loader.state_dict()}
            if batch.step == 3:
                break
    with numbers() as loader:
        loader.load_state_dict(checkpoint["loader"])
        assert checkpoint["loader"]["epoch"] == 2
        for _ in range(checkpoint["loader"]["epoch"], 4):
            seen += [batch.keys for batch in loader]
    assert seen == whole


@pytest.mark.parametrize(
    ("state", "words"), [({}, "it holds nothing"), ({"model": 1, "loader": 2}, "it holds 'model', 'loader'")]
)
def test_another_dict_is_no_state(state, words):
    """A whole checkpoint, or nothing, is told from a state of another version."""
    with (
        numbers() as loader,
        pytest.raises(ab.StateMismatch, match=f"this is no state of a loader: {words}; give what"),
    ):
        loader.load_state_dict(state)


def test_another_source_is_told_with_its_size():
    """Where the source differs, the message has the number of samples before and now, the same or not."""
    with numbers() as loader:
        state = loader.state_dict()
    source = Numbers(100, fingerprint="others")
    with (
        ab.Loader(source, batch_size=10, decoder=number, reader=Ready(), shuffle=True) as other,
        pytest.raises(ab.StateMismatch, match=r"was 'numbers' and is 'others', both of 100 samples an epoch"),
    ):
        other.load_state_dict(state)


@pytest.mark.parametrize("state", [None, [], "{}", {}, {"asyncbatch": 1}, 7])
def test_what_is_no_state_is_refused(state):
    """As is what never was one."""
    with numbers() as loader, pytest.raises(ab.StateMismatch):
        loader.load_state_dict(state)


def test_a_version_to_come_is_refused_in_words():
    """A state of another version says so, not that its form is wrong."""
    with (
        numbers() as loader,
        pytest.raises(ab.StateMismatch, match=r"of version 9, and this asyncbatch reads version 1"),
    ):
        loader.load_state_dict({"asyncbatch": 9})


def test_a_state_goes_through_torch_save(torch):
    """As checkpoints keep it, with `weights_only`, which loads no code."""
    with numbers() as loader:
        batches = iter(loader)
        next(batches), next(batches)
        file = io.BytesIO()
        torch.save({"loader": loader.state_dict()}, file)
    file.seek(0)
    with numbers() as loader:
        loader.load_state_dict(torch.load(file, weights_only=True)["loader"])
        assert [batch.step for batch in loader] == list(range(2, 10))


def test_resuming_costs_nothing_that_grows():
    """Ten million samples in, a state is loaded and the next batch is there without a replay."""
    with numbers(10**7, seed=1) as loader:
        state = {**loader.state_dict(), "epoch": 3, "step": 999_990}
        loader.load_state_dict(state)
        start = time.monotonic()
        assert [batch.step for batch in loader] == list(range(999_990, 10**6))
        assert time.monotonic() - start < 5.0  # to replay them would take minutes


def test_asyncio_and_threads_count_alike(pictures, uninterrupted):
    """A state taken under `async for` continues under `for`."""

    async def first():
        async with await asyncio.to_thread(make, pictures) as loader:
            await collect(loader.epochs(2), most=13)
            return loader.state_dict()

    state = asyncio.run(first())
    with make(pictures) as loader:
        loader.load_state_dict(state)
        assert [digest(batch) for batch in loader.epochs(2)] == uninterrupted[13:]
