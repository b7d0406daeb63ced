"""What becomes of a read that failed: which errors pass, which never do, and which speak of the whole storage."""

from __future__ import annotations

import enum
import errno
import random
from collections.abc import Iterator

from asyncbatch._errors import FileChanged

__all__ = ["ChangedWhileRead", "Fate", "ReadTimeout", "delays", "fate_of"]


class Fate(enum.Enum):
    """What to do about an error."""

    FINAL = enum.auto()
    """The same again would give the same: the sample's error."""
    RETRY = enum.auto()
    """It may pass: a fresh open after a while, as often as `retries` allows."""
    SCARCE = enum.auto()
    """This process has too few descriptors, threads or bytes: fewer reads at once, and not the sample's fault."""
    DEAD = enum.auto()
    """The mount is gone for every file: wait for it to come back."""
    LATE = enum.auto()
    """It did not answer in time, and asking the same storage again would only lose another thread."""


class ReadTimeout(OSError):
    """A read did not move within its deadline, and its thread was given up."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            errno.ETIMEDOUT,
            f"did not answer within {seconds:.3g} s, while other files of the same storage did; if it may take longer, "
            f"write reader=FileReader(timeout={3 * seconds:.3g})",
        )


class ChangedWhileRead(FileChanged):
    """A file's size or time of change was not the same after reading as before.

    Attributes:
        size: The greatest that was seen, in bytes.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


# Only a name or a permission that somebody corrects would help against these.
_FINAL = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EINVAL, errno.ENXIO, errno.EFBIG, errno.EOVERFLOW, errno.ENOSYS, errno.EOPNOTSUPP,
}  # fmt: skip
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# What a FUSE mount answers once its daemon is gone, and a device once it is pulled.
_DEAD = {errno.ENOTCONN, errno.ENODEV, errno.ESHUTDOWN}


def fate_of(error: BaseException) -> Fate:
    """Return what to do about an error of one read.

    What no table names, among it EIO, ESTALE, ETIMEDOUT, ECONN*, ENET*, EHOST*, EAGAIN and EBUSY, may pass: networks
    and their clients have many words for that, and a needless retry costs a second, a lost epoch hours.
    """
    if isinstance(error, ReadTimeout):
        return Fate.LATE
    if isinstance(error, FileChanged):
        return Fate.RETRY if isinstance(error, ChangedWhileRead) else Fate.FINAL
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "new thread" in str(error)):
        return Fate.SCARCE
    if not isinstance(error, OSError) or error.errno in _FINAL:
        return Fate.FINAL
    if error.errno in _SCARCE:
        return Fate.SCARCE
    return Fate.DEAD if error.errno in _DEAD else Fate.RETRY


def delays(first: float, longest: float) -> Iterator[float]:
    """Yield how long to wait before each further try, in seconds: doubling, jittered by half, up to `longest`.

    Jitter keeps the reads that failed together from coming back together (Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015).
    """
    delay = first
    while True:
        yield min(delay, longest) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, keeps no secret
        delay = min(2 * delay, longest)
