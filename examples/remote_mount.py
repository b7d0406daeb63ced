"""Read from a mount that may be slow, fail or go away: what to set, what to catch, and how to go on where it broke.

Without a REPLICA, nothing of it is needed but what you want to decide by yourself; the defaults are the same.

Usage: python examples/remote_mount.py FOLDER [REPLICA]
"""

from __future__ import annotations

import logging
import sys
import time

import asyncbatch as ab


def make_loader(folder: str, *replica: str) -> ab.Loader:
    reader = ab.FileReader(
        roots=[folder, *replica] if replica else (),  # the same tree on another mount: asked where this one is slow
        timeout=30,  # seconds without progress after which a read is given up, while others are answered
        retries=4,  # after errors that may pass, with growing pauses
        grace=120,  # seconds that the whole storage may be away: a server needs some to start again
    )
    # One picture in a thousand may be unreadable; each is reported, and one more is an error.
    return ab.Loader(
        folder, batch_size=32, image_size=224, shuffle=True, seed=1, reader=reader, on_error=ab.Skip(0.001)
    )


def main(folder: str, *replica: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")  # says when storage is away, and back
    with make_loader(folder, *replica) as loader:
        for attempt in range(3):
            try:
                for batch in loader:
                    for error in batch.errors:
                        print(f"left out: {error}")
                break
            except ab.StorageUnresponsive as error:
                print(f"away for longer than grace: {error}")
                time.sleep(60 * attempt)
                loader.load_state_dict(loader.state_dict())  # goes on after the last batch, not with the next epoch
        stats = loader.stats()
        rate = stats.samples / (stats.wait_seconds + stats.compute_seconds)
        print(f"{stats.samples} pictures, {rate:.0f} a second; {stats.concurrency} reads at once")
        print(
            f"{stats.retries} retries, {stats.timeouts} given up, {stats.hedges} asked twice, {stats.skipped} left out"
        )


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
