"""Everything that asyncbatch raises on purpose.

AsyncbatchError
├── ConfigError (also ValueError)   an argument cannot be used; raised before any work is done
├── SourceError                     the list of samples cannot be made or read: folder, manifest line, user's source
├── SampleError                     one sample, named by key and index, did not become a row
│   ├── ReadError                   its bytes could not be had
│   ├── SampleChanged               its file is not the one that it was before
│   └── DecodeError                 its bytes did not become an array
├── StorageUnresponsive             the storage died or fell silent, and did not come back within the grace period
├── ErrorLimitExceeded              more samples failed than `on_error` lets pass
├── StateMismatch (also ValueError) a state that is damaged, or of another order of batches
└── LoaderClosed                    you closed it; all the others mean that it broke
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["AsyncbatchError", "ConfigError", "DecodeError", "ErrorLimitExceeded", "LoaderClosed", "ReadError",
           "SampleChanged", "SampleError", "SourceError", "StateMismatch", "StorageUnresponsive"]  # fmt: skip


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
        errno: The number of the OS error that caused it; None where it was none.
        attempts: How often it was tried.
    """

    def __init__(self, key: str, index: int, reason: str, *, errno: int | None = None, attempts: int = 1) -> None:
        super().__init__(key, index, reason)
        self.key = key
        self.index = index
        self.reason = reason
        self.errno = errno
        self.attempts = attempts

    def __str__(self) -> str:
        tries = f", after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.key} (sample {self.index}): {self.reason}{tries}"


class ReadError(SampleError):
    """A sample's bytes could not be had."""


class SampleChanged(SampleError):
    """A sample's file was replaced or cut while it was in use: another size or time of change than before."""


class DecodeError(SampleError):
    """A sample's bytes did not become a row: broken file, unknown format, another shape, failing transform."""


class StorageUnresponsive(AsyncbatchError):
    """The storage died or fell silent for all samples, and did not come back within the grace period.

    An iteration that follows begins the next epoch, as after any error. To go on where this one broke write
    `loader.load_state_dict(loader.state_dict())` first.
    """


class ErrorLimitExceeded(AsyncbatchError):
    """More samples failed than `on_error` lets pass in an epoch; the one that was too many is its `__cause__`.

    Attributes:
        errors: The samples of the epoch that failed, in the order of the plan, the last one too many.
    """

    def __init__(self, message: str, errors: Sequence[SampleError] = ()) -> None:
        super().__init__(message, tuple(errors))
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return str(self.args[0])


class StateMismatch(AsyncbatchError, ValueError):
    """A state cannot be resumed: it is damaged, or of another source, seed, sampler, global batch or `drop_last`.

    The message names what differs, and what it was and is.
    """


class LoaderClosed(AsyncbatchError):
    """The loader or iterator was closed, by `close()`, by a newer iterator, or by a fork."""


def describe(error: BaseException) -> str:
    """Return an exception in words, never empty."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


class FileChanged(OSError):
    """What a reader raises when a file is not what it was; the pipeline makes a `SampleChanged` of it."""
