"""Batches of ranks: together the plan, nothing twice, nothing missing, the same on any number of ranks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
from fakes import Numbers, Permuted, Ready, number
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncbatch as ab
from asyncbatch import _shard
from asyncbatch._shard import as_shard
from asyncbatch.sampling import Plan, Shuffle


def plans(size, global_batch, world, *, seed=0, drop_last=False):
    order = Shuffle().order(Numbers(size), seed)
    return [Plan(order, global_batch // world, drop_last, rank, world) for rank in range(world)]


def together(plans, epoch, step):
    return np.concatenate([plan.indices(epoch, step) for plan in plans])


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 400), batch_size=st.integers(1, 40), world=st.integers(1, 9), seed=st.integers(0, 99),
    epoch=st.integers(0, 3), drop_last=st.booleans(),
)  # fmt: skip
def test_ranks_share_out_the_order(size, batch_size, world, seed, epoch, drop_last):
    """The ranks' batches of each step follow one another in the order; only the last may be filled up, by the first."""
    drop_last = drop_last and size >= batch_size * world
    ranks = plans(size, batch_size * world, world, seed=seed, drop_last=drop_last)
    assert len({plan.steps for plan in ranks}) == 1
    order = Shuffle().order(Numbers(size), seed).indices(epoch, 0, size).tolist()
    steps = [together(ranks, epoch, step).tolist() for step in range(ranks[0].steps)]
    lengths = {tuple(len(plan.indices(epoch, step)) for plan in ranks) for step in range(ranks[0].steps)}
    assert all(len(set(of_step)) == 1 for of_step in lengths)
    seen = [index for indices in steps for index in indices]
    if drop_last:
        assert seen == order[: size - size % (batch_size * world)]
    else:
        extra = len(seen) - size
        assert 0 <= extra < world
        assert seen == (order * (1 + world))[: len(seen)]
    assert sum(len(ranks[0].indices(epoch, step)) for step in range(ranks[0].steps)) == ranks[0].samples


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_the_global_order_is_that_of_any_number_of_ranks(world):
    """With the global batch kept, each step has the same samples in the same order on 1, 2, 4 or 8 ranks."""
    alone, ranks = plans(1000, 64, 1, drop_last=True), plans(1000, 64, world, drop_last=True)
    for epoch in range(2):
        for step in range(ranks[0].steps):
            assert together(ranks, epoch, step).tolist() == together(alone, epoch, step).tolist()


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 120), batch_size=st.integers(1, 9), world=st.integers(1, 4), seed=st.integers(0, 2**32),
    epoch=st.integers(0, 3), concurrency=st.sampled_from([1, 8, 64]), completions=st.integers(0, 2**32),
)  # fmt: skip
def test_loaders_of_all_ranks_deliver_the_plan(size, batch_size, world, seed, epoch, concurrency, completions):
    """The union over the ranks is the plan, nothing twice and nothing missing, however reads overtake."""
    expected = plans(size, batch_size * world, world, seed=seed)
    for rank, plan in enumerate(expected):
        reader = Permuted(concurrency, plan.samples, completions)
        loader = ab.Loader(
            Numbers(size), batch_size=batch_size, decoder=number, reader=reader, shuffle=True, seed=seed,
            shard=(rank, world),
        )  # fmt: skip
        loader.set_epoch(epoch)
        assert len(loader) == plan.steps
        got = [(batch.step, batch.indices.tolist(), batch.images[:, 0].tolist()) for batch in loader]
        wanted = [plan.indices(epoch, step).tolist() for step in range(plan.steps)]
        assert got == [(step, indices, indices) for step, indices in enumerate(wanted)]


def test_too_few_samples_for_a_global_batch():
    """`drop_last` that leaves nothing says of how many ranks; without it every rank has a batch, of samples again."""
    with pytest.raises(
        ab.ConfigError, match=r"batch_size is 8 on each of 4 ranks; write drop_last=False, or batch_size=2"
    ):
        plans(10, 32, 4, drop_last=True)
    assert [plan.indices(0, 0).tolist() for plan in plans(2, 32, 4)] == [
        [a] for a in plans(2, 2, 1)[0].indices(0, 0)
    ] * 2


# -- which rank this is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", [(0, 1), (3, 4), [1, 2]])
def test_a_pair_is_taken(shard):
    """(rank, world) as it is."""
    assert as_shard(shard) == tuple(shard)


@pytest.mark.parametrize("shard", [(4, 4), (-1, 4), (0, 0), (0,), (0, 1, 2), "all", 3, (True, 2), (0.0, 2)])
def test_what_is_no_shard_is_refused(shard):
    """Anything else is refused, with the line to write."""
    words = r'shard must be \(rank, world\).*write shard=\(rank, world\) or shard="auto"'  # no pair to paste is right
    with pytest.raises(ab.ConfigError, match=words):
        as_shard(shard)


def test_the_remainder_as_the_readme_has_it():
    """295 samples on 2 ranks with batches of 8: the last 7 are shared out, and the first sample fills them up."""
    last = []
    for rank in range(2):
        settings = {"batch_size": 8, "decoder": number, "reader": Ready(), "shard": (rank, 2)}
        with ab.Loader(Numbers(295), **settings) as loader:
            *_, batch = loader
            last.append(batch.indices.tolist())
            assert len(loader) == 19
    assert last == [[288, 289, 290, 291], [292, 293, 294, 0]]


@pytest.fixture
def launched(monkeypatch):
    """Set RANK and WORLD_SIZE as a launcher would; nobody has initialised anything."""
    monkeypatch.setattr(_shard, "_warned", False)
    for name in ("torch", "jax"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def launch(**variables):
        for name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    launch()
    return launch


def test_auto_asks_whoever_knows(launched, monkeypatch):
    """torch.distributed once it is initialised, else JAX of several processes, else the environment, else one."""
    assert as_shard("auto") == (0, 1)
    launched(RANK="1", WORLD_SIZE="3")
    assert as_shard("auto") == (1, 3)
    distributed = types.SimpleNamespace(is_initialized=lambda: False)  # to ask for more would initialise it
    jax = types.SimpleNamespace(distributed=distributed)
    monkeypatch.setitem(sys.modules, "jax", jax)
    assert as_shard("auto") == (1, 3)
    distributed.is_initialized, jax.process_count, jax.process_index = (lambda: True), (lambda: 5), (lambda: 4)
    assert as_shard("auto") == (4, 5)
    distributed = types.SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: False, get_rank=lambda: 6, get_world_size=lambda: 7
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(distributed=distributed))
    assert as_shard("auto") == (4, 5)
    distributed.is_initialized = lambda: True
    assert as_shard("auto") == (6, 7)


@pytest.mark.parametrize(
    "variables", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "2"}]
)
def test_a_broken_environment_is_refused(launched, variables):
    """RANK and WORLD_SIZE that make no sense are not taken for one process."""
    launched(**variables)
    with pytest.raises(ab.ConfigError, match=r"found RANK=.* and WORLD_SIZE='2'"):
        as_shard("auto")


@pytest.mark.parametrize("variables", [{"RANK": "3"}, {"WORLD_SIZE": "x"}])
def test_half_an_environment_is_refused(launched, variables):
    """A rank of unknown company, or a company of unknown size, is not taken for one process."""
    launched(**variables)
    with pytest.raises(ab.ConfigError, match=r"have the launcher set both, or write shard=\(rank, world\)"):
        as_shard("auto")


@pytest.mark.parametrize("variables", [{"RANK": "0"}, {"WORLD_SIZE": "1"}])
def test_half_an_environment_of_one_process_is_one(launched, variables):
    """What can only mean a single process is no error."""
    launched(**variables)
    assert as_shard("auto") == (0, 1)


def test_every_rank_reading_everything_warns_once(launched):
    """Without a shard under WORLD_SIZE above 1, the first loader warns, at the line that made it."""
    launched(WORLD_SIZE="2", RANK="0")
    with pytest.warns(UserWarning, match=r'WORLD_SIZE is 2.*write shard="auto"') as caught:
        ab.Loader(Numbers(10), batch_size=2, decoder=number, reader=Ready())
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ab.Loader(Numbers(10), batch_size=2, decoder=number, reader=Ready())
        ab.Loader(Numbers(10), batch_size=2, decoder=number, reader=Ready(), shard=(0, 1))


SCRIPT = """
import sys, numpy as np, torch, torch.distributed as dist
import asyncbatch as ab
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
x = np.arange(1003, dtype=np.float32)[:, None]
loader = ab.Loader(ab.sources.arrays(x, np.arange(1003)), batch_size=16, shuffle=True, seed=5, shard="auto")
for epoch in range(2):
    seen = torch.zeros(1003, dtype=torch.int64)
    steps = 0
    for images, labels in loader:
        assert images[:, 0].astype(int).tolist() == labels.tolist()
        step = torch.tensor([steps])
        dist.all_reduce(step)  # hangs, and fails by its time-out, if one rank stops before the other
        assert int(step) == 2 * steps
        seen += torch.bincount(torch.from_numpy(labels), minlength=1003)
        steps += 1
    dist.all_reduce(seen)
    assert int((seen == 1).sum()) == 1002 and int((seen == 2).sum()) == 1, seen
    print(rank, epoch, steps, flush=True)
loader.close()
dist.destroy_process_group()
"""


def run_two(script, meeting):
    """Run a script as ranks 0 and 1; return what each of them printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank), meeting], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        printed = []
        for process in ranks:
            out, err = process.communicate(timeout=100)
            assert process.returncode == 0, err
            printed.append(out.split())
        return printed
    finally:
        for process in ranks:
            process.kill()
            process.wait()


@pytest.mark.timeout(120)
def test_two_processes_of_torch_distributed(tmp_path, torch):
    """Two real processes see each sample once an epoch, but for the one that fills up, and stop together."""
    printed = run_two(SCRIPT, str(tmp_path / "meeting"))
    assert printed == [[str(rank), "0", "32", str(rank), "1", "32"] for rank in range(2)]


JAX_SCRIPT = """
import sys, numpy as np, jax
import asyncbatch as ab
jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[1]))
x = np.arange(100, dtype=np.float32)[:, None]
with ab.Loader(ab.sources.arrays(x, np.arange(100)), batch_size=10, shuffle=True, seed=5, shard="auto") as loader:
    for batch in loader:
        print(*batch.indices.tolist(), flush=True)
"""


@pytest.mark.framework
@pytest.mark.timeout(120)
def test_two_processes_of_jax():
    """Two real processes of JAX have their part of every batch."""
    pytest.importorskip("jax")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    parts = [np.array(printed, int).reshape(5, 10) for printed in run_two(JAX_SCRIPT, address)]
    source = ab.sources.arrays(np.zeros((100, 1)))
    with ab.Loader(source, batch_size=20, shuffle=True, seed=5) as whole:
        for step, batch in enumerate(whole):
            assert sorted(np.concatenate([part[step] for part in parts])) == sorted(batch.indices)
