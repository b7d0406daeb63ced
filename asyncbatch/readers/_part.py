"""Which object a sample is in, and which part of it."""

from __future__ import annotations

import errno
from typing import Any

from asyncbatch._buckets import WholeObject, split_url
from asyncbatch._errors import ConfigError, FileChanged
from asyncbatch._types import Sample
from asyncbatch.readers._fates import ChangedWhileRead

__all__ = ["check_object", "place_of", "range_of"]


def place_of(sample: Sample) -> tuple[str, str]:
    """Return a sample's bucket and key; a path that has none is an error of this sample alone."""
    try:
        return split_url(sample.path, "Sample.path")
    except ConfigError as error:
        raise OSError(errno.EINVAL, str(error)) from None


def range_of(sample: Sample) -> dict[str, Any] | None:
    """Return what obstore is told to read of it; None for all."""
    if isinstance(sample, WholeObject) or (not sample.offset and sample.length is None):
        return None
    if sample.length is None:
        return {"range": {"offset": sample.offset}}
    return {"range": (sample.offset, sample.offset + sample.length)}


def check_object(sample: Sample, size: int) -> None:
    """Refuse an object of another size than the sample is of, or must be.

    Raises:
        FileChanged: It is.
    """
    if isinstance(sample, WholeObject) and sample.length is not None and size != sample.length:
        # A server that cuts its answers short says so, too, and may do better next time.
        raise ChangedWhileRead(f"has {size:,} bytes, and {sample.length:,} when it was listed; list it again", size)
    if sample.length is not None and size < sample.offset + sample.length:
        raise FileChanged(
            errno.EIO, f"has {size:,} bytes and the sample ends at {sample.offset + sample.length:,}; list it again"
        )
