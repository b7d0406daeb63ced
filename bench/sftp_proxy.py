"""A real network mount on one machine: sshfs, straight to an SFTP server, over a wire that is as long as it is told.

    python -m bench.sftp_proxy

sshfs connects to a port of 127.0.0.1 (`directport`: no ssh, no keys, no sshd); each connection gets an sftp-server of
its own, and every piece of data, either way, arrives `delay` seconds after it was sent: latency, not bandwidth, for any
amount may be on its way. Lines on standard input tell it what to do, "delay 0.01", "stall", "release", "cut" or
"counts", and it answers each with a line of JSON, its counts. It ends, with its servers, when standard input does.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import psutil

PLACES = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh")  # of sftp-server: Debian, Fedora, Arch
CHUNK = 1 << 18
DEADLINE = 20.0  # seconds for what takes milliseconds on an idle machine; passing it is a failure


class Wire:
    """What all connections go through.

    Attributes:
        delay: Seconds on the way, either way.
        flowing: Unset while nothing arrives.
        counts: "connections", "cuts" of connections, "bytes" that arrived, "delayed" of them, and "stalled" pieces.
    """

    def __init__(self):
        self.delay = 0.0
        self.flowing = threading.Event()
        self.flowing.set()
        self.counts = Counter()
        self._lock = threading.Lock()
        self._ends = {}

    def count(self, **numbers):
        with self._lock:
            self.counts.update(numbers)

    def connect(self, client):
        """Give this client a server, and return when both have ended."""
        ours, its = socket.socketpair()
        with its:
            server = subprocess.Popen([sftp_server(), "-R"], stdin=its, stdout=its)
        with client, ours:
            with self._lock:
                self._ends[client] = ours
                self.counts["connections"] += 1
            ways = [threading.Thread(target=self._carry, args=way) for way in ((client, ours), (ours, client))]
            for way in ways:
                way.start()
            for way in ways:
                way.join()
            with self._lock:
                self._ends.pop(client, None)
        server.wait()

    def cut(self):
        """End all connections as they are; what was on its way is lost."""
        with self._lock:
            self.counts["cuts"] += len(self._ends)
            for pair in self._ends.items():
                for end in pair:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self._ends.clear()

    def _carry(self, source, target):
        sent = SimpleQueue()
        arrival = threading.Thread(target=self._arrive, args=(sent, target))
        arrival.start()
        with suppress(OSError):
            while data := source.recv(CHUNK):
                sent.put((time.monotonic() + self.delay, data))
        sent.put((0.0, b""))
        arrival.join()

    def _arrive(self, sent, target):
        with suppress(OSError):
            while (item := sent.get())[1]:
                due, data = item
                if (early := due - time.monotonic()) > 0:
                    time.sleep(early)
                    self.count(delayed=len(data))
                if not self.flowing.is_set():
                    self.count(stalled=1)
                    self.flowing.wait()
                target.sendall(data)
                self.count(bytes=len(data))
            target.shutdown(socket.SHUT_WR)


def sftp_server():
    """Return the path of the program, or None if it is not there."""
    return shutil.which("sftp-server", path=os.pathsep.join(PLACES))


def main():
    wire = Wire()
    listener = socket.create_server(("127.0.0.1", 0))

    def listen():
        with suppress(OSError):  # it was shut down
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=wire.connect, args=(client,)).start()

    threading.Thread(target=listen, daemon=True).start()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["delay", seconds]:
                wire.delay = float(seconds)
            case ["stall"]:
                wire.flowing.clear()
            case ["release"]:
                wire.flowing.set()
            case ["cut"]:
                wire.cut()
        print(json.dumps(wire.counts), flush=True)
    listener.shutdown(socket.SHUT_RDWR)
    wire.flowing.set()
    wire.cut()


class Sshfs:
    """A folder, mounted read-only by sshfs over a wire of its own.

    Args:
        source: The folder that is shown.
        path: An empty folder; it is there again, and empty, afterwards.
        delay_ms: What the way takes, either way; an answer takes twice that.
        options: More of sshfs's, as "reconnect".

    Attributes:
        path: Where the files are seen.

    Raises:
        RuntimeError: Nothing was mounted.
    """

    def __init__(self, source: Path, path: Path, delay_ms: float = 0.0, options: Sequence[str] = ()) -> None:
        self.path = path
        self._source = source.resolve()
        self._options = options
        self._sshfs: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-m", __name__]
        root = Path(__file__).parents[1]
        self._proxy = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        try:
            self._port = json.loads(self._proxy.stdout.readline())["port"]
            self.tell(f"delay {delay_ms / 1e3}")
            self.mount()
        except BaseException:
            self.close()
            raise

    def tell(self, order: str = "counts") -> Counter[str]:
        """Tell the wire "delay SECONDS", "stall", "release", "cut" or nothing, and return its counts."""
        self._proxy.stdin.write(order.encode() + b"\n")
        self._proxy.stdin.flush()
        return Counter(json.loads(self._proxy.stdout.readline()))

    def wait_for(self, label: str, number: int = 1) -> None:
        """Wait until the wire has counted so many."""
        _wait_until(lambda: self.tell()[label] >= number, f"{label}={number}")

    def mount(self) -> None:
        """Start sshfs and return when files can be read."""
        options = ",".join(["ro", f"directport={self._port}", *self._options])
        outside = self.path.stat().st_dev
        self._sshfs = subprocess.Popen(
            ["sshfs", "-f", "-o", options, f"127.0.0.1:{self._source}", str(self.path)], stdin=subprocess.DEVNULL
        )

        def is_there():
            if self._sshfs.poll() is not None:
                raise RuntimeError(f"nothing was mounted; the exit status of sshfs is {self._sshfs.returncode}")
            with suppress(OSError):
                return self.path.stat().st_dev != outside

        _wait_until(is_there, "a mount")

    def kill(self) -> None:
        """Kill sshfs and leave the mount without it: what was under way fails, all else is ENOTCONN."""
        self._sshfs.kill()
        self._sshfs.wait(DEADLINE)

    def wait(self) -> int:
        """Return the exit status of sshfs when it has ended, as it does when its connection is cut."""
        return self._sshfs.wait(DEADLINE)

    def unmount(self) -> None:
        """Take the mount away, dead or alive, whatever is open."""
        command = ["fusermount3", "-u", "-z", "-q", str(self.path)]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=DEADLINE)

    def cpu_seconds(self) -> float:
        """Return the CPU time that sshfs, the proxy and its servers have used."""
        proxy = psutil.Process(self._proxy.pid)
        times = [process.cpu_times() for process in (psutil.Process(self._sshfs.pid), proxy, *proxy.children())]
        ended = times[1].children_user + times[1].children_system
        return float(sum(time.user + time.system for time in times) + ended)

    def close(self) -> None:
        """Let go what waits, unmount, and end all processes."""
        with suppress(OSError, ValueError):
            self.tell("release")
        self.unmount()  # and sshfs ends
        if self._sshfs is not None:
            with suppress(subprocess.TimeoutExpired):
                self._sshfs.wait(5.0)
        with suppress(OSError):
            self._proxy.stdin.close()  # at its end the proxy ends
        for process in (self._sshfs, self._proxy):
            if process is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5.0)
                process.kill()  # does nothing if it has ended
                process.wait()
        self._proxy.stdout.close()
        self.unmount()


@contextmanager
def sshfs_mounted(source: Path, delay_ms: float, options: Sequence[str] = ()) -> Iterator[Sshfs]:
    """Show `source` through sshfs over a wire of `delay_ms` either way.

    Raises:
        SystemExit: sshfs or what it needs is not there.
    """
    if reason := why_no_sshfs():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="asyncbatch-sshfs-") as folder:
        mounted = Sshfs(source, Path(folder), delay_ms, options)
        try:
            yield mounted
        finally:
            mounted.close()


def why_no_sshfs() -> str | None:
    """Return the reason for which sshfs cannot be used here, or None."""
    there = {"fuse3": shutil.which("fusermount3"), "sshfs": shutil.which("sshfs"), "openssh-sftp-server": sftp_server()}
    if missing := [package for package, program in there.items() if program is None]:
        return f"what is missing here comes on Debian with {' '.join(missing)}"
    return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "there is no /dev/fuse that this user may open"


def _wait_until(is_so, what):
    end = time.monotonic() + DEADLINE
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not after {DEADLINE} s")
        time.sleep(0.005)


if __name__ == "__main__":
    main()
