"""`asyncbatch doctor`: what it says of which storage, its bounds, and what it does when nothing answers."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import pytest

from asyncbatch.cli import doctor_files, doctor_probe, main
from asyncbatch.cli.doctor_curve import diagnose
from asyncbatch.cli.doctor_files import Listing, find_files, within
from asyncbatch.cli.doctor_mounts import advice
from asyncbatch.cli.doctor_plot import _beside, _gain, draw_curve
from asyncbatch.cli.doctor_probe import LEVELS, Level, Probe, Reading
from asyncbatch.cli.doctor_report import Report
from asyncbatch.cli.doctor_table import Mount, find_mount, parse_mounts
from asyncbatch.cli.terminal import CommandError


def _storage(  # what storage of a kind would be measured as
    *, slots=10**6, opening=0.02, reading=0.01, size=60_000, line=1e12, processor=0.1, late=0.0, levels=LEVELS
):
    """Return levels of storage that runs `slots` reads at once over a line of so many bytes a second."""
    made = []
    for readers in levels:
        crowd = max(1.0, readers / slots)
        carrying = max(reading * crowd, readers * size / line - opening)  # while others open
        took = opening * crowd + carrying
        level = Level(readers, began=100.0, full=10 * took, processor=processor)
        for number in range(10 * readers):
            start = 100.0 + number // readers * took
            level.readings.append(Reading(start, start + opening * crowd, start + took, size))
        if late:
            first = level.readings[0]
            level.readings[0] = Reading(first.start, first.opened, first.start + late, size)
        made.append(level)
    return made


def _report(levels, ended, mount=None, **kwargs):
    found = diagnose(levels, ended)
    listing = Listing(files=["a"] * 12, entries=100, folders=2, seconds=0.5)
    lines = advice(mount, found, opens=kwargs.pop("opens", 0.6), kept=kwargs.pop("kept", False), size=60_000)
    return Report(
        path="pictures", mount=mount, listing=listing, levels=levels, again=[], ended=ended, found=found, advice=lines
    )


def _mount(kind, *options, source="server:/x"):
    return Mount(kind=kind, source=source, point="/mnt", options=("rw", *options), device=7)


UP_TO_64 = LEVELS[:7]


@pytest.mark.parametrize(
    ("levels", "ended", "limit", "readers", "at_once", "says"),
    [
        (_storage(slots=10, levels=UP_TO_64), "plateau", "slots", 16, 10, "about 10 and gives 333 files/s"),
        (_storage(slots=1, levels=LEVELS[:3]), "plateau", "slots", 1, 1, "one after the other"),
        (_storage(), "most", "latency", 128, 128, "more would get more still"),
        (_storage(levels=LEVELS[:4]), "files", "latency", 8, 8, "only 12 files"),
        (_storage(line=20e6, levels=UP_TO_64), "plateau", "bandwidth", 16, 10, "20.0 MB/s"),
        (_storage(line=118e6, levels=LEVELS), "plateau", "bandwidth", 64, 59, "one of 1 Gb/s"),
        (_storage(opening=5e-5, reading=1e-4, levels=UP_TO_64), "most", "memory", 64, 64, "as from memory"),
        (_storage(processor=0.9, slots=30, levels=LEVELS), "plateau", "processor", 32, 30, "This process"),
        (_storage(levels=(1,)), "files", "unknown", 1, 1, "Too little"),
        (_storage(levels=(1, 2)), "time", "unknown", 2, 2, "--seconds 30"),
    ],
    ids=["ten", "one", "grows", "few-files", "line", "gigabit", "memory", "processor", "one-file", "slow"],
)
def test_the_curve_tells_what_limits(levels, ended, limit, readers, at_once, says):
    """From the curve of a known kind of storage follow its limit, the readers it needs, and words that name it."""
    report = _report(levels, ended)
    assert report.found.limit == limit
    assert report.found.readers == readers
    assert report.found.at_once == pytest.approx(at_once, rel=0.15)
    assert says in " ".join(report.text().split())
    json.dumps(report.json())


def test_ten_at_once_is_known_on_fuse():
    """On a FUSE mount that runs ten reads at once the threads of libfuse and the kernel's limit are named."""
    levels = _storage(slots=10, levels=UP_TO_64)
    text = " ".join(_report(levels, "plateau", _mount("fuse.own")).text().split())
    assert "libfuse answers on 10 threads" in text
    assert "max_threads=64" in text
    assert "/sys/fs/fuse/connections/7/max_background" in text
    elsewhere = " ".join(_report(levels, "plateau", _mount("nfs4")).text().split())
    assert "libfuse" not in elsewhere


def test_late_answers_want_read_ahead():
    """A read that comes late at a high rate wants a deeper look-ahead, and the line is printed; else none is."""
    fast = _storage(reading=0.01, size=1_000_000)
    why, lines = _report(fast, "most").settings()
    assert "defaults are right" not in why
    assert re.fullmatch(r'ab\.Loader\(…, read_ahead="0\.3GB"\)', lines[0])
    late = _report(_storage(late=2.0), "most")
    assert late.settings()[1] == ['ab.Loader(…, read_ahead="1.1GB")']
    assert "uneven" in late.verdict()
    why, lines = _report(_storage(slots=10, levels=UP_TO_64), "plateau").settings()
    assert lines == []
    assert "defaults are right" in why


@pytest.mark.parametrize(
    ("mount", "case", "names"),
    [
        (
            _mount("nfs4", "vers=4.2", "rsize=32768"),
            {},
            ["nconnect=8", "rsize=1048576", "nocto,actimeo=600", "softerr"],
        ),
        (_mount("nfs", "nconnect=4", "rsize=1048576", "hard"), {"opens": 0.1}, ["softerr,timeo=100"]),
        (_mount("nfs", "nconnect=4", "rsize=1048576", "softerr"), {"opens": 0.1}, []),
        (_mount("nfs", "nconnect=4", "rsize=1048576", "soft"), {"opens": 0.1}, []),
        (_mount("cifs", "max_channels=1"), {}, ["max_channels=4", "ro,actimeo=600", "cache=loose"]),
        (
            _mount("fuse.sshfs"),
            {},
            ["another program", "max_conns=4", "Compression=no", "attr_timeout", "auto_cache", "ServerAliveInterval"],
        ),
        (_mount("fuse.rclone"), {}, ["--attr-timeout", "--no-modtime", "--vfs-cache-mode full", "--read-only"]),
        (_mount("fuse.s3fs"), {}, ["stat_cache_expire", "max_thread_count", "use_cache"]),
        (_mount("fuse", source="goofys"), {}, ["--stat-cache-ttl"]),
        (_mount("fuse", source="mountpoint-s3"), {}, ["--max-threads", "--metadata-ttl", "--cache"]),
        (_mount("fuse.gcsfuse"), {}, ["--metadata-cache-ttl-secs", "--max-conns-per-host", "--cache-dir"]),
        (_mount("fuse.blobfuse2"), {}, ["--attr-timeout", "--file-cache-timeout", "--read-only"]),
        (_mount("fuse.own"), {"kept": True}, ["max_threads=64", "attr_timeout"]),
        (_mount("ext4"), {}, []),
        (None, {}, []),
    ],
    ids=lambda value: value.kind + value.source[:6] if isinstance(value, Mount) else None,
)
def test_options_are_those_of_the_mount(mount, case, names):
    """For each kind of mount its own options are named, and not those that are set already or of no use."""
    found = diagnose(_storage(slots=10, levels=UP_TO_64), "plateau")
    lines = advice(mount, found, **{"opens": 0.6, "kept": False, "size": 60_000, **case})
    lines = [line for line in lines if "/connections/" not in line]
    assert len(lines) == len(names), lines
    for line, name in zip(lines, names, strict=True):
        assert name in line


@pytest.mark.parametrize(
    ("kind", "names"), [("nfs4", ["softerr"]), ("fuse.sshfs", ["ServerAliveInterval"]), ("fuse.own", [])]
)
def test_fast_storage_gets_advice_against_hanging_alone(kind, names):
    """Storage that answers from memory is left as it is, but for what keeps reads from hanging when its server goes."""
    found = diagnose(_storage(opening=1e-5, reading=1e-4), "most")
    lines = advice(_mount(kind), found, opens=0.6, kept=False, size=60_000)
    assert len(lines) == len(names)
    assert all(name in line for name, line in zip(names, lines, strict=True))


def test_text_and_table_name_the_same_figures():
    """The greatest rate is said with the readers that had it; files, parts of files and short spans as they are."""
    levels = _storage(slots=6, opening=5e-5, reading=1e-4, size=1 << 20, levels=UP_TO_64)
    for level, gain in zip(levels, (1, 1, 1, 1, 0.97, 1, 0.99), strict=True):
        level.full /= gain  # between the knee and the greatest rate there is room
    report = _report(levels, "most")
    text = " ".join(report.text().split())
    best = max(levels, key=lambda level: level.files_per_second)
    assert f"With {best.readers} at once it gives {best.files_per_second:,.0f} files/s" in text
    count = sum(len(level.readings) for level in levels)
    assert f"read 12 files, {count / 12:.1f} times each, the first MB of most" in text
    assert "half of them over" not in text
    assert re.search(r"bridges 0\.\d s of this storage", text)
    few = _report(_storage(slots=10, levels=(1,)), "files")
    assert "read 10 files, half of them over 60 KB" in " ".join(few.text().split())


MOUNTINFO = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
40 21 0:52 / /mnt/my\040photos rw,nosuid - fuse.sshfs me@host:/p\040q rw,user_id=0
41 21 0:53 / /mnt rw,noatime shared:9 master:2 - nfs4 server:/e rw,vers=4.2,rsize=1048576
a broken line
"""


def test_mounts_are_read_as_the_kernel_writes_them():
    """Spaces are unescaped, optional fields skipped, options of mount and file system joined."""
    local, sshfs, nfs = parse_mounts(MOUNTINFO)
    assert (local.kind, local.point) == ("ext4", "/")
    assert (sshfs.point, sshfs.source, sshfs.device, sshfs.program) == ("/mnt/my photos", "me@host:/p q", 52, "sshfs")
    assert nfs.options == ("rw", "noatime", "vers=4.2", "rsize=1048576")
    assert (nfs.option("rsize"), nfs.option("noatime"), nfs.option("nconnect")) == ("1048576", "", None)


def test_the_longest_mount_point_counts(tmp_path):
    """A path belongs to the mount nearest to it, whole names compared; without a table the mount is unknown."""
    table = tmp_path / "mountinfo"
    root = os.path.realpath(tmp_path)
    inner = f"41 21 0:53 / {root}/a rw - nfs server:/e rw"
    table.write_text(f"{inner}\n21 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    assert find_mount(str(tmp_path / "a" / "b"), table).kind == "nfs"
    assert find_mount(str(tmp_path / "ab"), table).kind == "ext4"
    assert find_mount(str(tmp_path), tmp_path / "nothing") is None


@pytest.fixture
def photos(tmp_path):
    """Forty small files in two folders; a manifest of them beside."""
    lines = []
    for i in range(40):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000 + i))
        lines.append(f"photos/{'ab'[i % 2]}/{i:02d}.jpg\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("what", ["photos", "list.txt"])
def test_doctor_on_a_real_folder(photos, capsys, what):
    """On a folder and on a manifest it prints the curve and what to write, draws it, and leaves all as it is."""
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    plot = photos / "curve.png"
    assert main(["doctor", str(photos / what), "--seconds", "5", "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    for words in ("one at a time, ms", "at once  ", "What limits it", "What to write", "curve.png"):
        assert words in said
    assert ("entries/s" in said) == (what == "photos")
    assert min(cv2.imread(str(plot)).shape[:2]) > 800
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*") if path != plot} == before


def test_json_is_for_programs(photos, capsys):
    """With --json the output is one JSON text with the figures, and nothing else."""
    assert main(["doctor", str(photos / "photos"), "--seconds", "5", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["listing"]["files"] == 40
    assert [level["readers"] for level in record["levels"]] == list(LEVELS[: len(record["levels"])])
    assert record["levels"][0]["files_per_second"] > 0
    assert record["diagnosis"]["limit"]
    assert record["hung"] == record["errors"] == []


def _spoil(photos):
    (photos / "empty").mkdir()
    (photos / "bad").mkdir()
    os.mkfifo(photos / "bad" / "pipe.jpg")
    (photos / "bad" / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(photos / "pipe")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere cannot be looked at: No such file"),
        (["empty"], "empty holds no file"),
        (["bad"], "none of 2 files"),
        (["pipe"], "pipe or a device"),
        (["photos/a/00.jpg"], "photos/a/00.jpg"),
        (["photos", "--plot", "curve.jpg"], "--plot curve.png"),
        (["photos", "--plot", "no/curve.png"], "no folder no"),
    ],
)
def test_errors_are_one_kind_line(photos, monkeypatch, capsys, arguments, says):
    """A path with nothing to read is told in one line, without waiting for FIFOs."""
    monkeypatch.chdir(photos)
    _spoil(photos)
    assert main(["doctor", *arguments, "--seconds", "2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("asyncbatch: ")
    assert error.count("\n") == 1
    assert says in error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_files_that_fail_are_told(photos, capsys):
    """Files that cannot be read beside others that can are counted and one is named."""
    os.mkfifo(photos / "photos" / "a" / "pipe.jpg")
    assert main(["doctor", str(photos / "photos"), "--seconds", "5"]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert re.search(
        r" 1 file could not be read: \S+pipe.jpg: is not a regular file", said
    )  # however often it was tried


def test_one_file_is_enough_to_say_something(tmp_path, capsys):
    """With one file only one reader is tried."""
    (tmp_path / "1.jpg").write_bytes(b"x" * 5000)
    assert main(["doctor", str(tmp_path), "--seconds", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [level["readers"] for level in record["levels"]] == [1]
    assert record["ended"] == "files"


class Gate:
    """A fake `read` whose reads of some files hang until they are let go."""

    def __init__(self, hang):
        self.hang = hang
        self.open = threading.Event()
        self.hung = 0

    def read(self, path, *, fresh):
        start = time.perf_counter()
        if self.hang(path):
            self.hung += 1
            self.open.wait()
        return Reading(start, start, time.perf_counter(), 1000)


@pytest.mark.parametrize(("hang", "hung"), [("07.jpg", 1), (".jpg", 1)])
def test_a_read_that_hangs_is_told(photos, monkeypatch, capsys, footprint, hang, hung):
    """A hung read ends the measurement in its time with status 1 and its name; its thread ends when it is let go."""
    gate = Gate(lambda path: path.endswith(hang))
    monkeypatch.setattr(doctor_probe, "read", gate.read)
    began = time.perf_counter()
    try:
        assert main(["doctor", str(photos / "photos"), "--seconds", "2"]) == 1
    finally:
        took = time.perf_counter() - began
        gate.open.set()
    said = " ".join("".join(capsys.readouterr()).split())
    assert gate.hung == hung  # the fault took place
    if hang == "07.jpg":
        assert re.search(r"1 read has not returned: \S+07\.jpg is under way", said)
        assert "timeout=5" in said
    else:
        assert "the storage does not answer" in said
    assert took < 20
    footprint.assert_same_soon()


def test_the_command_ends_though_a_read_cannot_be_killed(tmp_path, monkeypatch):
    """On a mount whose program takes reads up and does not answer, the command says so and ends while they hang."""
    monkeypatch.syspath_prepend(Path(__file__).with_name("storage"))
    from faultmount import FaultMount, why_not

    if reason := why_not():
        pytest.skip(reason)
    (tmp_path / "photos").mkdir()
    (tmp_path / "mount").mkdir()
    for i in range(40):
        (tmp_path / "photos" / f"{i:02d}.jpg").write_bytes(bytes(1000))
    command = [sys.executable, "-m", "asyncbatch", "doctor", str(tmp_path / "mount"), "--seconds", "2"]
    with FaultMount(tmp_path / "photos", tmp_path / "mount", rules=[{"fault": "hang", "on": "read"}]) as mount:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert mount.count("hanging") > 0  # it ended before the read did
        mount.release()
    assert done.returncode == 1
    assert "the storage does not answer" in done.stderr
    assert done.stderr.count("asyncbatch: ") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "says"), [(["photos", "--json"], 0, '"levels"'), (["no"], 1, "no cannot be looked at")]
)
def test_the_process_apart_answers_as_one(photos, arguments, status, says):
    """Output, errors and status of the real command are those of the work, wherever that is done."""
    command = [sys.executable, "-m", "asyncbatch", "doctor", *arguments, "--seconds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=photos)
    assert done.returncode == status
    assert says in done.stdout + done.stderr
    assert done.stderr.count("asyncbatch: ") == status


def test_answers_from_near_are_told():
    """Where opening takes long and reading nothing, it is said that the bytes come from memory or a cache nearby."""
    text = _report(_storage(slots=10, reading=5e-5, levels=UP_TO_64), "plateau", _mount("fuse.own")).verdict()
    assert "from memory or a cache on this machine" in text
    assert "cache" not in _report(_storage(slots=10, levels=UP_TO_64), "plateau", _mount("fuse.own")).verdict()
    fast = _storage(opening=5e-5, reading=1e-4, levels=UP_TO_64)
    assert "hardly asked" in _report(fast, "most", _mount("nfs4")).verdict()
    assert "hardly asked" not in _report(fast, "most", _mount("ext4")).verdict()


@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_storage_that_is_silent_from_the_start(photos, monkeypatch, capsys, footprint, call):
    """If not even the folder can be looked at or listed, that is said in time."""
    gate, real = threading.Event(), getattr(os, call)

    def silent(path=".", *args, **kwargs):
        if str(path).endswith("photos"):
            gate.wait()
        return real(path, *args, **kwargs)

    monkeypatch.setattr(doctor_files.os, call, silent)
    try:
        assert main(["doctor", str(photos / "photos"), "--seconds", "1"]) == 1
    finally:
        gate.set()
    assert "the storage does not answer" in capsys.readouterr().err
    footprint.assert_same_soon()


def test_within_passes_results_and_errors(footprint):
    """A call in time gives its result or raises its error, and leaves no thread."""
    assert within(10, lambda: 3, "counting") == 3
    with pytest.raises(OSError, match="no way"):
        within(10, lambda: (_ for _ in ()).throw(OSError(errno.EIO, "no way")), "counting")
    with pytest.raises(CommandError, match="counting has not returned"):
        within(0.01, (gate := threading.Event()).wait, "counting")
    gate.set()
    footprint.assert_same_soon()


def test_so_many_at_once_as_it_says(monkeypatch, footprint):
    """At each level that many reads are under way together, and each reads other files while there are enough."""
    monkeypatch.setattr(doctor_probe, "GAIN", 0)  # every level is of use
    barriers = {readers: threading.Barrier(readers) for readers in LEVELS}
    met, seen = [], []

    def read(path, *, fresh):
        start = time.perf_counter()
        if fresh:
            seen.append(path)
            readers = LEVELS[len(probe.levels)]
            if barriers[readers].wait(20) == 0:  # passes when all of the level are here
                met.append(readers)
        return Reading(start, start, time.perf_counter(), 1000)

    monkeypatch.setattr(doctor_probe, "read", read)
    probe = Probe([f"{i}.jpg" for i in range(2500)], 200.0)
    probe.run()
    assert [level.readers for level in probe.levels] == list(LEVELS)
    assert set(met) == set(LEVELS)
    assert probe.ended == "most"
    assert len(seen) == len(set(seen)) <= 2500
    assert not any(level.reused for level in probe.levels)
    footprint.assert_same()


def test_it_stops_at_the_byte_budget(photos, monkeypatch):
    """No more bytes are read than the budget allows, and it says that this was why."""
    monkeypatch.setattr(doctor_probe, "GAIN", 0)
    monkeypatch.setattr(doctor_probe, "BYTES", 150_000)
    probe = Probe(find_files(str(photos / "photos"), 5).files, 60.0)
    probe.run()
    assert probe.ended == "bytes"
    total = sum(reading.size for level in probe.levels for reading in level.readings)
    assert 30_000 < total <= 150_000


def test_large_files_are_read_in_part(tmp_path, monkeypatch):
    """Of a large file only the first part is read."""
    monkeypatch.setattr(doctor_probe, "FILE_BYTES", 5000)
    (tmp_path / "1.jpg").write_bytes(bytes(20_000))
    assert doctor_probe.read(str(tmp_path / "1.jpg"), fresh=True).size == 5000


def test_the_walk_is_bounded(tmp_path, monkeypatch):
    """The walk ends when there are enough files or entries, leaves out what is hidden, and prefers pictures."""
    for i in range(60):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
        (tmp_path / f"{i}.xml").write_bytes(b"")
        (tmp_path / f".{i}.jpg").write_bytes(b"")
    everything = find_files(str(tmp_path), 5)
    assert len(everything.files) == 60
    assert all(path.endswith(".jpg") and "/." not in path for path in everything.files)
    assert (everything.entries, everything.folders) == (180, 1)
    monkeypatch.setattr(doctor_files, "WANTED", 10)
    assert len(find_files(str(tmp_path), 5).files) == 10
    monkeypatch.setattr(doctor_files, "ENTRIES", 5)
    assert find_files(str(tmp_path), 5).entries == 5


@pytest.mark.parametrize(
    "levels",
    [_storage(slots=10, levels=UP_TO_64), _storage(levels=(1,)), _storage(slots=1, levels=LEVELS[:3]), _storage()],
    ids=["curve", "point", "flat", "ideal"],
)
def test_the_plot_takes_any_curve_and_name(tmp_path, levels):
    """A whole curve and a single point are drawn, whatever the path is called; the blue curve is there."""
    report = _report(levels, "plateau", _mount("fuse.$x$\udcff"))
    draw_curve(tmp_path / "c.png", report)
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert picture.shape == (960, 1350, 3)
    assert (picture == (0xB2, 0x72, 0x00)).all(axis=2).sum() > 50


def test_words_of_the_plot():
    """What the plot calls a gain, and where it writes beside the line of doublings: where nothing measured can be."""
    assert _gain(1.04) == "hardly more than one reader gets"
    assert _gain(1.96) == "about 2.0 times what one reader gets"
    assert _gain(10.2) == "about 10 times what one reader gets"
    assert _beside([1, 2, 4], [33.0, 66.0, 132.0], 49.5) == (pytest.approx(2**0.5), 49.5, "left")
    assert _beside([1, 2, 4, 8], [10.0, 20.0, 40.0, 80.0], 60.0) == (pytest.approx(2**2.5), 60.0, "right")
    assert _beside([1, 2], [10.0, 20.0], 22.0) == (2.0, 20.0, "right")


def test_help_and_missing_extras(photos, monkeypatch, capsys):
    """The command explains itself, and without an extra's package it names the line that installs it."""
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", "--help"])
    assert exit_.value.code == 0
    assert "pictures" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", "photos", "--seconds", "31"])
    assert exit_.value.code == 2
    assert "from 1 to 30" in capsys.readouterr().err
    for package, extra in (("matplotlib", "plot"), ("tqdm", "cli")):
        monkeypatch.setitem(sys.modules, package, None)  # what Python itself does to forbid an import
        assert main(["doctor", str(photos), "--plot", str(photos / "c.png")]) == 1
        assert f"pip install 'asyncbatch[{extra}]'" in capsys.readouterr().err
    assert not (photos / "c.png").exists()
