"""The fault file system does what it is told, and counts it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import living_threads
from faultmount import FaultMount
from faultrules import Faults, Settings
from numbered import SIZE, name_of, names_of

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(60)


def read(fs, index=0):
    """Read a file the plain way: open, fstat, read as much as fstat says, and to the end."""
    descriptor = os.open(fs.path / name_of(index), os.O_RDONLY)
    try:
        data, size = b"", os.fstat(descriptor).st_size
        while len(data) < size and (part := os.read(descriptor, size - len(data))):
            data += part
        return data
    finally:
        os.close(descriptor)


def whole(index=0):
    return (index + 1).to_bytes(SIZE, "big")


def errno_of(call, *arguments):
    with pytest.raises(OSError, match=r".") as caught:
        call(*arguments)
    return caught.value.errno


@pytest.mark.parametrize("cached", [False, True])
def test_shows_a_folder_as_it_is(faultfs, cached):
    """Without faults names, sizes, times and contents are the folder's, and the calls are counted."""
    fs = faultfs(3, cached=cached)
    assert sorted(os.listdir(fs.path)) == names_of(range(3))
    for index in range(3):
        assert read(fs, index) == whole(index)
        here, there = (fs.path / name_of(index)).stat(), (fs.source / name_of(index)).stat()
        assert (here.st_size, here.st_mtime_ns, here.st_mode) == (there.st_size, there.st_mtime_ns, there.st_mode)
    counts = fs.counts()
    assert (counts["open"], fs.faults()) == (3, 0)
    assert counts["read"] >= 3
    assert counts["getattr"] >= 3


def test_large_files_come_whole(faultfs, tmp_path):
    """A file that needs many requests of the kernel is read bit for bit."""
    data = os.urandom(3_000_001)
    (tmp_path / name_of(0)).write_bytes(data)
    fs = faultfs(source=tmp_path)
    assert read(fs) == data
    assert fs.count("read") > 1


@pytest.mark.parametrize("code", ["EIO", "ENOENT", "EACCES", "EMFILE", "ENOMEM", "ENOTCONN", "ETIMEDOUT", "EREMOTEIO"])
@pytest.mark.parametrize("on", ["open", "read", "getattr"])
def test_errors(faultfs, on, code):
    """An errno reaches the caller as it is, from the call it was meant for, as often as it was meant."""
    fs = faultfs(2, rules=[{"fault": code, "on": on, "names": [name_of(0)], "times": 1}])
    assert errno_of(read, fs) == getattr(errno, code)
    assert read(fs) == whole()
    assert read(fs, 1) == whole(1)
    assert (fs.faults(), fs.count(f"{on} {code}")) == (1, 1)


def test_the_kernel_asks_twice_before_it_says_stale(faultfs):
    """One ESTALE of an open is hidden by the kernel, which tries once more: a caller sees one where we count two."""
    fs = faultfs(1, rules=[{"fault": "ESTALE", "on": "open", "times": 3}])
    assert errno_of(read, fs) == errno.ESTALE
    assert fs.faults() == 2
    assert read(fs) == whole()
    assert fs.faults() == 3


def test_rates_are_the_same_in_each_run(faultfs):
    """Chance meets about the share that was asked for, and the same files each time, whatever their order."""
    fs = faultfs(300)
    rule = {"fault": "EIO", "on": "open", "rate": 0.1}

    def unlucky(indices):
        fs.set(rules=[rule])
        found = set()
        for index in indices:
            try:
                read(fs, index)
            except OSError:
                found.add(index)
        return found

    first = unlucky(range(300))
    assert first == unlucky(reversed(range(300)))
    assert fs.faults() == 2 * len(first)
    assert 10 <= len(first) <= 60


def test_every_and_total(faultfs):
    """A fault can meet every n-th call, and end after so many."""
    fs = faultfs(12, rules=[{"fault": "EIO", "on": "open", "every": 3, "total": 2}])
    failed = []
    for index in range(12):
        try:
            read(fs, index)
        except OSError:
            failed.append(index)
    assert failed == [2, 5]
    assert fs.faults() == 2


def test_short_reads(faultfs):
    """An open's content ends before st_size says; the next open has all of it."""
    fs = faultfs(1, rules=[{"fault": "short", "size": 20, "times": 1}])
    assert read(fs) == whole()[:20]
    assert read(fs) == whole()
    assert fs.count("read short") == 1


def test_a_short_read_in_page_cache_cuts_the_file(faultfs):
    """The kernel believes a short read: for as long as it keeps attributes the file is that short in st_size too."""
    fs = faultfs(1, cached=True, rules=[{"fault": "short", "size": 20, "times": 1}])
    path = fs.path / name_of(0)
    assert path.stat().st_size == SIZE
    assert read(fs) == whole()[:20]
    assert (path.stat().st_size, read(fs)) == (20, whole()[:20])
    end = time.monotonic() + 20
    while read(fs) != whole():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert fs.count("read short") == 1


def test_an_error_in_page_cache_may_be_hidden(faultfs):
    """Reading ahead meets an EIO first, and the kernel asks once more before it tells anybody."""
    fs = faultfs(1, cached=True, rules=[{"fault": "EIO", "times": 1}])
    assert read(fs) == whole()
    assert fs.count("read EIO") == 1


def test_partial_reads(faultfs):
    """A read may give less than there is, and the next one goes on from there."""
    fs = faultfs(1, rules=[{"fault": "partial", "size": 20}])
    assert read(fs) == whole()
    assert fs.count("read partial") == 4


def test_zero_holes(faultfs):
    """A part of a file reads as zeros, and nothing else tells."""
    fs = faultfs(1, rules=[{"fault": "zeros", "offset": SIZE - 4, "size": 4}])
    assert read(fs) == whole()[:-4] + bytes(4)
    fs.set()
    assert read(fs) == whole()
    assert fs.faults() == 1


@pytest.mark.parametrize(
    ("rule", "sizes", "seconds", "length"),
    [
        ({"fault": "truncate", "size": 16}, (SIZE, 16), 0, 16),
        ({"fault": "grow", "size": 36}, (SIZE, 100), 0, 64),
        ({"fault": "touch"}, (SIZE, SIZE), 1, 64),
    ],
)
def test_changes_while_a_file_is_read(faultfs, rule, sizes, seconds, length):
    """A file changes between the fstat before the first read and the fstat after it, once, and for good."""
    fs = faultfs(1, rules=[rule | {"times": 1}])
    descriptor = os.open(fs.path / name_of(0), os.O_RDONLY)
    before = os.fstat(descriptor)
    assert len(os.read(descriptor, SIZE)) == length
    after = os.fstat(descriptor)
    os.close(descriptor)
    assert (before.st_size, after.st_size) == sizes
    assert after.st_mtime_ns - before.st_mtime_ns == seconds * 10**9
    assert len(read(fs)) == sizes[1]
    assert (fs.path / name_of(0)).stat().st_size == sizes[1]
    assert fs.faults() == 1


def test_mtime_may_be_now(faultfs):
    """Every getattr can have another mtime, though the file is the same."""
    fs = faultfs(1, mtime="now")
    assert len({(fs.path / name_of(0)).stat().st_mtime_ns for _ in range(5)}) == 5


@pytest.mark.parametrize("on", ["open", "read", "getattr"])
def test_latency(faultfs, on):
    """Each call of an operation takes as long as was asked for."""
    fs = faultfs(1, latency={on: 0.1})
    start = time.perf_counter()
    read(fs)
    assert time.perf_counter() - start >= 0.1


def test_jitter_and_tail():
    """Latency varies by the jitter around its value, and a share of the calls is later by far, counted."""
    faults = Faults(Settings(latency={"open": 0.1}, jitter=0.5, tail=0.1, tail_seconds=2.0))
    seconds = sorted(faults.arrive("open", name_of(index))[0] for index in range(1000))
    tail = faults.counts["tail"]
    assert 50 <= tail <= 200
    assert all(2.05 <= late <= 2.15 for late in seconds[-tail:])
    assert 0.05 <= seconds[0] < 0.06
    assert 0.14 < seconds[-tail - 1] <= 0.15


@pytest.mark.parametrize("on", ["open", "read"])
def test_a_hundred_hangs_hold_up_nobody_else(faultfs, on):
    """Calls hang until released, by name, by number or all, and meanwhile other files are read."""
    fs = faultfs(101, rules=[{"fault": "hang", "on": on, "names": names_of(range(100))}])
    done = []
    threads = [threading.Thread(target=lambda i=i: done.append((i, read(fs, i)))) for i in range(100)]
    for thread in threads:
        thread.start()
    fs.wait_for("hanging", 100)
    assert read(fs, 100) == whole(100)
    assert done == []
    fs.release([name_of(5)])
    threads[5].join()
    assert done == [(5, whole(5))]
    fs.release(count=9)
    assert fs.count("hanging") == 90
    fs.release()
    for thread in threads:
        thread.join()
    assert sorted(done) == [(index, whole(index)) for index in range(100)]
    assert read(fs, 3) == whole(3)
    assert (fs.count("hanging"), fs.count(f"{on} hang")) == (0, 100)


def test_death_and_return(faultfs):
    """A killed daemon leaves a dead mount; unmounted it is an empty folder; mounted again it is what it was."""
    fs = faultfs(2, rules=[{"fault": "hang", "on": "read"}])
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(errno_of(read, fs)))
    thread.start()
    fs.wait_for("hanging")
    fs.kill()
    thread.join()
    assert outcomes[0] in (errno.ECONNABORTED, errno.ENOTCONN)
    assert errno_of(read, fs) == errno.ENOTCONN
    fs.unmount()
    assert errno_of(read, fs) == errno.ENOENT
    fs.mount()
    assert read(fs) == whole()


def test_a_stopped_daemon_says_nothing_and_goes_on(faultfs):
    """A frozen daemon answers nothing until it goes on, and then what was asked meanwhile."""
    fs = faultfs(1)
    fs.stop()
    done = []
    thread = threading.Thread(target=lambda: done.append(read(fs)))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    fs.resume()
    thread.join()
    assert done == [whole()]


@pytest.mark.parametrize("state", ["hanging", "stopped", "dead"])
def test_nothing_outlives_it(faultfs, tmp_path, state):
    """Closing ends the daemon and the mount, in whatever state, and lets go whoever hangs in it."""
    before = living_threads()
    fs = faultfs(1, rules=[{"fault": "hang", "on": "open"}])
    daemon = fs._daemon
    thread = threading.Thread(target=lambda: os.path.exists(fs.path / name_of(0)) and errno_or_data(fs))
    thread.start()
    fs.wait_for("hanging")
    {"hanging": lambda: None, "stopped": fs.stop, "dead": fs.kill}[state]()
    fs.close()
    thread.join()
    assert daemon.poll() is not None
    assert list(fs.path.iterdir()) == []
    assert living_threads() == before


def errno_or_data(fs):
    try:
        return read(fs)
    except OSError as error:
        return error.errno


def test_the_daemon_ends_with_its_parent(faultfs, tmp_path):
    """A daemon whose parent was killed, and could clean up nothing, unmounts itself and ends."""
    faultfs()  # skips where nothing can be mounted
    (tmp_path / "mount").mkdir()
    program = (
        "import sys, time; from faultmount import FaultMount;"
        f"fs = FaultMount({str(tmp_path)!r}, {str(tmp_path / 'mount')!r});"
        "print(fs._daemon.pid, flush=True); time.sleep(60)"
    )
    here = str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=here) as parent:
        daemon = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 20
    while os.path.ismount(tmp_path / "mount") or Path(f"/proc/{daemon}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": [{"fault": "ENOSUCH"}]}, "neither an errno"),
        ({"rules": [{"fault": "EIO", "on": "write"}]}, "not one of"),
        ({"rules": [{"fault": "short", "on": "open"}]}, "happens to reads"),
        ({"latency": {"write": 1}}, "the operations are"),
        ({"mtime": "never"}, "neither"),
        ({"speed": 1}, "unexpected keyword"),
    ],
)
def test_settings_that_mean_nothing_are_refused(faultfs, settings, message):
    """A misspelt fault is an error, not a test without faults; the mount goes on."""
    fs = faultfs(1)
    with pytest.raises(ValueError, match=message):
        fs.set(**settings)
    assert read(fs) == whole()


def test_a_mount_that_fails_says_so(tmp_path):
    """Where nothing is mounted, the test learns it at once and no process is left."""
    with pytest.raises((RuntimeError, OSError)):
        FaultMount(tmp_path, tmp_path / "missing")
