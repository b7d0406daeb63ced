"""The fault file system from outside: start it, tell it, kill it, and leave nothing of it."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

DEADLINE = 20.0  # seconds for what takes milliseconds on an idle machine; passing it is a failure


def why_not():
    """Return the reason for which nothing can be mounted here, or None."""
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    if shutil.which("fusermount3") is None:
        return "there is no fusermount3; on Debian it comes with fuse3"
    if ctypes.util.find_library("fuse3") is None:
        return "there is no libfuse3; on Debian it comes with fuse3"
    if importlib.util.find_spec("mfusepy") is None:
        return "mfusepy is not installed; pip install mfusepy"
    return None


class FaultMount:
    """A folder, mounted by a process of its own that misbehaves as it is told.

    Args:
        source: The folder that is shown.
        mountpoint: An empty folder; it is there again, and empty, afterwards.
        cached: Let the kernel keep what it has read; see faultfs.py.
        settings: As for `set`; the mount knows them before anything can be read from it.

    Attributes:
        path: Where the files are seen.
    """

    def __init__(self, source, mountpoint, *, cached=False, **settings):
        self.source, self.path = Path(source), Path(mountpoint)
        self._cached = cached
        self._daemon = None
        self.mount(**settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def mount(self, **settings):
        """Start the daemon, with counts at zero, and return when files can be read."""
        outside = os.stat(self.path).st_dev
        command = [sys.executable, str(Path(__file__).with_name("faultfs.py")), str(self.source), str(self.path)]
        if self._cached:
            command.append("--cached")
        self._daemon = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        try:
            self.set(**settings)
            end = time.monotonic() + DEADLINE
            while _device(self.path) == outside:
                if self._daemon.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"nothing was mounted; the daemon's exit status is {self._daemon.poll()}")
                time.sleep(0.005)
        except BaseException:
            self.close()
            raise

    def set(self, **settings):
        """Go by other settings, those of `faultrules.Settings` with rules as dicts; counts stay."""
        self._ask({"do": "set", **settings})

    def release(self, names=None, count=None):
        """Let calls go on that hang: all, those of these files, or the oldest so many."""
        names = None if names is None else sorted(names)
        self._ask({"do": "release", "names": names, "count": count})

    def counts(self):
        """Return how often what happened; what never did is missing."""
        return self._ask({"do": "counts"})

    def count(self, label):
        """Return how often this happened, as "open", "read EIO" or, of those now under way, "hanging"."""
        return self.counts().get(label, 0)

    def faults(self):
        """Return the number of all faults so far; positive, or a test of faults has tested nothing."""
        return sum(number for label, number in self.counts().items() if " " in label)

    def wait_for(self, label, number=1):
        """Wait until this has happened so often."""
        end = time.monotonic() + DEADLINE
        while (seen := self.count(label)) < number:
            if time.monotonic() > end:
                raise TimeoutError(f"{label}: {seen} of {number} after {DEADLINE} s; {self.counts()}")
            time.sleep(0.005)

    def stop(self):
        """Freeze the daemon: it is there and says nothing."""
        self._daemon.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._daemon.pid, os.WSTOPPED)  # until the last of its threads stands still

    def resume(self):
        """Let a frozen daemon go on."""
        self._daemon.send_signal(signal.SIGCONT)

    def kill(self):
        """Kill the daemon and leave the mount without one: what was under way fails, all else is ENOTCONN."""
        self._daemon.kill()
        self._forget_daemon()

    def unmount(self):
        """Take the mount away, dead or alive, whatever is open; what is left is an empty folder."""
        command = ["fusermount3", "-u", "-z", "-q", str(self.path)]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=DEADLINE)

    def close(self):
        """Release what hangs, unmount, and end the daemon, whatever state they are in."""
        if self._daemon is None:
            self.unmount()
            return
        self.resume()
        with suppress(OSError):
            self._daemon.stdin.close()  # at its end it releases, unmounts and exits
        with suppress(subprocess.TimeoutExpired):
            self._daemon.wait(5.0)
        self._daemon.kill()  # does nothing if it has ended
        self._forget_daemon()
        self.unmount()

    def _forget_daemon(self):
        self._daemon.wait(DEADLINE)
        with suppress(OSError):
            self._daemon.stdin.close()
        self._daemon.stdout.close()
        self._daemon = None

    def _ask(self, order):
        self._daemon.stdin.write(json.dumps(order).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._daemon.stdout], [], [], DEADLINE)[0]:
                raise TimeoutError(f"the fault file system did not answer {order['do']!r} within {DEADLINE} s")
            part = os.read(self._daemon.stdout.fileno(), 65536)
            if not part:
                raise RuntimeError(f"the fault file system ended; its exit status is {self._daemon.wait(DEADLINE)}")
            line += part
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["counts"]


def _device(path):
    # The mount may have getattr faults from the start; any answer but the folder's own is the mount's.
    try:
        return os.stat(path).st_dev
    except OSError:
        return None
