"""What this process may use of the machine: cores and memory, as containers, schedulers and launchers leave them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["usable_cores", "usable_memory"]

_PROC = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_ENDLESS = 2**60  # bytes; version 1 of cgroups says "no limit" by a number near 2⁶³


def usable_cores(
    environ: Mapping[str, str] = os.environ,
    groups: Path = _CGROUPS,
    membership: Path = _PROC,
    affinity: int | None = None,
) -> int:
    """Return how many cores this process may keep busy, at least 1.

    That is what its affinity allows, and not more than its share of what is there for all: the cores of its cgroup, or
    the CPU time that its container is given (`cpu.max`), divided by the processes that torchrun started on this machine
    (`LOCAL_WORLD_SIZE`): eight ranks must not start eight times as many threads as there are cores.

    Args:
        environ: The environment.
        groups: Where cgroups are mounted.
        membership: The file that tells which of them this process is in.
        affinity: How many cores it may run on; None asks the system.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    there = [float(os.cpu_count() or affinity)]
    there += [float(count) for text in _texts("cpuset", groups, membership, _CPUSETS) if (count := _count(text))]
    there += [quota for text in _texts("cpu", groups, membership, _QUOTAS) if (quota := _quota(text)) < math.inf]
    share = min(there) / _local_processes(environ)
    return max(1, min(affinity, int(share + 0.5)))


def usable_memory(environ: Mapping[str, str] = os.environ, groups: Path = _CGROUPS, membership: Path = _PROC) -> int:
    """Return this process's share of the memory that the machine has, or its container may use, in bytes.

    Args:
        environ: The environment.
        groups: Where cgroups are mounted.
        membership: The file that tells which of them this process is in.
    """
    limits = [_physical_memory()]
    for text in _texts("memory", groups, membership, _MEMORY):
        with suppress(ValueError):
            limits.append(int(text))
    return min(limits) // _local_processes(environ)


# The files that tell, of version 2 and of version 1; several are read together.
_CPUSETS = (("cpuset.cpus.effective",), ("cpuset.effective_cpus",))
_QUOTAS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
_MEMORY = (("memory.max",), ("memory.limit_in_bytes",))


@cache
def _texts(controller: str, root: Path, membership: Path, names: tuple[tuple[str, ...], ...]) -> list[str]:
    """Return what the cgroups that this process is in say, its own first and then those around it."""
    texts = []
    for group in _groups(controller, root, membership):
        for files in names:
            with suppress(OSError):
                texts.append(" ".join((group / file).read_text().strip() for file in files))
    return texts


def _groups(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        # Within a container the path may be that of the host, which is not there; the mount itself is the container's.
        parts = [] if ".." in path else [part for part in path.split("/") if part]
        for count in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:count])


def _count(cores: str) -> int:
    """Count a list of cores such as "0-3,8"."""
    count = 0
    with suppress(ValueError):
        for span in filter(None, cores.split(",")):
            first, _, last = span.partition("-")
            count += int(last or first) - int(first) + 1
    return count


def _quota(text: str) -> float:
    """Return how many cores' time "150000 100000" is: microseconds of CPU in so many of time. "max", -1: no limit."""
    quota, _, period = text.partition(" ")
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return cores if cores > 0 else math.inf


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return _ENDLESS


def _local_processes(environ: Mapping[str, str]) -> int:
    try:
        return max(1, int(environ.get("LOCAL_WORLD_SIZE", "1")))
    except ValueError:
        return 1


# Read now and kept: a loader may be made on an event loop, which must not wait for files.
usable_cores()
usable_memory()
