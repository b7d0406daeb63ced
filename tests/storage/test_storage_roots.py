"""One tree on two mounts: a slow, hung or dead one costs time and no sample."""

from __future__ import annotations

import errno
import threading

import pytest
from conftest import Footprint
from numbered import make_loader, names_of, read_all

import asyncbatch as ab

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(60)

COUNT = 300

# A file that is hedged is not read any more once the other root has answered. Where each fault of the first is counted,
# the other answers too late for that.
LATER = {"latency": {"open": 0.1}}


@pytest.fixture
def two(faultfs):
    """Two mounts of one folder of `COUNT` files; the samples lie below the first."""
    first = faultfs(COUNT)
    return first, faultfs(source=first.source)


def replicated(two, **reader):
    first, second = two
    return make_loader(first.path, COUNT, reader={"roots": [first.path, second.path]} | reader)


def test_a_healthy_first_root_is_read(two):
    """While the first root is well, it is the one that is read, but for a few hedges."""
    with replicated(two) as loader:
        assert read_all(loader) == (list(range(COUNT)), [])
    assert two[0].count("open") >= COUNT
    assert two[1].count("open") <= COUNT * 0.2


def test_samples_may_lie_below_any_root(two):
    """Which of the roots the source names its files by does not matter."""
    first, second = two
    with make_loader(second.path, COUNT, reader={"roots": [first.path, second.path]}) as loader:
        assert read_all(loader) == (list(range(COUNT)), [])
    assert first.count("open") >= COUNT


def test_a_slow_tail_is_hedged(two):
    """Reads that are late on one root are asked of the other; the extra reads have a bound."""
    first, second = two
    first.set(latency={"open": 0.01}, tail=0.03, tail_seconds=3.0)
    with replicated(two, timeout=20.0, grace=30.0) as loader:
        assert read_all(loader) == (list(range(COUNT)), [])
        stats = loader.stats()
    assert first.count("tail") > 0
    assert 0 < stats.hedges <= COUNT * 0.1 + 1
    assert 0 < second.count("open") <= stats.hedges + 1
    assert (stats.timeouts, stats.skipped) == (0, 0)


@pytest.mark.parametrize("on", ["open", "read"])
def test_a_root_that_hangs_is_gone_around(two, on):
    """Files that hang for ever on one root are read from the other, and none is reported."""
    first, second = two
    hung = names_of(range(0, COUNT, 40))
    first.set(rules=[{"fault": "hang", "on": on, "names": hung}])
    second.set(**LATER)
    before = Footprint()
    with replicated(two) as loader:
        assert read_all(loader) == (list(range(COUNT)), [])
        assert loader.stats().skipped == 0
    assert first.count(f"{on} hang") == len(hung)
    assert second.count("open") >= len(hung)
    first.release()
    before.assert_same_soon(5.0)


def test_a_root_that_hangs_altogether_is_left(two):
    """Where the first root answers nothing at all, the other one serves."""
    first, second = two
    first.stop()
    before = Footprint()
    with replicated(two, grace=30.0) as loader:
        assert read_all(loader) == (list(range(COUNT)), [])
    first.resume()
    before.assert_same_soon(5.0)
    assert second.count("open") >= COUNT


@pytest.mark.parametrize("when", ["from the start", "in mid-epoch"])
def test_a_dead_root_is_left_for_the_other(two, when):
    """A root whose daemon was killed costs no sample."""
    first, second = two
    first.set(latency={"open": 0.02})
    if when == "from the start":
        first.kill()
    with replicated(two, concurrency=4) as loader:
        batches = iter(loader)
        indices = next(batches).indices.tolist()
        if when == "in mid-epoch":
            assert first.count("open") < COUNT
            first.kill()
        for batch in batches:
            indices += batch.indices.tolist()
        assert loader.stats().skipped == 0
    assert indices == list(range(COUNT))
    assert second.count("open") > 0


def test_a_dead_root_that_comes_back_is_read_again(two):
    """A root that was left is tried from time to time, and read again when it is well."""
    first, _ = two
    first.kill()
    with replicated(two) as loader:
        epochs = loader.epochs()
        next(epochs)
        first.unmount()
        first.mount()
        seen = threading.Event()

        def watch():
            first.wait_for("open", COUNT)
            seen.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        while not seen.is_set() and watcher.is_alive():
            next(epochs)
        epochs.close()
        watcher.join()
    assert seen.is_set()


def test_errors_of_one_root_are_healed_by_the_other(two):
    """A file that one root cannot read, whatever the attempts, is delivered from the other."""
    first, second = two
    bad = names_of(range(0, COUNT, 40))
    first.set(rules=[{"fault": "EIO", "names": bad}])
    second.set(**LATER)
    with replicated(two) as loader:
        assert read_all(loader) == (list(range(COUNT)), [])
    assert first.faults() >= len(bad)
    assert second.count("open") >= len(bad)


def test_what_hangs_on_both_roots_is_reported(two):
    """A file that neither root gives is an error, and each root was asked for it."""
    first, second = two
    for root in two:
        root.set(rules=[{"fault": "hang", "on": "open", "names": names_of([40])}])
    before = Footprint()
    first_, second_ = first.path, second.path
    with make_loader(first_, COUNT, reader={"roots": [first_, second_]}, on_error=ab.Skip(1)) as loader:
        indices, (error,) = read_all(loader)
    assert indices == [index for index in range(COUNT) if index != 40]
    assert (error.index, error.errno) == (40, errno.ETIMEDOUT)
    assert first.count("open hang") == second.count("open hang") == 1
    for root in two:
        root.release()
    before.assert_same_soon(5.0)


def test_roots_that_are_both_dead_are_one_error(two):
    """Where no root is left, the storage is unresponsive when the grace period ends."""
    for root in two:
        root.kill()
    with replicated(two, grace=1.0) as loader, pytest.raises(ab.StorageUnresponsive):
        read_all(loader)
