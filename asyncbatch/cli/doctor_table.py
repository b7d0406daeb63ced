"""Which file system a path is on, by the kernel's table of mounts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mount", "find_mount", "parse_mounts"]

_NETWORK = ("nfs", "nfs4", "cifs", "smb3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of /proc/self/mountinfo.

    Attributes:
        kind: The file system's type, such as "nfs4" or "fuse.sshfs".
        source: What is mounted.
        point: Where.
        options: Of the mount and of the file system, without repetitions.
        device: Its device's minor number, by which the kernel also numbers FUSE connections.
    """

    kind: str
    source: str
    point: str
    options: tuple[str, ...]
    device: int = 0

    def option(self, name: str) -> str | None:
        """Return an option's value, "" if it has none, None if it is not set."""
        for option in self.options:
            key, _, value = option.partition("=")
            if key == name:
                return value
        return None

    @property
    def remote(self) -> bool:
        """Whether another program or machine answers, so that an answer within microseconds is not its own."""
        return self.kind.startswith("fuse") or self.kind in _NETWORK

    @property
    def program(self) -> str:
        """The program of a FUSE mount, or "" where neither type nor source tells."""
        named = f"{self.kind} {self.source}".lower()
        known = ("sshfs", "rclone", "s3fs", "goofys", "mountpoint-s3", "gcsfuse", "blobfuse")
        return next((name for name in known if name in named), "")


def find_mount(path: str, table: Path = Path("/proc/self/mountinfo")) -> Mount | None:
    """Return the mount that `path` is on; None where the system has no such table."""
    try:
        text = table.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    real = os.path.realpath(path)
    found = None
    for mount in parse_mounts(text):  # a later one hides an earlier one at the same place
        below = f"{mount.point.rstrip('/')}/"
        if (real == mount.point or real.startswith(below)) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def parse_mounts(text: str) -> list[Mount]:
    """Read mountinfo as proc(5) describes it: the fields after the lone hyphen are type, source and options."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        options = dict.fromkeys([*fields[5].split(","), *rest[2].split(",")])
        mounts.append(
            Mount(
                kind=rest[0],
                source=_unescaped(rest[1]),
                point=_unescaped(fields[4]),
                options=tuple(options),
                device=int(fields[2].rpartition(":")[2]),
            )
        )
    return mounts


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
