"""Small files that tell which they are and whether they are whole, and loaders of them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

import asyncbatch as ab

SIZE = 64  # bytes a file

# What makes the tests quick; all that they wait for is made of these.
QUICK = {"timeout": 0.5, "backoff": 0.01, "grace": 2.0}


def name_of(index):
    return f"{index:05}"


def names_of(indices):
    return [name_of(index) for index in indices]


def write_files(folder, count, size=SIZE):
    """Write file i with the number i at its end: a piece of it, or zeros, are another number."""
    for index in range(count):
        (folder / name_of(index)).write_bytes((index + 1).to_bytes(size, "big"))


@dataclass(frozen=True)
class Numbered:
    """The files of `write_files` as a source, where a mount shows them."""

    root: os.PathLike[str]
    size: int
    fingerprint: str = "numbered"

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return ab.Sample(key=name_of(index), label=index, path=os.path.join(self.root, name_of(index)))


def row(data):
    """Decode a file into its index and its length."""
    return np.array([int.from_bytes(data[-8:], "big") - 1, len(data)], np.int64)


def make_loader(root, count, *, batch_size=10, reader=None, **settings):
    """Return a loader of the files below `root`, with a `FileReader` of `QUICK` and the settings in `reader`."""
    files = ab.FileReader(**(QUICK | (reader or {})))
    return ab.Loader(Numbered(root, count), batch_size=batch_size, decoder=row, reader=files, **settings)


def read_all(loader):
    """Return (indices delivered, in their order, errors that were let pass) of one epoch; checks the contents."""
    indices, errors = [], []
    for batch in loader:
        indices += batch.images[:, 0].tolist()
        errors += batch.errors
        assert batch.images[:, 0].tolist() == batch.indices.tolist()
        assert set(batch.images[:, 1].tolist()) <= {SIZE}
    return indices, errors
