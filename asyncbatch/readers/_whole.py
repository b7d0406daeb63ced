"""The part of a read that runs in a thread: whole files, one system call after the other.

A thread says how far it is in attributes that the event loop looks at, since a call that hangs in the kernel can be
neither asked nor interrupted.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from mmap import mmap
from time import monotonic, perf_counter
from typing import Protocol

from asyncbatch._errors import FileChanged
from asyncbatch._types import Sample
from asyncbatch.readers._fates import ChangedWhileRead

if sys.platform != "win32":
    from mmap import MAP_ANONYMOUS, MAP_PRIVATE

__all__ = ["FLAGS", "Claimant", "Content", "Hop", "Outcome", "Part", "PutOff", "Readable", "Room", "check_kind",
           "own_pages", "read_exactly", "read_file", "size_to_read"]  # fmt: skip

# Without O_NONBLOCK, opening a FIFO waits for a writer that may never come. Neither flag exists on Windows, which
# needs O_BINARY instead to leave line ends alone.
FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

# Larger files are read in pieces of this, each of which shows that the storage still answers; a 20 MB picture over a
# slow line is late by nobody's deadline as long as it comes. They are read into pages of their own: freed, these are
# the system's again at once. The allocator would keep them for the thread that had them, and threads there are many.
_PIECE = 2**20
_PRIVATE = {"flags": MAP_PRIVATE | MAP_ANONYMOUS} if sys.platform != "win32" else {}

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Part:
    """What is read of a file: `length` bytes from `offset`, all of the rest if None."""

    path: str
    offset: int = 0
    length: int | None = None


Readable = Part | Sample
"""What names a file and a part of it."""


@dataclass(slots=True)
class Content:
    """What was read, and what the file looked like.

    Attributes:
        data: The bytes; those of a large file in pages of their own.
        size: Of the file, in bytes.
        mtime: When it was last changed, in ns since 1970.
        device: The number of the file system that it lies on.
        touched: Whether the time of change was another after reading than before.
        began: When reading began, in seconds of `time.perf_counter`.
        ended: When it ended, likewise.
    """

    data: bytes | mmap
    size: int
    mtime: int
    device: int
    touched: bool = False
    began: float = 0.0
    ended: float = 0.0


@dataclass(slots=True)
class PutOff:
    """There was no room for a file's bytes, and so they were not read.

    Attributes:
        size: How many there are.
    """

    size: int


Outcome = Content | PutOff
"""What came of a read that did not fail."""


class Claimant(Protocol):
    """Who takes room in memory before a sample's bytes are read."""

    def claim(self, size: int) -> bool:
        """Take room for so many bytes, if there is any; from any thread."""


class Room(Claimant, Protocol):
    """Leave to hold a sample's bytes in memory."""

    async def wait(self, size: int) -> None:
        """Wait for room that could not be claimed; on the event loop."""


class Hop:
    """Files that one thread reads, one after the other.

    Args:
        parts: What to read.
        rooms: Where to put it, one for each part; None for anywhere.
        max_size: Larger parts are refused, in bytes.
        devices: A file that was read before, by the number of the file system that it lay on.

    Attributes:
        results: What came of the parts that are done, in their order.
        moved: When the thread last got an answer from the kernel, in seconds of `time.monotonic`; None until it runs.
        began: When it began, likewise.
        times: How long each part took, in seconds.
        thread: The thread that runs it.
        given_up: Set by the event loop: stop where it is safe, for nobody waits any more.
    """

    __slots__ = ("began", "devices", "given_up", "max_size", "moved", "parts", "results", "rooms", "thread", "times")

    def __init__(
        self, parts: Sequence[Readable], rooms: Sequence[Room | None], max_size: int, devices: Mapping[int, str]
    ) -> None:
        self.parts = parts
        self.rooms = rooms
        self.max_size = max_size
        self.devices = devices
        self.results: list[Outcome | Exception] = []
        self.moved: float | None = None
        self.began: float | None = None
        self.times: list[float] = []
        self.thread: threading.Thread | None = None
        self.given_up = False

    def result(self, part: Readable, room: Claimant | None) -> Outcome | Exception:
        """Read one part, or return why that could not be done."""
        began = perf_counter()
        try:
            outcome = read_file(part, self.max_size, self, room)
        except FileNotFoundError as error:
            return _mount_is_gone(part.path, self.devices) or error
        except Exception as error:  # noqa: BLE001 - it is the part's
            return error
        if isinstance(outcome, Content):
            outcome.began, outcome.ended = began, perf_counter()
        return outcome


def read_file(part: Readable, max_size: int, hop: Hop | None = None, room: Claimant | None = None) -> Outcome:
    """Read a part of a regular file.

    Args:
        part: What to read.
        max_size: More than so many bytes are refused.
        hop: Told of each piece that came.
        room: Asked before memory is taken; without it, the bytes are read in any case.

    Raises:
        ChangedWhileRead: Its size became another while it was read.
        FileChanged: It is too short to hold the part.
        OSError: Opening or reading failed, it ended early, is no regular file, or is larger than `max_size`. Its
            attribute `size` is the file's, where that was known by then: what is shorter at the next try is not all of
            it. (An sshfs that was cut off in a read says that the file is empty, for some seconds.)
    """
    descriptor = os.open(part.path, FLAGS)
    size = 0
    try:
        try:
            before = os.fstat(descriptor)
            size = before.st_size
            check_kind(before.st_mode)
            wanted = size_to_read(part, size, max_size)
            if room is not None and not room.claim(wanted):
                return PutOff(wanted)
            if part.offset:
                os.lseek(descriptor, part.offset, os.SEEK_SET)
            data, got = read_exactly(descriptor, wanted, hop)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if after.st_size != size:
            largest = max(size, after.st_size)
            raise ChangedWhileRead(f"had {size:,} bytes before it was read and {after.st_size:,} after", largest)
        if got < wanted:
            raise OSError(errno.EIO, f"ended after {got:,} of {wanted:,} bytes")
    except OSError as error:
        vars(error).setdefault("size", size)
        raise
    return Content(data, after.st_size, after.st_mtime_ns, after.st_dev, after.st_mtime_ns != before.st_mtime_ns)


def check_kind(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, f"is {kind}; samples must be regular files")


def size_to_read(part: Readable, size: int, max_size: int) -> int:
    if part.length is not None and size < part.offset + part.length:
        raise FileChanged(
            f"has {size:,} bytes and the sample ends at {part.offset + part.length:,}: it was replaced or cut since "
            "its length was taken; index it again",
        )
    wanted = max(0, size - part.offset) if part.length is None else part.length
    if wanted > max_size:
        raise OSError(
            errno.EFBIG,
            f"has {wanted:,} bytes, more than max_size={max_size:,}; "
            f"if that is right, write reader=FileReader(max_size={wanted})",
        )
    return wanted


def read_exactly(descriptor: int, wanted: int, hop: Hop | None) -> tuple[bytes | mmap, int]:
    """Return the bytes, and how many of those wanted they are; the rest of a large file's memory holds zeros."""
    if wanted > _PIECE:
        return _read_large(descriptor, wanted, hop)
    data = os.read(descriptor, wanted)
    while 0 < len(data) < wanted:  # hardly ever
        more = os.read(descriptor, wanted - len(data))
        if not more:
            break
        data += more
    return data, len(data)


def _read_large(descriptor: int, wanted: int, hop: Hop | None) -> tuple[mmap, int]:
    memory = own_pages(wanted)
    got = 0
    with FileIO(descriptor, closefd=False) as file, memoryview(memory) as view:
        while got < wanted and not (hop is not None and hop.given_up):
            with view[got : got + _PIECE] as piece:
                count = file.readinto(piece)
            if not count:
                break
            got += count
            if hop is not None:
                hop.moved = monotonic()
    return memory, got


def own_pages(size: int) -> mmap:
    """Return zeroed memory that the system gives out as it is used, that no fork shares, and that is free at once."""
    return mmap(-1, size, **_PRIVATE)


def _mount_is_gone(path: str, devices: Mapping[int, str]) -> OSError | None:
    """Tell a missing file from a missing mount, whose empty folder has no files either.

    It is the mount if a file that was read before has vanished as well, and what it lay on is not what is there now.
    """
    with suppress(OSError):
        folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - texts throughout
        while not os.path.exists(folder):  # noqa: PTH110 - the root always does
            folder = os.path.dirname(folder)  # noqa: PTH120
        device = os.stat(folder).st_dev  # noqa: PTH116
        for known, example in list(devices.items()):
            below = os.path.abspath(example).startswith(folder.rstrip(os.sep) + os.sep)  # noqa: PTH100
            if below and known != device and not os.path.exists(example):  # noqa: PTH110
                return OSError(errno.ENOTCONN, f"is not there, and neither is the mount that was at {folder} before")
    return None
