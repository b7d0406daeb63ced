"""Reads a manifest through a cache and says what it got: run as a process that may be killed.

Each fetch from the "storage" is a line in a log, written at once; each sample that came is checked against its file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

import asyncbatch as ab


class Logged:
    """A reader that says what it was asked for."""

    concurrency = 16

    def __init__(self, log):
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self.files = ab.FileReader(concurrency=8)

    async def read(self, sample):
        os.write(self.log, f"{sample.key}\n".encode())
        async with self.files.open() as reader:
            return await reader.read(sample)


def first_bytes(data):
    return np.frombuffer(data[:16], np.uint8)


def main(manifest, cache, log, limit, what):
    wrong = 0
    rows = {}
    decoder = first_bytes if what == "raw" else ab.ImageDecoder(24)
    with ab.Loader(
        manifest, batch_size=4, decoder=decoder, reader=Logged(log), cache=ab.Cache(cache, limit=limit, what=what),
        shuffle=True, seed=os.getpid(),
    ) as loader:  # fmt: skip
        for _ in range(2):
            for batch in loader:
                for key, row in zip(batch.keys, batch.images, strict=True):
                    rows.setdefault(key, decoder(Path(key).read_bytes()))
                    wrong += not np.array_equal(rows[key], row)
                print("batch", wrong, flush=True)
        stats = loader.stats()
    print("done", wrong, stats.cache_hits, stats.cache_misses, stats.cache_corrupt, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:6])
