"""What a caller that stops costs in memory: large and small files, a budget, one batch taken, and then nothing.

python tests/storage/stopped.py --stopped 30 --read-ahead 64MB

It starts itself again as `stopped.py ROOT`, so that nothing else counts, and prints figures in MB.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faultmount import FaultMount
from numbered import name_of

import asyncbatch as ab

COUNT = 300  # files; some 600 MB
SMALLEST, LARGEST = 1000, 20_000_000
DECODE_THREADS = 2
MB = 10**6
STILL = 3.0  # seconds without a byte after which reading has stopped by itself; a run counts when it has ended
DEADLINE = 60.0


def write_sizes(folder, count=COUNT, seed=7):
    """Write files of zeros, as holes, whose sizes are spread evenly over all magnitudes."""
    dice = random.Random(seed)  # noqa: S311 - sizes, not a secret
    for index in range(count):
        with open(folder / name_of(index), "wb") as file:
            file.truncate(int(math.exp(dice.uniform(math.log(SMALLEST), math.log(LARGEST)))))


@dataclass(frozen=True)
class Files:
    """The files of a folder, by name.

    Args:
        root: The folder.
        sizes: Of the files, in bytes.
        says_lengths: The samples' lengths are known before they are read.
    """

    root: str
    sizes: tuple[int, ...]
    says_lengths: bool
    fingerprint: str = "files"

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        path = os.path.join(self.root, name_of(index))
        length = self.sizes[index] if self.says_lengths else None
        return ab.Sample(key=name_of(index), label=index, path=path, length=length)


def memory(field):
    """Return "VmRSS" or "VmHWM", its peak, of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024 / MB


def wait_until_still(loader):
    """Wait until reading has stopped by itself; return the bytes read by then."""
    end = time.monotonic() + DEADLINE
    before, since = loader.stats().bytes_read, time.monotonic()
    while time.monotonic() < since + STILL:
        if time.monotonic() > end:
            raise TimeoutError(f"reading went on for {DEADLINE} s though nobody took anything")
        time.sleep(0.02)
        if (now := loader.stats().bytes_read) != before:
            before, since = now, time.monotonic()
    return before


def measure(root, read_ahead, stopped, *, lengths):
    """Take one batch, stop, take the rest; return the figures."""
    count = len(os.listdir(root))
    sizes = tuple(os.stat(os.path.join(root, name_of(index))).st_size for index in range(count))
    loader = ab.Loader(
        Files(root, sizes, lengths),
        batch_size=4,
        decoder=lambda data: np.array([len(data)], np.int64),
        read_ahead=read_ahead,
        decode_threads=DECODE_THREADS,
        reader=ab.FileReader(timeout=60.0),
    )
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is what there is now
    at_first = memory("VmRSS")
    with loader:
        batches = iter(loader)
        seen = next(batches).images[:, 0].tolist()
        read = wait_until_still(loader)
        time.sleep(stopped)
        read_later, peak, now = loader.stats().bytes_read, memory("VmHWM"), memory("VmRSS")
        for batch in batches:
            seen += batch.images[:, 0].tolist()
    return {
        "files": count,
        "mb": round(sum(sizes) / MB),
        "read_ahead": read_ahead,
        "largest_mb": round(max(sizes) / MB, 1),
        "decode_threads": DECODE_THREADS,
        "lengths_known": lengths,
        "read_when_still_mb": round(read / MB, 1),
        "stayed_still": read == read_later,
        "at_first_mb": round(at_first, 1),
        "growth_mb": round(now - at_first, 1),
        "peak_growth_mb": round(peak - at_first, 1),
        "peak_growth_of_all_mb": round(memory("VmHWM") - at_first, 1),
        "whole": seen == list(sizes),
    }


def in_a_child(root, read_ahead, stopped, *, lengths=False):
    """Return the figures of `measure` in a process of its own."""
    command = [sys.executable, __file__, str(root), "--read-ahead", read_ahead, "--stopped", str(stopped)]
    command += ["--lengths"] if lengths else []
    result = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE + stopped, check=False)
    if result.returncode or result.stderr:
        raise RuntimeError(f"exit status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", help="where the files are; otherwise they are written and mounted first")
    parser.add_argument("--stopped", type=float, default=30.0, metavar="SECONDS", help="after reading has stopped")
    parser.add_argument("--read-ahead", default="64MB")
    parser.add_argument("--lengths", action="store_true", help="the source knows how long each file is")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.root:
        figures = measure(arguments.root, arguments.read_ahead, arguments.stopped, lengths=arguments.lengths)
        print(json.dumps(figures, indent=2))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faultfs-")))
        source, mountpoint = folder / "source", folder / "mount"
        source.mkdir()
        mountpoint.mkdir()
        write_sizes(source, arguments.count, arguments.seed)
        fs = stack.enter_context(FaultMount(source, mountpoint))
        figures = in_a_child(fs.path, arguments.read_ahead, arguments.stopped, lengths=arguments.lengths)
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
