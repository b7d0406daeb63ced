"""How a reader is opened for one iteration, whichever kind it is."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from asyncbatch._types import Reader, ReaderFactory

__all__ = ["opened"]


def opened(reader: Reader | ReaderFactory | None, *told: Any) -> AbstractAsyncContextManager[Any]:
    """Open a reader.

    Args:
        reader: A reader, which is there already, or a factory; None for none.
        told: What readers of this library are told besides, as `FileReader.open` has it.
    """
    if not isinstance(reader, ReaderFactory):
        return nullcontext(reader)
    return reader.open(*told) if getattr(reader, "is_told", False) else reader.open()
