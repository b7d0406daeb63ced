"""Bytes on a local disk, by name: shared by the processes of a machine, whole or not there, whatever ends when.

What came first stays, and nothing takes its place: under an order that is drawn anew for each epoch every sample is as
likely as any other to be the next, so that throwing out the least recently used would throw out what is about to be
used (the MinIO rule of CoorDL: Mohan et al., "Analyzing and Mitigating Data Stalls in DNN Training", VLDB 2021).

Processes meet in locks on bytes of one file, which the kernel takes back when a process ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import struct
import sys
import threading
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from asyncbatch.readers._contents import Contents
from asyncbatch.readers._rows import FOLDER, Rows

__all__ = ["Store"]

_log = logging.getLogger("asyncbatch")

_HEADER = struct.Struct("<4sIQ")  # mark, CRC-32 of the bytes, how many there are
_MARK = b"abc1"
_TOTAL = struct.Struct("<Q")

# Bytes of the lock file: one says that somebody uses the store, one guards the total, and one for each name.
_USERS, _GUARD, _NAMES = 0, 1, 2

_KINDS = {fcntl.LOCK_EX: fcntl.F_WRLCK, fcntl.LOCK_SH: fcntl.F_RDLCK, fcntl.LOCK_UN: fcntl.F_UNLCK}
_FLOCK = struct.Struct("hhqqi4x")  # Linux's struct flock: type, whence, start, length, pid


class Store:
    """A folder of entries; its methods may be called from any thread, and wait for the disk.

    Args:
        root: The folder, made if it is not there.
        limit: How many bytes it may hold.
        verify: Whether entries are checked each time they are read.

    Attributes:
        is_open_for_more: Whether entries are added still: until it is full, or the disk is.
        corrupt: How many entries were found not to be what they were, and were thrown away.

    Raises:
        OSError: The folder cannot be used.
    """

    def __init__(self, root: str, limit: int, *, verify: bool = True) -> None:
        self._root = Path(root)
        self._limit = limit
        self._verify = verify
        self.is_open_for_more = True
        self.corrupt = 0
        self._closed = False
        self._guard = threading.Lock()  # of the total, among our threads
        self._partial = self._root / "partial"
        self._partial.mkdir(parents=True, exist_ok=True)
        self._locks = os.open(self._root / "locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._total = self._open_total()
            # While nobody else is there, nothing is under way: what seems so was left by a process that was killed.
            if self._lock(fcntl.LOCK_EX, _USERS, wait=False):
                self._tidy()
            self._lock(fcntl.LOCK_SH, _USERS)
        except BaseException:
            os.close(self._locks)
            raise

    def close(self) -> None:
        """Let go of the folder; what is asked of it after that fails."""
        self._closed = True
        self._total.close()
        os.close(self._locks)

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return int(_TOTAL.unpack_from(self._total)[0])

    def get(self, name: str) -> bytes | None:
        """Return an entry's bytes; None if it is not there, or is not what it was, and then is no more."""
        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("the cache cannot read %s: %s", path, error)
            return None
        if _is_whole(data, verify=self._verify):
            return data[_HEADER.size :]
        self.corrupt += 1
        _log.warning("%s is damaged, and is fetched again", path)
        with suppress(FileNotFoundError):  # another process found out, too
            path.unlink()
            self.give_back(len(data))
        return None

    def claim(self, name: str) -> None:
        """Wait until no other process fetches an entry, or the one that did has ended; from then on, others wait."""
        self._lock(fcntl.LOCK_EX, _place(name))

    def release(self, name: str) -> None:
        """Let the others go on."""
        if not self._closed:  # the kernel did it then, and another file may have the number
            self._lock(fcntl.LOCK_UN, _place(name))

    def put(self, name: str, data: bytes) -> bool:
        """Keep bytes, if there is room; return whether they are kept."""
        if not self.is_open_for_more:
            return False
        size = _HEADER.size + len(data)
        with self.guarded():
            if not self.count(size):
                return False
        partial = self._partial / f"{name}.{os.getpid()}.{threading.get_native_id()}"
        path = self._path(name)
        try:
            path.parent.mkdir(exist_ok=True)
            with partial.open("wb") as file:
                file.write(_HEADER.pack(_MARK, zlib.crc32(data), len(data)))
                file.write(data)
            partial.rename(path)
        except OSError as error:
            self.failed(size, error)
            with suppress(OSError):
                partial.unlink()
            return False
        return True

    def rows(self, name: str, count: int, shape: tuple[int, ...]) -> Rows:
        """Return the rows that are kept under a name, for `count` samples of one shape; None of them at first."""
        folder = self._root / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        return Rows.of_files(self, folder, count, shape)

    def held(self, *, verify: bool = False) -> Contents:
        """Look at all entries."""
        entries, size, corrupt = 0, 0, []
        for path in self._entries():
            entries += 1
            size += path.stat().st_size
            if verify and not _is_whole(path.read_bytes(), verify=True):
                corrupt.append(str(path))
        for rows in self._all_rows():
            held = rows.contents(verify=verify)
            entries, size, corrupt = entries + held.entries, size + held.size, [*corrupt, *held.corrupt]
        return Contents(entries, size, tuple(corrupt))

    def clear(self) -> Contents:
        """Throw everything away; return what there was."""
        before = self.held()
        for path in self._entries():
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                self.give_back(size)
        for rows in self._all_rows():
            rows.remove()
        return before

    # -- room ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Keep everybody else, in this process or another, from counting."""
        with self._guard:
            self._lock(fcntl.LOCK_EX, _GUARD)
            try:
                yield
            finally:
                self._lock(fcntl.LOCK_UN, _GUARD)

    def count(self, size: int) -> bool:
        """Count bytes that are to come, guarded; False, and none counted, if they do not fit."""
        total = self.size + size
        if total > self._limit:
            self._stop("is full")
            return False
        _TOTAL.pack_into(self._total, 0, total)
        return True

    def give_back(self, size: int) -> None:
        """Count bytes no longer."""
        with self.guarded():
            _TOTAL.pack_into(self._total, 0, max(0, self.size - size))

    def failed(self, size: int, error: OSError) -> None:
        """Hear that bytes that were counted could not be written: no more are tried."""
        self.give_back(size)
        no_room = error.errno in (errno.ENOSPC, errno.EDQUOT)
        self._stop("has no disk left" if no_room else f"cannot be written: {error}")

    def _stop(self, why: str) -> None:
        if self.is_open_for_more:
            self.is_open_for_more = False
            size = self.size
            level = logging.INFO if why == "is full" else logging.WARNING
            _log.log(level, "the cache in %s %s: it keeps the %.1f MB that it has", self._root, why, size / 1e6)

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name[2:]

    def _entries(self) -> Iterator[Path]:
        for folder in sorted(self._root.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(folder.iterdir())

    def _open_total(self) -> mmap.mmap:
        descriptor = os.open(self._root / "total", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if os.fstat(descriptor).st_size < _TOTAL.size:
                os.ftruncate(descriptor, _TOTAL.size)
            return mmap.mmap(descriptor, _TOTAL.size)
        finally:
            os.close(descriptor)

    def _all_rows(self) -> Iterator[Rows]:
        for folder in sorted(self._root.glob(f"{FOLDER}/*")):
            if (rows := Rows.found(self, folder)) is not None:
                yield rows

    def _tidy(self) -> None:
        left = list(self._partial.iterdir())
        for path in left:
            path.unlink()
        broken_off = [rows.tidy() for rows in self._all_rows()]
        if left or any(broken_off):  # what they were to hold was counted
            _TOTAL.pack_into(self._total, 0, self.held().size)

    def _lock(self, kind: int, place: int, *, wait: bool = True) -> bool:
        """Lock or unlock a byte of the lock file; False if somebody else has it, and is not to be waited for."""
        try:
            if sys.platform == "linux":  # by the open file, not the process: two stores in one process are two
                command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
                fcntl.fcntl(self._locks, command, _FLOCK.pack(_KINDS[kind], os.SEEK_SET, place, 1, 0))
            else:
                fcntl.lockf(self._locks, kind if wait else kind | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            if not wait and error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True


def _place(name: str) -> int:
    return _NAMES + int(name[:15], 16)


def _is_whole(data: bytes, *, verify: bool) -> bool:
    if len(data) < _HEADER.size:
        return False
    mark, checksum, size = _HEADER.unpack_from(data)
    if mark != _MARK or size != len(data) - _HEADER.size:
        return False
    return not verify or zlib.crc32(memoryview(data)[_HEADER.size :]) == checksum
