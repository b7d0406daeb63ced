"""The options of each kind of file system that matter for reading many small files.

The names come from: nfs(5) of nfs-utils; mount.cifs(8) of cifs-utils and fs/smb/client/fs_context.c of Linux;
mount.fuse3(8), fuse(4) and lib/fuse_loop_mt.c of libfuse (FUSE_LOOP_MT_DEF_MAX_THREADS 10, since 3.12); `sshfs -h`,
sshfs(1) and sshfs.c of sshfs 3.7; `rclone mount --help`; s3fs(1); internal/flags.go of goofys; doc/CONFIGURATION.md of
mountpoint-s3; the pages of gcsfuse and blobfuse2 about their command lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asyncbatch.cli.doctor_curve import Diagnosis
from asyncbatch.cli.doctor_table import Mount

__all__ = ["SLOTS", "advice"]

SLOTS = (8, 14)  # reads at once by which libfuse's 10 threads or the kernel's 12 background requests are known
KEEP = 600  # seconds to keep attributes and names: training data do not change under way


def advice(mount: Mount | None, found: Diagnosis, *, opens: float, kept: bool, size: float) -> list[str]:
    """Name what to change at the mount; nothing where its kind has nothing of use.

    Args:
        mount: Where the files are.
        found: What limits it.
        opens: Which share of a read's time opening takes, 0 to 1.
        kept: Whether a file that was read a moment ago comes from memory.
        size: Bytes a file, on average.
    """
    if mount is None:
        return []
    if found.limit in ("memory", "processor"):
        return _against_hanging(mount)
    case = _Case(found, opens, kept, size)
    lines = []
    if mount.kind.startswith("fuse"):
        lines = _PROGRAMS.get(mount.program, _any_fuse)(mount, case) + _background(mount, case)
    elif mount.kind in _NETWORK:
        lines = _NETWORK[mount.kind](mount, case)
    return lines + _against_hanging(mount)


def _against_hanging(mount: Mount) -> list[str]:
    """Name what makes reads fail, where they would hang without end once the server is away, however fast it is now."""
    if mount.kind in ("nfs", "nfs4") and mount.option("softerr") is None and mount.option("soft") is None:
        return ["softerr,timeo=100,retrans=3: errors after a while, where the default, hard, waits for ever"]
    if mount.program == "sshfs":
        line = (
            "-o reconnect,ServerAliveInterval=15: a lost connection is noticed after 45 s and made anew, where a read "
        )
        return [line + "would hang (the table of mounts does not say whether it is set)"]
    return []


@dataclass(frozen=True, slots=True)
class _Case:
    found: Diagnosis
    opens: float
    kept: bool
    size: float

    @property
    def crowded(self) -> bool:
        return self.found.limit in ("slots", "bandwidth")

    @property
    def few_slots(self) -> bool:
        return self.found.limit == "slots" and SLOTS[0] <= self.found.at_once <= SLOTS[1]

    @property
    def slow_opens(self) -> bool:
        return self.opens > 0.4


def _nfs(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.crowded and mount.option("nconnect") is None:
        lines.append("nconnect=8: that many connections to the server instead of one (up to 16)")
    if case.found.limit == "slots" and 48 <= case.found.at_once <= 80 and (mount.option("vers") or "")[:3] >= "4.1":
        lines.append(
            "nfs.max_session_slots=180 (a parameter of the kernel module): NFS 4.1 asks for 64 requests at once"
        )
    if int(mount.option("rsize") or 1 << 20) < min(case.size, 1 << 20):
        lines.append("rsize=1048576: a whole picture in one request")
    if case.slow_opens:
        lines.append(f"ro,nocto,actimeo={KEEP}: no question to the server at every open whether a file has changed")
    return lines  # not noatime: nfs(5) says that it has no effect


def _cifs(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.crowded and int(mount.option("max_channels") or 1) < 2:
        lines.append("multichannel,max_channels=4: several connections to the server, where it offers them")
    if int(mount.option("rsize") or 1 << 22) < min(case.size, 1 << 22):
        lines.append("rsize=4194304: a whole picture in one request")
    if case.slow_opens:
        lines.append(f"ro,actimeo={KEEP}: attributes are kept, not asked for again after a second")
    if not case.kept and mount.option("cache") != "loose":
        lines.append("cache=loose: the system keeps pictures in memory; only where no one else writes to them")
    return lines


def _sshfs(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.few_slots:
        lines.append(
            "sshfs has no option for more requests at once. Mount the tree with another program, such as rclone"
        )
    if case.crowded:
        lines.append("-o max_conns=4: several ssh connections, each with a processor and a window of its own")
        lines.append("-o Compression=no: pictures are compressed already")
    if case.slow_opens:
        lines.append(
            f"-o attr_timeout={KEEP},entry_timeout={KEEP},dcache_timeout={KEEP}: names and attributes are kept, not "
            "asked for again after 1 and 20 s"
        )
    if not case.kept:
        lines.append("-o auto_cache: the system keeps pictures in memory until they change (kernel_cache: for ever)")
    return lines


def _rclone(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.slow_opens:
        lines.append("--attr-timeout 10m --dir-cache-time 24h: names and attributes are kept, not asked for again")
        lines.append("--no-modtime: where reading the time of an object costs a request of its own, as on S3 and Swift")
    if not case.kept:
        lines.append("--vfs-cache-mode full --vfs-cache-max-size 100G: from the second epoch on the local disk answers")
    if case.found.limit == "bandwidth":
        lines.append("--buffer-size 0: nothing is read ahead of what is asked for, which is the whole file")
    return [*lines, "--read-only: nothing is kept ready for writing"]


def _s3fs(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.slow_opens:
        lines.append(
            "-o stat_cache_expire=86400,max_stat_cache_size=1000000: attributes of all pictures are kept (default: "
            "100,000 for 15 minutes)"
        )
    if case.crowded:
        lines.append(
            "-o max_thread_count=64 (s3fs 1.96 and newer): so many requests to the store at once, 10 otherwise"
        )
    if not case.kept:
        lines.append("-o use_cache=/local/folder: from the second epoch on the local disk answers")
    return lines


def _goofys(mount: Mount, case: _Case) -> list[str]:
    keep = "--stat-cache-ttl 24h --type-cache-ttl 24h: attributes and names are kept, for a minute otherwise"
    return [keep] if case.slow_opens else []


def _mountpoint(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.crowded:
        lines.append("--max-threads 128: it serves 16 operations at once unless told otherwise")
    if case.slow_opens:
        lines.append("--metadata-ttl indefinite --read-only: attributes are kept, not asked for again")
    if not case.kept:
        lines.append("--cache /local/folder: from the second epoch on the local disk answers")
    return lines


def _gcsfuse(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.slow_opens:
        lines.append(
            "--metadata-cache-ttl-secs=-1 --stat-cache-max-size-mb=-1 --type-cache-max-size-mb=-1: attributes of all "
            "pictures are kept"
        )
    if case.crowded:
        lines.append("--max-conns-per-host=0: no limit to the connections, where one is set")
    if not case.kept:
        lines.append("--cache-dir=/local/folder --file-cache-max-size-mb=-1: from the second epoch on the disk answers")
    return lines


def _blobfuse(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.slow_opens:
        lines.append(f"--attr-timeout={KEEP} --entry-timeout={KEEP} --attr-cache-timeout={KEEP}: attributes are kept")
    if not case.kept:
        lines.append("--file-cache-timeout=86400 --tmp-path=/local/folder: from the second epoch on the disk answers")
    return [*lines, "--read-only: nothing is kept ready for writing"]


def _any_fuse(mount: Mount, case: _Case) -> list[str]:
    lines = []
    if case.few_slots:
        lines.append(
            "-o max_threads=64 and -o clone_fd: libfuse 3.12 and newer answers on 10 threads unless told otherwise"
        )
    if case.slow_opens:
        lines.append(f"-o attr_timeout={KEEP},entry_timeout={KEEP}: names and attributes are kept, for 1 s otherwise")
    if not case.kept:
        lines.append("-o auto_cache: the system keeps pictures in memory until they change (kernel_cache: for ever)")
    return lines


def _background(mount: Mount, case: _Case, connections: Path = Path("/sys/fs/fuse/connections")) -> list[str]:
    if not case.few_slots:
        return []
    place = connections / str(mount.device) / "max_background"
    try:
        most = int(place.read_text())
    except (OSError, ValueError):
        most = 0
    if most > 2 * SLOTS[1]:
        return []
    now = f"it is {most} now" if most else "12 unless the program says otherwise; fusectl has to be mounted"
    return [
        f"echo 128 | sudo tee {place}: so many reads ahead may be under way in the kernel ({now})",
        f"echo 96 | sudo tee {place.with_name('congestion_threshold')}: beyond it the kernel reads less ahead",
    ]


_NETWORK: dict[str, Callable[[Mount, _Case], list[str]]] = {"nfs": _nfs, "nfs4": _nfs, "cifs": _cifs, "smb3": _cifs}
_PROGRAMS: dict[str, Callable[[Mount, _Case], list[str]]] = {
    "sshfs": _sshfs,
    "rclone": _rclone,
    "s3fs": _s3fs,
    "goofys": _goofys,
    "mountpoint-s3": _mountpoint,
    "gcsfuse": _gcsfuse,
    "blobfuse": _blobfuse,
}
