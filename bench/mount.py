"""Storage that takes its time: a real FUSE mount of a folder, by slowfs.c, compiled when it is first asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SOURCE = Path(__file__).with_name("slowfs.c")
DEADLINE = 10.0  # seconds until a mount must be there, and until it must be gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """What a mount is like.

    Attributes:
        open_ms: What an open takes.
        read_ms: What a read request takes; a file of up to 128 KB is one.
        jitter: Both are multiplied by a number drawn from 1 ± jitter.
        tail: Share of the opens that take longer.
        tail_ms: By how much.
    """

    open_ms: float
    read_ms: float
    jitter: float = 0.2
    tail: float = 0.0
    tail_ms: float = 0.0

    def __str__(self) -> str:
        tail = f", {self.tail:.0%} of the opens {self.tail_ms / 1e3:g} s late" if self.tail else ""
        return f"open {self.open_ms:g} ms, read {self.read_ms:g} ms, ±{self.jitter:.0%}{tail}"


class Mounted:
    """A mount that is there.

    Attributes:
        path: Where its files are seen.
    """

    def __init__(self, path: Path, daemon: subprocess.Popen[bytes]) -> None:
        self.path = path
        self._daemon = psutil.Process(daemon.pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time that its program has used."""
        times = self._daemon.cpu_times()
        return float(times.user + times.system)


@contextmanager
def mounted(mount: Mount, source: Path) -> Iterator[Mounted]:
    """Show `source` as `mount` does.

    Raises:
        SystemExit: There is no FUSE here, or no compiler for its program.
    """
    program = compiled()
    settings = (mount.open_ms, mount.read_ms, mount.jitter, mount.tail, mount.tail_ms)
    with tempfile.TemporaryDirectory(prefix="asyncbatch-mount-") as folder:
        command = [str(program), str(source.resolve()), folder, *map(str, settings)]
        daemon = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            wait_until(lambda: os.path.ismount(folder), daemon)
            yield Mounted(Path(folder), daemon)
        finally:
            if daemon.stdin is not None:
                daemon.stdin.close()  # at the end of it the program unmounts and ends
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(DEADLINE)
            daemon.kill()
            daemon.wait()
            subprocess.run(["fusermount3", "-u", "-z", "-q", folder], check=False, stderr=subprocess.DEVNULL)


def compiled() -> Path:
    """Return the program, built now unless it is there and newer than its source."""
    program = Path(tempfile.gettempdir()) / "asyncbatch-bench" / "slowfs"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        if missing := [name for name in ("cc", "pkg-config", "fusermount3") if shutil.which(name) is None]:
            raise SystemExit(f"{', '.join(missing)} missing: apt install gcc pkg-config fuse3 libfuse3-dev")
        program.parent.mkdir(parents=True, exist_ok=True)
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True
        ).stdout.split()
        subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE), *flags], check=True)
    return program


def wait_until(is_there, daemon):
    end = time.monotonic() + DEADLINE
    while not is_there():
        if daemon.poll() is not None or time.monotonic() > end:
            raise SystemExit("nothing was mounted; is there a /dev/fuse, and may this user mount?")
        time.sleep(0.01)
