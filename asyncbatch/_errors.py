"""Everything that asyncbatch raises on purpose.

AsyncbatchError
├── ConfigError (also ValueError)   an argument cannot be used; raised before any work is done
├── SourceError                     the list of samples cannot be made or read: folder, manifest line, user's source
├── SampleError                     one sample, named by key and index, did not become a row
│   ├── ReadError                   its bytes could not be had
│   └── DecodeError                 its bytes did not become an array
└── LoaderClosed                    you closed it; all the others mean that it broke
"""

from __future__ import annotations

__all__ = ["AsyncbatchError", "ConfigError", "DecodeError", "LoaderClosed", "ReadError", "SampleError", "SourceError"]


class AsyncbatchError(Exception):
    """Base of every error that asyncbatch raises on purpose."""


class ConfigError(AsyncbatchError, ValueError):
    """An argument cannot be used. The message names the argument, the value given and a line that works."""


class SourceError(AsyncbatchError):
    """The source cannot list its samples: a missing folder, a line that does not parse, a failing `__getitem__`."""


class SampleError(AsyncbatchError):
    """One sample did not become a row of its batch.

    The exception that caused it is its `__cause__`.

    Attributes:
        key: The sample's name in its source, for files the path.
        index: Its index in the source.
        reason: What went wrong, without key and index.
    """

    def __init__(self, key: str, index: int, reason: str) -> None:
        super().__init__(key, index, reason)
        self.key = key
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.key} (sample {self.index}): {self.reason}"


class ReadError(SampleError):
    """A sample's bytes could not be had. An OS error's number is in `exc.__cause__.errno`."""


class DecodeError(SampleError):
    """A sample's bytes did not become a row: broken file, unknown format, another shape, failing transform."""


class LoaderClosed(AsyncbatchError):
    """The loader or iterator was closed, by `close()`, by a newer iterator, or by a fork."""


def describe(error: BaseException) -> str:
    """Return an exception in words, never empty."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
