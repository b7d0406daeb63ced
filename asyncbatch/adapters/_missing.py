"""What to write where a framework is not installed."""

from __future__ import annotations

__all__ = ["missing"]


def missing(what: str, install: str, error: ImportError) -> ImportError:
    """Return an error that says what to install; or the one given, if it is about something else.

    Args:
        what: The module's name, such as "torch".
        install: The line to write.
        error: What importing it raised.
    """
    if error.name is None or error.name.partition(".")[0] != what:
        return error  # it is there, and something that it needs is not
    return ImportError(f"asyncbatch.adapters needs {what} for this: {install}", name=what)
