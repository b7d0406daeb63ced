"""What a process may use, told by trees of cgroups of both versions as kernels and containers show them."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

import asyncbatch as ab
from asyncbatch import _choices
from asyncbatch._machine import usable_cores, usable_memory

HOST = os.cpu_count()


@pytest.fixture
def cgroups(tmp_path):
    """A function that writes a tree of cgroups and where this process is in it, and returns what tells of them."""

    def make(membership, files):
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return {"groups": tmp_path / "cgroup", "membership": tmp_path / "membership"}

    return make


VERSION_1 = "4:memory:/docker/abc\n3:cpuset:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, HOST),
        ("0::/\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/gone/from/here\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/../../pod\n", {"cpu.max": "100000 100000"}, 1),
        (VERSION_1, {"cpu/docker/abc/cpu.cfs_quota_us": "-1", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, HOST),
        (VERSION_1, {"cpu/docker/abc/cpu.cfs_quota_us": "90000", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, 1),
        (VERSION_1, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("0::/\n", {"cpu.max": "nonsense"}, HOST),
        ("", {}, HOST),
    ],
)
def test_quotas(cgroups, membership, files, cores):
    """The CPU time that a container is given bounds the cores, wherever the limit is set."""
    assert usable_cores({}, affinity=HOST, **cgroups(membership, files)) == cores


@pytest.mark.parametrize(
    ("cpus", "affinity", "ranks", "cores"),
    [
        ("0-15", 16, "8", 2),  # torchrun binds nobody: all may run everywhere, and share
        ("0-15", 2, "8", 2),  # a launcher that gave each rank its own
        ("0-15", 16, "1", 16),
        ("0-15", 16, "32", 1),
        ("0-2,7", 4, "2", 2),
        ("0-15", 3, "1", 3),
        ("0-15", 16, "many", 16),
    ],
)
def test_ranks_share_the_cores(cgroups, monkeypatch, cpus, affinity, ranks, cores):
    """Several processes on a machine divide it, unless they were given their own part already."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    told = cgroups("0::/\n", {"cpuset.cpus.effective": cpus})
    assert usable_cores({"LOCAL_WORLD_SIZE": ranks}, affinity=affinity, **told) == cores


def test_where_there_are_no_cgroups(tmp_path):
    """Then the affinity tells, and the machine's memory."""
    told = {"groups": tmp_path / "none", "membership": tmp_path / "none"}
    assert usable_cores({}, **told) == len(os.sched_getaffinity(0))
    assert usable_memory({}, **told) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("membership", "files", "megabytes"),
    [
        ("0::/job\n", {"job/memory.max": "max", "memory.max": "800000000"}, 800),
        ("0::/job\n", {"job/memory.max": "600000000", "memory.max": "800000000"}, 600),
        (VERSION_1, {"memory/docker/abc/memory.limit_in_bytes": "500000000"}, 500),
    ],
)
def test_memory(cgroups, membership, files, megabytes):
    """A container's limit counts, and ranks share it."""
    told = cgroups(membership, files)
    assert usable_memory({}, **told) == megabytes * 10**6
    assert usable_memory({"LOCAL_WORLD_SIZE": "4"}, **told) == megabytes * 10**6 // 4


def test_read_ahead_is_bearable(monkeypatch, caplog):
    """A budget that the container could not bear is cut, and says so."""
    monkeypatch.setattr(_choices, "usable_memory", lambda: 400_000_000)
    source = ab.sources.arrays(np.zeros((4, 2)))
    with caplog.at_level(logging.INFO, "asyncbatch"):
        assert ab.Loader(source, batch_size=2)._stages.read_ahead == 100_000_000
        assert ab.Loader(source, batch_size=2, read_ahead="10MB")._stages.read_ahead == 10_000_000
    (record,) = caplog.records
    assert record.message == "read_ahead='256MB' is 100 MB, a quarter of the memory that this process may use"


def test_version_1_says_no_limit_by_a_large_number(cgroups):
    """Then it is the machine's memory."""
    told = cgroups(VERSION_1, {"memory/docker/abc/memory.limit_in_bytes": "9223372036854771712"})
    assert usable_memory({}, **told) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
