"""A FUSE file system that shows a folder, read-only, and misbehaves as it is told.

    python tests/storage/faultfs.py SOURCE MOUNTPOINT

Lines of JSON on standard input tell it what to do, and it answers each with one on standard output:

    {"do": "set", "rules": [{"fault": "EIO", "on": "open", "rate": 0.01}], "latency": {"open": 0.02}}
    {"do": "counts"}
    {"do": "release"}    or with "names": [...] or "count": 3

The first is explained in faultrules.py. It unmounts itself and ends when standard input does, so it never outlives the
process that started it. A pipe, not a file in the mount: it answers while the mount hangs, and asking it adds nothing
to the counts.

The kernel keeps nothing: no attributes, no names, and no content (direct_io), for what it keeps it does not ask for,
and no fault would be seen. `--cached` lets it keep all of them, as most FUSE mounts do, for what the kernel makes of a
fault: an EIO met in reading ahead is tried again and hidden; a short read makes the file as short as that, in st_size
too, until the attributes expire after a second.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

os.environ["FUSE_LIBRARY_NAME"] = "fuse3"  # mfusepy takes libfuse 2 where it finds it, and that has no max_threads

import mfusepy
from faultrules import Faults, Settings

# More than any reader may have in flight. libfuse serves 10 at once as it comes, and ten reads that hang would then
# hang the mount. Each costs a thread here only while that many calls are under way.
MOST_AT_ONCE = 700


@dataclass(slots=True)
class OpenFile:
    """A file that the kernel has open.

    Attributes:
        end: Where its content ends, if it was opened in a bad moment.
        begun: It has been read from.
    """

    descriptor: int
    end: int | None = None
    begun: bool = False


@dataclass(slots=True)
class Change:
    """What became of a file since it was mounted: see "truncate", "grow" and "touch" in faultrules.py."""

    size: int | None = None
    seconds: int = 0


class FaultFS(mfusepy.Operations):
    """The calls that the kernel makes; each may be made by hundreds of threads at once."""

    use_ns = True

    def __init__(self, source, faults):
        self._source = source
        self._faults = faults
        self._lock = threading.Lock()
        self._files = {}
        self._next = 1
        self._changes = {}
        self._ending = threading.Event()

    def init_with_config(self, conn_info, config_3):
        # As it comes, 12 reads ahead of a file that hang would hold up those of all other files.
        conn_info.max_background = MOST_AT_ONCE
        conn_info.congestion_threshold = MOST_AT_ONCE

    def getattr(self, path, fh=None):
        rule = self._arrive("getattr", path)
        self._fail(rule, path)
        status = Path(self._source + path).lstat()
        attributes = {key: getattr(status, key) for key in ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")}
        attributes |= {f"st_{time}time": getattr(status, f"st_{time}time_ns") for time in "amc"}
        if self._faults.settings.mtime == "now":
            attributes["st_mtime"] = time.time_ns()
        if change := self._changes.get(path):
            attributes["st_mtime"] += change.seconds * 10**9
            if change.size is not None:
                attributes["st_size"] = change.size
        return attributes

    def readlink(self, path):
        return os.readlink(self._source + path)

    def open(self, path, flags):
        rule = self._arrive("open", path)
        self._fail(rule, path)
        file = OpenFile(os.open(self._source + path, os.O_RDONLY))
        with self._lock:
            handle = self._next
            self._next += 1
            self._files[handle] = file
        return handle

    def read(self, path, size, offset, fh):
        file = self._files[fh]
        first, file.begun = not file.begun, True
        rule = self._arrive("read", path, first)
        self._fail(rule, path)
        if rule is not None and rule.fault == "short":
            file.end = rule.size
        if rule is not None and rule.fault in ("truncate", "grow", "touch"):
            self._change(rule, path)
        if rule is not None and rule.fault == "partial":
            size = min(size, rule.size)
        data = self._content(path, file, size, offset)
        if rule is not None and rule.fault == "zeros":
            start = min(max(rule.offset - offset, 0), len(data))
            end = min(max(rule.offset + rule.size - offset, start), len(data))
            data = data[:start] + bytes(end - start) + data[end:]
        return data

    def release(self, path, fh):
        self._faults.count("release")
        with self._lock:
            file = self._files.pop(fh)
        os.close(file.descriptor)
        return 0

    def readdir(self, path, fh):
        return [".", "..", *os.listdir(self._source + path)]

    def end(self):
        """Let everything go that waits, for ever."""
        self._ending.set()
        self._faults.set(Settings())
        self._faults.release()

    def _arrive(self, operation, path, first=True):
        seconds, rule = self._faults.arrive(operation, os.path.basename(path), first)
        if seconds:
            self._ending.wait(seconds)
        return rule

    def _fail(self, rule, path):
        if rule is None:
            return
        if rule.fault == "hang":
            self._faults.hang(os.path.basename(path))
        elif hasattr(errno, rule.fault):
            raise mfusepy.FuseOSError(getattr(errno, rule.fault))

    def _change(self, rule, path):
        with self._lock:
            change = self._changes.setdefault(path, Change())
            if rule.fault == "touch":
                change.seconds += 1
            elif rule.fault == "truncate":
                change.size = rule.size
            else:
                change.size = (change.size or os.path.getsize(self._source + path)) + rule.size

    def _content(self, path, file, size, offset):
        change = self._changes.get(path)
        length = change.size if change and change.size is not None else os.fstat(file.descriptor).st_size
        if file.end is not None:
            length = min(length, file.end)
        wanted = max(min(size, length - offset), 0)
        return os.pread(file.descriptor, wanted, offset).ljust(wanted, b"\0")  # what it grew by is zeros


def obey(faults, order):
    """Do what a line of standard input says and return the answer."""
    match order.pop("do", None):
        case "set":
            faults.set(Settings(**order))
        case "release":
            faults.release(**order)
        case "counts":
            pass
        case other:
            raise ValueError(f"do={other!r} is not 'set', 'release' or 'counts'")
    return {"counts": faults.snapshot()}


def listen(faults, operations, mountpoint):
    """Obey standard input to its end, then unmount."""
    for line in sys.stdin:
        try:
            answer = obey(faults, json.loads(line))
        except (TypeError, ValueError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    operations.end()
    subprocess.run(["fusermount3", "-u", "-z", "-q", mountpoint], check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("mountpoint")
    parser.add_argument("--cached", action="store_true", help="let the kernel keep attributes, names and content")
    arguments = parser.parse_args()
    faults = Faults(Settings())
    operations = FaultFS(os.path.realpath(arguments.source), faults)
    threading.Thread(target=listen, args=(faults, operations, arguments.mountpoint), daemon=True).start()
    seconds = 1.0 if arguments.cached else 0.0  # 1.0 is what libfuse and its users have as it comes
    options = {"attr_timeout": seconds, "entry_timeout": seconds, "negative_timeout": 0.0}
    if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) >= (3, 12):  # before, there was no limit
        options |= {"max_threads": MOST_AT_ONCE, "max_idle_threads": MOST_AT_ONCE}
    if os.geteuid() == 0:  # anybody else needs a line in /etc/fuse.conf for it
        options["allow_other"] = True
    mfusepy.FUSE(
        operations,
        arguments.mountpoint,
        foreground=True,
        nothreads=False,
        ro=True,
        direct_io=not arguments.cached,
        fsname="faultfs",
        **options,
    )


if __name__ == "__main__":
    main()
