"""The same batches from the workers of a real Ray cluster of several nodes, whatever becomes of them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from coloured import write_coloured
from fakes import wait_until

import asyncbatch as ab

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'asyncbatch[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from asyncbatch.adapters.ray import RayLoader, RayPool, WorkersLost  # noqa: E402

pytestmark = [
    pytest.mark.framework,
    # Ray's own: files of its processes that it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

NODES, CPUS = 3, 2
ROOM = 10**8  # bytes that the store of a node has
SHARED = set()  # ports of the processes whose workers are not a test's own
WITH_TESTS = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # functions of this module travel by name
PICTURES, BATCH = 90, 7
SETTINGS = {"batch_size": BATCH, "image_size": (24, 32), "shuffle": True, "seed": 11}


@pytest.fixture(scope="module")
def cluster():
    """One head that runs no workers, and three nodes that do."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": ROOM}
    )
    for _ in range(NODES):
        cluster.add_node(num_cpus=CPUS, object_store_memory=ROOM)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env=WITH_TESTS)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def pool(cluster):
    """Workers for the tests that are about batches: to start some takes seconds."""
    from ray._private.state import actors as table

    pool = RayPool(3, cpus_per_worker=0.01)
    pool.start(0)
    rosters = [one for one in table().values() if one["ActorClassName"] == "Roster" and one["State"] == "ALIVE"]
    SHARED.update(one["Address"]["Port"] for one in rosters)
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def footprint():
    """Ray keeps connections and threads of its own; of ours nothing may be left."""

    def ours():
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("asyncbatch")]

    before = ours()
    yield
    wait_until(lambda: ours() == before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of noise in two classes."""
    import cv2

    root = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for index in range(PICTURES):
        path = root / "ab"[index % 2] / f"{index:03}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), noise.integers(0, 255, (40, 50, 3), np.uint8))
    return root


def told(batch):
    labels = None if batch.labels is None else batch.labels.tolist()
    errors = [(type(error), str(error), error.errno) for error in batch.errors]
    return batch.epoch, batch.step, batch.images.tobytes(), batch.images.shape, labels, batch.keys, errors


def outcome(batches):
    """Return what came, and how it ended."""
    came = []
    try:
        for batch in batches:
            came.append(told(batch))
            del batch
    except ab.AsyncbatchError as error:
        return came, type(error), str(error)
    return came, None, ""


def actors():
    """Return the processes of a test's workers that are alive, of all jobs: the public way needs a dashboard."""
    from ray._private.state import actors as table

    workers = [one for one in table().values() if one["ActorClassName"] == "Worker" and one["State"] == "ALIVE"]
    return [one["Pid"] for one in workers if one["OwnerAddress"]["Port"] not in SHARED]


def bytes_stored():
    """Return what the object stores of all nodes hold, in bytes."""
    from ray._private.internal_api import node_stats

    alive = [(node["NodeManagerAddress"], node["NodeManagerPort"]) for node in ray.nodes() if node["Alive"]]
    return sum(node_stats(*node, include_memory_info=False).store_stats.object_store_bytes_used for node in alive)


def want_room():
    """Put something into the store of each node that leaves no room for what nobody has a reference to, and drop it.

    What a worker hands over just after its driver died is nobody's, and Ray keeps it until the room is wanted.
    """

    @ray.remote(num_cpus=0)
    def fill():
        ray.put(np.zeros(ROOM - 10**6, np.uint8))

    here = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    ray.get([fill.options(scheduling_strategy=node).remote() for node in here])


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("more", [{}, {"drop_last": True, "shard": (1, 3)}], ids=["whole", "shard"])
def test_two_shuffled_epochs_are_those_of_loader(cluster, folder, workers, more):
    """Bit by bit and in order, whatever the number of workers; by `for` and by `async for`."""
    with ab.Loader(folder, **SETTINGS, **more) as loader:
        expected = [told(batch) for batch in loader.epochs(4)]

    async def collect(batches):
        return [told(batch) async for batch in batches]

    with RayLoader(folder, workers=workers, **SETTINGS, **more) as loader:
        assert [told(batch) for batch in loader.epochs(2)] == expected[: 2 * len(loader)]
        assert asyncio.run(collect(loader.epochs(2))) == expected[2 * len(loader) :]
    wait_until(lambda: not actors())


def test_as_they_complete_they_are_the_same_batches(pool, folder):
    """With `in_order=False` only their order is another."""
    with ab.Loader(folder, **SETTINGS) as loader:
        expected = [told(batch) for batch in loader.epochs(2)]
    with RayLoader(folder, workers=pool, in_order=False, **SETTINGS) as loader:
        assert sorted(told(batch) for batch in loader.epochs(2)) == sorted(expected)


def in_memory():
    images = np.random.default_rng(1).integers(0, 255, (40, 6, 5, 3), np.uint8)
    return ab.sources.arrays(images, np.arange(40) % 3)


class Items:
    """A dataset as PyTorch has them."""

    def __len__(self):
        return 30

    def __getitem__(self, index):
        return np.full((4, 5, 3), index, np.uint8), index % 4


def flipped(epoch):
    """An order that is a user's function."""
    return np.arange(30)[:: 1 if epoch % 2 else -1]


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (in_memory, {"shuffle": True}),
        (lambda: ab.sources.items(Items()), {"sampler": flipped}),
    ],
    ids=["arrays", "items"],
)
def test_other_sources_and_orders(pool, make, settings):
    """Rows in memory, a user's dataset and a user's order travel to the workers."""
    with ab.Loader(make(), batch_size=8, **settings) as loader:
        expected = [told(batch) for batch in loader.epochs(2)]
    with RayLoader(make(), batch_size=8, workers=pool, **settings) as loader:
        assert [told(batch) for batch in loader.epochs(2)] == expected


@pytest.fixture
def spoilt(folder, tmp_path):
    """A manifest with a picture that is missing and one that is broken."""
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    paths = [*map(str, sorted(folder.rglob("*.png")))]
    paths[20], paths[55] = str(tmp_path / "missing.png"), str(tmp_path / "broken.png")
    manifest = tmp_path / "train.txt"
    manifest.write_text("".join(f"{path} {place % 5}\n" for place, path in enumerate(paths)))
    return manifest


@pytest.mark.parametrize("on_error", ["raise", ab.Skip(5), ab.Skip(1), ab.Replace(5), ab.Replace(0)], ids=str)
def test_what_fails_does_what_it_does_on_one_machine(pool, spoilt, on_error):
    """The same batches before it, the same error in the same words, the same samples left out or replaced."""
    settings = {**SETTINGS, "on_error": on_error}
    with ab.Loader(spoilt, **settings) as loader:
        expected, of_one = outcome(loader.epochs(2)), loader.stats()
    with RayLoader(spoilt, workers=pool, **settings) as loader:
        assert outcome(loader.epochs(2)) == expected
        of_many = loader.stats()
    assert (of_many.skipped, of_many.replaced) == (of_one.skipped, of_one.replaced)
    assert [*map(str, of_many.errors)] == [*map(str, of_one.errors)]


def test_code_that_a_worker_has_not_is_said_so(pool, folder):
    """With what to do about it, and not as Ray says it."""
    module = types.ModuleType("mine_alone")
    exec("def decode(data):\n    return data", module.__dict__)  # noqa: S102 - a module that no other process has
    sys.modules["mine_alone"] = module
    with (
        RayLoader(folder, batch_size=4, decoder=module.decode, workers=pool) as loader,
        pytest.raises(ab.ConfigError, match="No module named 'mine_alone'; install your code") as caught,
    ):
        next(iter(loader))
    assert "ray::" not in str(caught.value)


def test_a_manifest_is_sent_and_not_opened_again(pool, folder, tmp_path):
    """It need be on this node alone, and may be written anew meanwhile."""
    manifest = tmp_path / "train.txt"
    manifest.write_text("".join(f"{path} {place % 5}\n" for place, path in enumerate(sorted(folder.rglob("*.png")))))
    with ab.Loader(manifest, **SETTINGS) as loader:
        expected = [told(batch) for batch in loader]
    with RayLoader(manifest, workers=pool, **SETTINGS) as loader:
        manifest.unlink()
        assert [told(batch) for batch in loader] == expected


def test_two_loaders_of_one_pool_replace_a_worker_once(cluster, folder):
    """Whichever hears of it first: the other takes the same new one."""
    pool = RayPool(1)
    try:
        with ab.Loader(folder, **SETTINGS) as loader:
            expected = [told(batch) for batch in loader.epochs(3)]
        pair = [RayLoader(folder, workers=pool, prefetch=1, **SETTINGS) for _ in range(2)]
        came = [], []
        for batches in zip(*(one.epochs(3) for one in pair), strict=True):
            for mine, batch in zip(came, batches, strict=True):
                mine.append(told(batch))
            if len(came[0]) == 5:
                os.kill(actors()[0], signal.SIGKILL)
        assert [*came] == [expected, expected]
        assert {name: one.batches > 0 for name, one in pair[0].worker_stats().items()} == dict.fromkeys(
            pair[1].worker_stats(), True
        )
        assert len(pair[0].worker_stats()) == 2
        assert pair[0].stats().decode_threads == 1  # of the one that is there
    finally:
        pool.close()
    with pytest.raises(ab.LoaderClosed, match="RayPool"):
        pool.start(0)


def test_an_error_brings_along_its_cause_from_the_worker(pool, folder):
    """A transform's mistake is found by its line, though it was made in another process."""

    def careless(data):
        raise KeyError("mistake of mine")

    with (
        RayLoader(folder, batch_size=4, decoder=careless, workers=pool) as loader,
        pytest.raises(ab.DecodeError) as caught,
    ):
        next(iter(loader))
    assert isinstance(caught.value.__cause__, KeyError)
    assert "careless" in caught.value.__cause__.__notes__[0]


def test_rows_of_another_shape_are_told_as_on_one_machine(pool, folder, tmp_path):
    """Workers know nothing of each other's batches; rows are compared where they come together."""
    import cv2

    for index in range(30):
        size = (9, 9, 3) if index >= 17 else (8, 8, 3)
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), np.zeros(size, np.uint8))
    with ab.Loader(tmp_path, batch_size=4) as loader:
        expected = outcome(loader)
    assert expected[1] is ab.DecodeError
    with RayLoader(tmp_path, batch_size=4, workers=pool) as loader:
        assert outcome(loader) == expected


def test_states_go_from_one_to_the_other_and_back(pool, folder):
    """A state is the same wherever the batches were made."""
    with ab.Loader(folder, **SETTINGS) as loader:
        expected = [told(batch) for batch in loader.epochs(2)]
        steps = len(loader)
    state = None
    for begin in range(0, 2 * steps, 5):
        make = RayLoader if begin % 2 else ab.Loader
        with make(folder, **SETTINGS, **({"workers": pool} if begin % 2 else {})) as loader:
            if state is not None:
                loader.load_state_dict(state)
            batches = loader.epochs()
            assert [told(next(batches)) for _ in range(5)] == expected[begin : begin + 5] or begin + 5 > 2 * steps
            state = json.loads(json.dumps(loader.state_dict()))


def test_stats_are_the_sums_of_the_workers(cluster, folder):
    """What was read and decoded is summed, and there for each worker."""
    with RayLoader(folder, workers=3, decoder=slow, batch_size=BATCH) as loader:
        epochs = 0
        while len(loader.worker_stats()) < 3:  # they come up one after another
            epochs += 1
            for _ in loader:
                pass
        stats, by_worker = loader.stats(), loader.worker_stats()
    samples = epochs * PICTURES
    assert stats.samples == samples
    assert sum(one.samples for one in by_worker.values()) == samples
    assert stats.read_latency.count == samples
    assert stats.bytes_read == epochs * sum(path.stat().st_size for path in folder.rglob("*.png"))
    assert stats.decode_threads == 3
    assert stats.decode_seconds > 0.9 * samples * 0.005
    assert f"{samples:,} samples" in str(stats)


def slow(data):
    time.sleep(0.005)
    return np.frombuffer(data[:16], np.uint8)


def test_a_trace_has_the_work_of_all_workers_by_one_clock(cluster, folder, tmp_path):
    """Reading and decoding of each worker lie where they belong: before the batch that they were for was delivered."""
    with RayLoader(folder, workers=2, batch_size=BATCH, decoder=slow) as loader:
        while len(loader.worker_stats()) < 2:
            for _ in loader:
                pass
        loader.set_epoch(0)
        began = time.perf_counter()
        trace = loader.trace(tmp_path / "trace.json")
        for _ in loader:
            pass
        ended = time.perf_counter()
        trace.close()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["cat"] for event in spans} == {"read", "decode", "wait", "compute"}
    assert len([event for event in spans if event["cat"] == "decode"]) == PICTURES
    reading, decoding = ({event["tid"] for event in spans if event["cat"] == stage} for stage in ("read", "decode"))
    assert decoding == {0, 1}  # a thread of each worker
    assert reading == {*range(len(reading))}  # as many rows of a picture as there are lanes, and none empty
    delivered = {}
    for event in spans:
        if event["cat"] == "wait":
            delivered[event["args"]["epoch"], event["args"]["step"]] = event["ts"] + event["dur"]
    for event in spans:
        if event["cat"] == "decode":
            assert event["ts"] + event["dur"] <= delivered[event["args"]["epoch"], event["args"]["step"]] + 20e3
    assert max(event["ts"] + event["dur"] for event in spans) <= 1e6 * (ended - began) + 20e3


def test_tensors_of_batches_that_cannot_be_written_to(pool, folder):
    """Other adapters take it as the loader that it is; a tensor may be written to, and is a copy for that."""
    torch = pytest.importorskip("torch")
    from asyncbatch.adapters.torch import TorchLoader

    with RayLoader(folder, workers=pool, **SETTINGS) as loader:
        batch = next(iter(loader))
        assert not batch.images.flags.writeable
        loader.set_epoch(0)
        images, labels = next(iter(TorchLoader(loader)))
        expected = batch.images.transpose(0, 3, 1, 2).copy()
        assert np.array_equal(images.numpy(), expected)
        images += 1
        assert labels.dtype == torch.int64
    assert np.array_equal(batch.images.transpose(0, 3, 1, 2), expected)


# -- what is bounded ---------------------------------------------------------------------------------------------------


def counting(folder):
    """Return a decoder that leaves a mark for each sample, and the function that counts the marks."""
    marks = folder / "marks"

    def decode(data):
        with marks.open("ab") as file:
            file.write(b".")
        return np.zeros((100, 100), np.float64)

    return decode, lambda: marks.stat().st_size if marks.exists() else 0


@pytest.mark.parametrize(("settings", "most"), [({"prefetch": 2}, 8), ({"in_flight": "1MB"}, 3)])
def test_a_slow_trainer_holds_up_the_workers(cluster, folder, tmp_path, settings, most):
    """No more batches are made than may wait: by their number, and by their bytes."""
    decode, count = counting(tmp_path)
    with RayLoader(
        folder, batch_size=4, decoder=decode, workers=2, sampler=list(range(PICTURES)) * 4, **settings
    ) as loader:
        batches = iter(loader)
        next(batches)
        wait_until(lambda: count() >= 4 * most)
        time.sleep(0.5)  # for what must not come
        assert count() <= 4 * (most + 1)  # the one that was taken, too
        assert len([*batches]) == len(loader) - 1


def test_ranks_on_one_pool_do_not_wait_for_each_other(cluster, folder):
    """A rank that takes nothing holds its own batches up, and no others."""
    with_all = ab.Loader(folder, **SETTINGS)
    pool = RayPool(2)
    try:
        ranks = [RayLoader(folder, workers=pool, shard=(rank, 3), **SETTINGS) for rank in range(3)]
        slow_one = iter(ranks[0])
        next(slow_one)
        quick = [[told(batch) for batch in ranks[rank].epochs(2)] for rank in (1, 2)]
        for rank, came in zip((1, 2), quick, strict=True):
            with ab.Loader(folder, shard=(rank, 3), **SETTINGS) as alone:
                assert came == [told(batch) for batch in alone.epochs(2)]
        assert len([*slow_one]) == len(ranks[0]) - 1
        wait_until(lambda: len(actors()) == 2)
        for one in ranks:
            one.close()
        assert len(actors()) == 2  # the pool's, not theirs
    finally:
        pool.close()
        with_all.close()
    wait_until(lambda: not actors())


def test_more_workers_while_the_trainer_waits_and_fewer_when_it_does_not(cluster, folder):
    """From one to as many as may be, and back."""
    loader = RayLoader(
        folder, workers=(1, 3), batch_size=6, decoder=slow, sampler=[place % PICTURES for place in range(30_000)]
    )
    with loader:
        batches = iter(loader)
        deadline = time.monotonic() + 60
        while len(actors()) < 3:
            next(batches)
            assert time.monotonic() < deadline
        while len(actors()) > 1:
            next(batches)
            time.sleep(0.3)
            assert time.monotonic() < deadline


# -- what dies ---------------------------------------------------------------------------------------------------------


def dawdling(data):
    time.sleep(0.002)
    return np.frombuffer(data[-64:], np.uint8)


@pytest.mark.timeout(300)
def test_twenty_times_a_worker_or_node_is_killed_at_random(cluster, folder):
    """Nothing lost, nothing twice, the same order."""
    chance = random.Random(5)  # noqa: S311 - a test's
    settings = {"batch_size": 3, "decoder": dawdling, "shuffle": True, "seed": 2}
    with ab.Loader(folder, **settings) as loader:
        expected = [told(batch) for batch in loader.epochs(5)]
    gone = 0
    with RayLoader(folder, workers=3, prefetch=4, **settings) as loader:
        for run in range(20):
            loader.set_epoch(0)
            victim = chance.randrange(1, len(expected) // 2)
            came = []
            for batch in loader.epochs(5):
                came.append(told(batch))
                if len(came) == victim:
                    gone += 1
                    kill_one(cluster, chance, node=run % 4 == 3)
            assert came == expected, run
        names = loader.worker_stats()
    assert gone == 20
    assert len(names) > 10, names  # so many processes have worked: they really died


def kill_one(cluster, chance, *, node):
    if node:
        cluster.remove_node(chance.choice([*cluster.worker_nodes]), allow_graceful=False)
        cluster.add_node(num_cpus=CPUS, object_store_memory=ROOM)
    else:
        there = [pid for pid in actors() if Path(f"/proc/{pid}").exists()]  # the table may be late
        os.kill(chance.choice(there), signal.SIGKILL)


def test_no_worker_left_is_one_error(cluster, folder):
    """Where none can be started, that is said in time, with what to do."""
    with RayLoader(folder, workers=2, cpus_per_worker=64, grace=1, **SETTINGS) as loader:
        began = time.monotonic()
        with pytest.raises(WorkersLost, match=r"no worker came up for 1 s.*cpus_per_worker="):
            next(iter(loader))
        assert time.monotonic() - began < 10


def deadly(data):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_batch_that_kills_whoever_makes_it_is_an_error(cluster, folder):
    """It is not tried for ever."""
    with (
        RayLoader(folder, workers=3, batch_size=4, decoder=deadly, prefetch=1) as loader,
        pytest.raises(WorkersLost, match="workers were lost one after another while they made batch 0 of epoch 0"),
    ):
        next(iter(loader))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may hide a folder from a node")
def test_a_node_that_cannot_reach_the_samples_is_named(cluster, folder, tmp_path):
    """A node whose folder is empty, as where a mount is missing, is found at the start."""
    known = {node["NodeID"] for node in ray.nodes()}
    start = f"{sys.executable} -m ray.scripts.scripts start --address={cluster.address} --num-cpus=1 --block"
    hidden = subprocess.Popen(
        ["/usr/bin/env", "unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {folder} && exec {start}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: any(node["Alive"] and node["NodeID"] not in known for node in ray.nodes()))
        (node,) = (node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in known)
        placement = NodeAffinitySchedulingStrategy(node, soft=False)
        with (
            RayLoader(folder, workers=1, placement=placement, **SETTINGS) as loader,
            pytest.raises(ab.SourceError) as caught,
        ):
            next(iter(loader))
        assert node[:8] in str(caught.value)
        assert str(folder) in str(caught.value)
        assert "mount the data" in str(caught.value)
    finally:
        os.killpg(hidden.pid, signal.SIGTERM)
        hidden.wait(30)


DRIVER = """
import sys, numpy as np, ray
from asyncbatch.adapters.ray import RayLoader
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
loader = RayLoader(sys.argv[2], workers=2, batch_size=8, image_size=(300, 300), shuffle=True)
for place, _ in enumerate(loader.epochs()):
    if place == 3:
        print("under way", flush=True)
"""


def test_a_driver_that_is_killed_leaves_nothing(cluster, folder, tmp_path):
    """No actor, no object and no file."""
    before = bytes_stored()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster.address, str(folder)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert driver.stdout.readline() == "under way\n"
        wait_until(lambda: len(actors()) == 2)  # else there would be nothing to leave
        assert bytes_stored() > before + 10**6
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not actors())
    want_room()
    wait_until(lambda: bytes_stored() <= before)
    assert [*tmp_path.iterdir()] == []


def test_the_example_trains_two_ranks_on_one_pool(tmp_path):
    """Together the ranks of Ray Train see every picture of each epoch."""
    pytest.importorskip("ray.train", reason="Ray Train is not installed: pip install 'ray[train]'")
    pytest.importorskip("torch", reason="torch is not installed")
    write_coloured(tmp_path, 60)
    example = Path(__file__).parent.parent / "examples" / "ray_train.py"
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path)], capture_output=True, text=True, timeout=110, check=False
    )
    report = re.search(r"last report of rank 0: .*'epoch': 2.*'seen': (\d+)", done.stdout)
    assert report, done.stderr
    assert int(report[1]) == -(-len([*tmp_path.rglob("*.png")]) // 2)


def test_the_demo_kills_a_worker_and_goes_on(tmp_path):
    """On a Ray of its own, which ends with it."""
    command = [sys.executable, "-m", "asyncbatch", "demo", "--ray", "--images", "240"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert ", killed after batch" in done.stdout
    assert "bit for bit" in done.stdout


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "workers=4"),
        ({"workers": (3, 2)}, r"workers=\(2, 3\)"),
        ({"cpus_per_worker": 0}, "cpus_per_worker=1"),
        ({"placement": "EVERYWHERE"}, 'placement="SPREAD"'),
        ({"in_flight": "much"}, "in_flight="),
        ({"prefetch": 0}, "prefetch=8"),
        ({"grace": -1}, "grace=60"),
        ({"decoder": threading.Lock().__enter__, "image_size": None}, "be pickled"),
    ],
)
def test_wrong_arguments(cluster, folder, settings, words):
    """Each says what was given and the line to write."""
    with pytest.raises(ab.ConfigError, match=words), RayLoader(folder, **{**SETTINGS, **settings}) as loader:
        next(iter(loader))
