"""Design 4.2, a row a test: what becomes of each error that storage can give."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

import pytest
from numbered import SIZE, Numbered, make_loader, name_of, names_of, read_all, row

import asyncbatch as ab

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(60)

TRANSIENT = [
    "EIO", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "EAGAIN", "EBUSY", "EREMOTEIO", "ENETDOWN", "ENETUNREACH",
    "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH",
]  # fmt: skip
FINAL = ["ENOENT", "EACCES", "EPERM", "EISDIR", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "EINVAL"]
SCARCE = ["EMFILE", "ENFILE", "ENOMEM"]
DEAD = ["ENOTCONN", "ENODEV", "ESHUTDOWN"]


@pytest.mark.parametrize("on", ["open", "read", "getattr"])
@pytest.mark.parametrize("code", TRANSIENT)
def test_transient_errors_are_tried_again(faultfs, code, on):
    """An error that storage has for a moment costs a retry and nothing else: all is delivered, in order."""
    fs = faultfs(40, rules=[{"fault": code, "on": on, "names": names_of(range(0, 40, 4)), "times": 2}])
    with make_loader(fs.path, 40) as loader:
        assert read_all(loader) == (list(range(40)), [])
        stats = loader.stats()
    assert stats.retries == fs.faults() == 20
    assert (stats.timeouts, stats.lost_threads, stats.skipped) == (0, 0, 0)


def test_stale_handles_are_opened_afresh(faultfs):
    """ESTALE of a read, as after a file was replaced on NFS, is cured by a fresh open."""
    fs = faultfs(40, rules=[{"fault": "ESTALE", "names": names_of(range(0, 40, 4)), "times": 2}])
    with make_loader(fs.path, 40) as loader:
        assert read_all(loader) == (list(range(40)), [])
        assert loader.stats().retries == fs.faults() == 20
    assert fs.count("open") == 60


def test_stale_opens_are_tried_again(faultfs):
    """ESTALE of an open, which the kernel has tried twice by then, is one retry."""
    fs = faultfs(10, rules=[{"fault": "ESTALE", "on": "open", "names": [name_of(3)], "times": 4}])
    with make_loader(fs.path, 10) as loader:
        assert read_all(loader) == (list(range(10)), [])
        assert loader.stats().retries == 2
    assert fs.faults() == 4


def test_short_reads_are_tried_again(faultfs):
    """Fewer bytes than st_size says are never delivered: the file is opened afresh."""
    fs = faultfs(40, rules=[{"fault": "short", "size": 40, "names": names_of(range(0, 40, 4)), "times": 2}])
    with make_loader(fs.path, 40) as loader:
        assert read_all(loader) == (list(range(40)), [])
        assert loader.stats().retries == fs.faults() == 20


def test_partial_reads_are_no_faults(faultfs):
    """A read that gives a part, as POSIX lets it, is gone on with and not tried again."""
    fs = faultfs(40, rules=[{"fault": "partial", "size": 24}])
    with make_loader(fs.path, 40) as loader:
        assert read_all(loader) == (list(range(40)), [])
        assert loader.stats().retries == 0
    assert fs.faults() >= 3 * 40


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("rule", [{"fault": "EIO", "on": "open"}, {"fault": "EIO"}, {"fault": "short", "size": 40}])
def test_retries_come_to_an_end(faultfs, rule, retries):
    """A file that stays bad is tried `retries` times more and is then an error that says how often, in its turn."""
    fs = faultfs(40, rules=[rule | {"names": [name_of(25)]}])
    with make_loader(fs.path, 40, reader={"retries": retries}) as loader:
        delivered = []
        with pytest.raises(ab.ReadError) as caught:
            for batch in loader:
                delivered += batch.images[:, 0].tolist()
        assert loader.stats().retries == retries
    assert delivered == list(range(20))
    assert (caught.value.key, caught.value.index) == (name_of(25), 25)
    assert (caught.value.errno, caught.value.attempts) == (errno.EIO, retries + 1)
    assert fs.faults() == retries + 1


@pytest.mark.parametrize("code", FINAL)
def test_final_errors_are_not_tried_again(faultfs, code):
    """An error that will not pass is the sample's at the first try."""
    fs = faultfs(40, rules=[{"fault": code, "on": "open", "names": [name_of(25)]}])
    with make_loader(fs.path, 40, on_error=ab.Skip(1)) as loader:
        indices, (error,) = read_all(loader)
        stats = loader.stats()
    assert indices == [index for index in range(40) if index != 25]
    assert (error.index, error.errno, error.attempts) == (25, getattr(errno, code), 1)
    assert (stats.retries, stats.skipped) == (0, 1)
    assert fs.faults() == 1


def test_what_is_really_no_file_is_final(faultfs, tmp_path):
    """Missing files, directories, loops of links and names too long are said at the first try, each by its errno."""
    (tmp_path / name_of(0)).write_bytes((1).to_bytes(SIZE, "big"))
    (tmp_path / name_of(1)).mkdir()
    (tmp_path / name_of(2)).symlink_to(tmp_path / name_of(2))

    @dataclass(frozen=True)
    class Odd(Numbered):
        def __getitem__(self, index):
            tail = {3: name_of(3), 4: "n" * 300, 5: f"{name_of(0)}/below"}.get(index, name_of(index))
            return ab.Sample(key=name_of(index), label=index, path=os.path.join(self.root, tail))

    fs = faultfs(source=tmp_path)
    reader = ab.FileReader(timeout=0.5, grace=2.0, backoff=0.01)
    with ab.Loader(Odd(fs.path, 6), batch_size=6, decoder=row, reader=reader, on_error=ab.Skip(5)) as loader:
        indices, errors = read_all(loader)
        assert loader.stats().retries == 0
    assert indices == [0]
    codes = [errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTDIR]
    assert [(error.index, error.errno, error.attempts) for error in errors] == [
        (index, code, 1) for index, code in enumerate(codes, 1)
    ]


@pytest.mark.parametrize("on", ["open", "read"])
@pytest.mark.parametrize("code", SCARCE)
def test_scarcity_slows_down_and_loses_nothing(faultfs, code, on):
    """Want of descriptors or memory halves the concurrency, and is neither a sample's error nor a retry of it."""
    fs = faultfs(200, rules=[{"fault": code, "on": on, "total": 12}])
    with make_loader(fs.path, 200, reader={"retries": 0, "concurrency": 64}) as loader:
        assert read_all(loader) == (list(range(200)), [])
        stats = loader.stats()
    assert fs.faults() == 12
    assert stats.retries == 0
    assert stats.concurrency <= 32


@pytest.mark.parametrize("code", DEAD)
def test_a_dead_mount_that_comes_back_loses_nothing(faultfs, code):
    """Errors that mean the mount is dead stop all reads until a probe finds it alive; no sample pays for them."""
    fs = faultfs(200, rules=[{"fault": code, "on": "open", "total": 12}])
    # The first reads may use up eight of them, or one; what is left is up to probes that come half as often each time.
    with make_loader(fs.path, 200, reader={"retries": 0, "grace": 60.0}) as loader:
        assert read_all(loader) == (list(range(200)), [])
        assert loader.stats().retries == 0
    assert fs.faults() == 12


@pytest.mark.parametrize("code", DEAD)
def test_a_dead_mount_that_stays_so_is_said_once(faultfs, code):
    """When the grace period ends, one error says so, whatever `on_error` lets pass, and few opens were spent on it."""
    fs = faultfs(200, rules=[{"fault": code, "on": "open"}])
    with make_loader(fs.path, 200, reader={"grace": 1.0, "concurrency": 8}, on_error=ab.Skip(200)) as loader:
        with pytest.raises(ab.StorageUnresponsive):
            read_all(loader)
        assert loader.stats().skipped == 0
    assert 1 <= fs.faults() <= 100  # a herd of 200 samples, each with its retries, would be 1,000


def test_order_stays_under_faults(faultfs):
    """With shuffling, faults change neither the order of the samples nor which of them form a batch."""
    fs = faultfs(200)

    def batches():
        with make_loader(fs.path, 200, shuffle=True, seed=11) as loader:
            return [batch.indices.tolist() for batch in loader]

    quiet = batches()
    assert fs.faults() == 0
    fs.set(
        rules=[
            {"fault": "EIO", "on": "open", "rate": 0.1},
            {"fault": "EIO", "rate": 0.05},
            {"fault": "short", "size": 10, "rate": 0.05},
        ],
        latency={"open": 0.002},
        jitter=1.0,
    )
    assert batches() == quiet
    assert fs.faults() > 10


def test_a_short_read_that_the_kernel_believes_is_never_delivered(faultfs):
    """A page cache makes a short read a shorter file, for a while: what was longer at first is not delivered cut."""
    rule = {"fault": "short", "size": 40, "names": names_of(range(0, 40, 8)), "times": 1}
    fs = faultfs(40, cached=True, rules=[rule])
    with make_loader(fs.path, 40, on_error=ab.Skip(5)) as loader:
        indices, errors = read_all(loader)  # checks that each row came from a whole file
    assert sorted(indices + [error.index for error in errors]) == list(range(40))
    assert {error.index for error in errors} <= set(range(0, 40, 8))
    assert fs.faults() == 5
