"""Runs contenders, each in a process of its own: a sweep for each row's settings, then rounds of all rows in turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.contenders._contend import cpu_seconds
from bench.machine import busy_cpu_seconds
from bench.mount import Mounted, mounted
from bench.objectstore import Served, Store, served
from bench.progress import Progress
from bench.sftp_proxy import Sshfs, sshfs_mounted
from bench.suites import Options, Row, Suite

ROOT = Path(__file__).parents[1]
SWEEP_RUNS = 2


SSHFS_DELAY_MS = 10.0

Place = Mounted | Sshfs | Served


def run_suite(suite: Suite, root: Path, common: Options, rounds: int) -> dict[str, Any]:
    """Run a suite.

    Args:
        suite: What to run.
        root: The pictures.
        common: Arguments that every contender is given.
        rounds: How often each row is timed.

    Returns:
        `rows`: for each row its options and the lines of its runs. `sweeps`: what was tried before.
        `missing`: rows that are absent or failed, and why.
    """
    missing: dict[str, str] = {}
    sweeps: dict[str, list[dict[str, Any]]] = {}
    total = sum(rounds + (SWEEP_RUNS * len(row.grid) if len(row.grid) > 1 else 0) for row in suite.rows)
    with places(suite, root) as there, Progress(total=total, desc="runs") as progress:

        def run(row: Row, options: Options) -> dict[str, Any] | None:
            progress.set_postfix_str(row.name)
            place = there.get(row.mount)
            line = run_once(row.contender, (*where(root, place), *common, *options), suite.timeout, place)
            progress.update()
            if reason := line.get("absent") or line.get("failed"):
                missing[row.name] = ("absent: " if "absent" in line else "failed: ") + reason
                return None
            return line

        chosen = {}
        for row in suite.rows:
            chosen[row.name], sweeps[row.name] = sweep(row, run) if len(row.grid) > 1 else (row.grid[0], [])
        rows: dict[str, Any] = {row.name: {"options": " ".join(chosen[row.name]), "runs": []} for row in suite.rows}
        for _ in range(rounds):
            for row in suite.rows:
                if row.name not in missing and (line := run(row, chosen[row.name])):
                    rows[row.name]["runs"].append(line)
    return {
        "rounds": rounds,
        "rows": {name: row for name, row in rows.items() if row["runs"]},
        "sweeps": {name: tried for name, tried in sweeps.items() if tried},
        "missing": missing,
    }


@contextmanager
def places(suite: Suite, root: Path) -> Iterator[dict[Any, Place]]:
    """Mount or serve whatever the rows of a suite read through."""
    with ExitStack() as stack:
        there: dict[Any, Place] = {}
        for mount in dict.fromkeys(row.mount for row in suite.rows if row.mount is not None):
            if mount == "sshfs":
                there[mount] = stack.enter_context(sshfs_mounted(root, SSHFS_DELAY_MS))
            elif isinstance(mount, Store):
                there[mount] = stack.enter_context(served(mount, root))
            else:
                there[mount] = stack.enter_context(mounted(mount, root))
        yield there


def where(root: Path, place: Place | None) -> Options:
    """Return the arguments that tell a contender where the pictures are; what a bucket serves is in page cache."""
    if place is None:
        return "--data", str(root)
    if isinstance(place, Served):
        return "--data", str(root), "--endpoint", place.endpoint
    return "--data", str(place.path), "--cold"


def sweep(row: Row, run: Any) -> tuple[Options, list[dict[str, Any]]]:
    """Try every setting of a row, in turn, and return the one with the fastest run."""
    speeds: dict[Options, list[float]] = {options: [] for options in row.grid}
    for _ in range(SWEEP_RUNS):
        for options in row.grid:
            line = run(row, options)
            if line is None:
                return row.grid[0], []
            speeds[options].append(line["images_per_s"])
    tried = [{"options": " ".join(options), "images_per_s": values} for options, values in speeds.items()]
    return max(speeds, key=lambda options: max(speeds[options])), tried


def run_once(contender: str, arguments: Options, timeout: float, mount: Place | None = None) -> dict[str, Any]:
    """Return the line of one contender, with `foreign_cpu_s`: what other processes used of the machine meanwhile.

    What the programs of its mount or bucket used is `mount_cpu_s`, and not foreign.

    A process that fails or takes longer than `timeout` seconds gives a line with `failed`. It is killed together with
    the workers that it started: they are a process group of their own.
    """

    def others() -> float:
        return busy_cpu_seconds() - cpu_seconds() - (mount.cpu_seconds() if mount else 0.0)

    others_before, mount_before = others(), mount.cpu_seconds() if mount else 0.0
    command = [sys.executable, "-m", f"bench.contenders.{contender}", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"failed": f"no result after {timeout:g} s"}
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        return {"failed": (errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1][:200]}
    line: dict[str, Any] = json.loads(output)
    if not line.pop("has_servers", False):  # which are no children of its, and would count as others
        line["foreign_cpu_s"] = round(max(0.0, others() - others_before), 2)
    if mount:
        line["mount_cpu_s"] = round(mount.cpu_seconds() - mount_before, 2)
    return line
