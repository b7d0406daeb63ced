"""An epoch that has begun when its storage dies or falls silent, and what is left of it then."""

from __future__ import annotations

import time

import pytest
from numbered import make_loader

import asyncbatch as ab

COUNT = 200


def begin(fs, **reader):
    """Start an epoch and return (loader, its iterator, the first batch's indices)."""
    loader = make_loader(fs.path, COUNT, reader={"concurrency": 4} | reader)
    batches = iter(loader)
    return loader, batches, next(batches).indices.tolist()


def take(batches, indices):
    for batch in batches:
        assert batch.images[:, 0].tolist() == batch.indices.tolist()
        indices += batch.indices.tolist()


def ends_in_one_error(loader, batches, indices):
    """Take what is left, which ends in one error after the grace period; close the loader; return the error."""
    start = time.monotonic()
    with pytest.raises(ab.StorageUnresponsive) as caught:
        take(batches, indices)
    seconds = time.monotonic() - start
    loader.close()
    assert 0.5 < seconds < 10.0
    assert indices == list(range(len(indices)))
    assert len(indices) < COUNT
    return caught.value
