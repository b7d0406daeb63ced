"""Many small files and a few per cent of everything that fails: what is delivered, in which order, after which retries.

python tests/storage/storm.py --count 10000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from faultmount import FaultMount
from numbered import make_loader, read_all, write_files

RULES = [
    {"fault": "EIO", "on": "open", "rate": 0.01},
    {"fault": "EIO", "rate": 0.01},
    {"fault": "ESTALE", "rate": 0.005},  # of reads: the kernel hides an open's, see test_faultfs.py
    {"fault": "short", "size": 40, "rate": 0.005},
]


def storm(fs, count):
    """Read an epoch of `count` files through all of `RULES`, and return what became of it."""
    fs.set(rules=RULES)
    start = time.perf_counter()
    with make_loader(fs.path, count, batch_size=32, reader={"timeout": 20.0}) as loader:
        indices, errors = read_all(loader)
        retries = loader.stats().retries
    counts = fs.counts()
    return {
        "samples": count,
        "delivered": len(indices),
        "in_order": indices == list(range(count)),
        "errors": len(errors),
        "faults": fs.faults(),
        "retries": retries,
        "seconds": round(time.perf_counter() - start, 2),
        "faults_by_kind": {label: number for label, number in sorted(counts.items()) if " " in label},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="faultfs-") as folder:
        source, mountpoint = Path(folder, "source"), Path(folder, "mount")
        source.mkdir()
        mountpoint.mkdir()
        write_files(source, count)
        with FaultMount(source, mountpoint) as fs:
            print(json.dumps(storm(fs, count), indent=2))


if __name__ == "__main__":
    main()
