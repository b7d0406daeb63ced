"""What tests of caches share."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import aiofiles
import numpy as np
import pytest

import asyncbatch as ab


class Counted:
    """A reader that counts what is fetched from the storage."""

    concurrency = 8

    def __init__(self):
        self.keys, self.size = [], 0

    async def read(self, sample):
        self.keys.append(sample.key)
        async with aiofiles.open(sample.path, "rb") as file:
            data = await file.read()
        self.size += len(data)
        return data


def make_loader(source, cache, **options):
    return ab.Loader(
        source, **{"batch_size": 8, "image_size": 24, "cache": cache, "shuffle": True, "seed": 3, **options}
    )


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for one, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


@contextmanager
def small_disk(mount, size):
    """A real file system that is soon full."""
    mount.mkdir()
    command = [which("mount") or "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("needs leave to mount a small tmpfs")
    try:
        yield mount
    finally:
        subprocess.run([which("umount") or "umount", str(mount)], check=True)


def start_filling(manifest, cache, log, limit="1GB", what="raw"):
    """Start a process that reads a manifest through a cache; see `storage/filling.py`."""
    script = Path(__file__).parent / "storage" / "filling.py"
    command = [sys.executable, str(script), *map(str, (manifest, cache, log, limit, what))]
    environment = {**os.environ, "PYTHONPATH": str(Path(ab.__file__).parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
