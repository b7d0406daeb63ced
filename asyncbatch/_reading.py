"""A reader, as the pipeline uses it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from asyncbatch._mailbox import Mailbox
from asyncbatch._types import Reader, ReaderFactory
from asyncbatch._window import ReadAheadWindow
from asyncbatch.readers import FileReader

__all__ = ["asks_at_once", "is_cancelled", "opened", "window_for"]


def opened(reader: Reader | ReaderFactory | None, mailbox: Mailbox) -> AbstractAsyncContextManager[Reader | None]:
    """Open a reader for one iteration; ours is told by the mailbox whether anybody waits for what it reads."""
    if isinstance(reader, FileReader):
        return reader.open(mailbox)
    return reader.open() if isinstance(reader, ReaderFactory) else nullcontext(reader)


def asks_at_once(reader: Reader | None) -> int:
    """Return how many reads may be asked of a reader: as many as it carries out, and as wait in a queue of its own."""
    return 0 if reader is None else getattr(reader, "queue", reader.concurrency)


def window_for(reader: Reader | None, limit: int) -> ReadAheadWindow:
    """Return the window that reads are begun in.

    A reader without a queue gets at once as many as it says that it carries out: it may wait for them.
    """
    if reader is None or hasattr(reader, "queue"):
        return ReadAheadWindow(limit)
    return ReadAheadWindow(limit, at_first=reader.concurrency)


def is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Whether the iteration ends, and not just something that a reader awaited was cancelled on its own."""
    return task is not None and task.cancelling() > 0
