"""Signals, interpreter exit and fork, on real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

HEAD = """
import os, signal, sys, threading
sys.path.insert(0, {here!r})
from fakes import Gated, Numbers, Ready, number
import asyncbatch as ab

def make(reader=None, size=100_000):
    return ab.Loader(Numbers(size), batch_size=10, decoder=number, reader=reader or Ready())
"""


def start(body):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEAD.format(here=str(HERE)) + body],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(body):
    process = start(body)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


@pytest.mark.parametrize(
    "ending",
    [
        "batches = iter(loader); next(batches)",
        "batches = loader.epochs(); next(batches)",
        "batches = iter(loader)",
        "batches = iter(loader); next(batches); sys.exit(0)",
        "cycle = [iter(loader)]; cycle.append(cycle); next(cycle[0]); del loader",
    ],
)
def test_exit_without_close_is_quiet(ending):
    """A process that leaves its loader open in mid-epoch exits with status 0 and not a word."""
    assert run(f"loader = make()\n{ending}") == (0, "", "")


def test_exit_while_reads_are_held_up_is_quiet():
    """The same while reads are under way that never end."""
    assert run("batches = iter(make(Gated(range(50, 60))))\nfor _ in range(5): next(batches)") == (0, "", "")


A_THOUSAND_BREAKS = """
import asyncio, gc, psutil
from asyncbatch import _engine
if {asyncio}:
    _engine.new_event_loop = asyncio.new_event_loop

# 32 kB a row: a thousand kept batches would be 256 MB.
loader = ab.Loader(Numbers(10_000), batch_size=8, reader=Ready(), decoder=lambda _: number(b"0").repeat(4 * 1024))
process = psutil.Process()

def break_often(times):
    for _ in range(times):
        for batch in loader:
            break
    del batch
    gc.collect()
    return threading.active_count(), process.num_fds(), process.memory_info().rss

before = break_often(200)
after = break_often(1000)
print(before[:2] == after[:2], abs(after[2] - before[2]) < 10e6, before, after, file=sys.stderr)
sys.exit(not (before[:2] == after[:2] and abs(after[2] - before[2]) < 10e6))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="counts file descriptors")
def test_a_thousand_breaks_cost_nothing(request):
    """1,000 loops that break after one batch leave threads, descriptors and memory (±10 MB) where they were."""
    plain = request.config.getoption("--event-loop") == "asyncio"
    status, _, figures = run(A_THOUSAND_BREAKS.replace("{asyncio}", str(plain)))  # in a process that did nothing else
    assert status == 0, figures


SLOW_TO_DECODE = """
import atexit
decoded = []

def slow(data):
    decoded.append(data)
    threading.Event().wait(0.02)
    return number(data)

loader = ab.Loader(Numbers(1000), batch_size=100, decoder=slow, reader=Ready(), prefetch=4, decode_threads=2)
batches = iter(loader)
while len(decoded) < 4:
    pass
atexit.register(lambda: print(len(decoded) < 40, flush=True))
"""


def test_exit_does_not_wait_for_what_is_queued():
    """A process that exits does not first decode the hundreds of pictures that wait for a decode thread."""
    assert run(SLOW_TO_DECODE) == (0, "True\n", "")


OUTLIVES_MAIN = """
def train():
    try:
        for batch in make().epochs():
            pass
    except ab.LoaderClosed as error:
        print(error, flush=True)

threading.Thread(target=train).start()
"""


def test_a_thread_that_outlives_the_main_thread_is_told():
    """Python takes the decode threads away when the main thread ends: a loop in another thread learns why it ends."""
    assert run(OUTLIVES_MAIN) == (
        0,
        "the interpreter is shutting down, and starts no threads for a loader any more\n",
        "",
    )


WAITS_FOR_EVER = """
reader = Gated(held=range(50, 60))
loader = make(reader)
threads = threading.active_count()
seen = 0
try:
    for batch in loader:
        seen += 1
        if seen == 5:
            reader.arrived.wait()
            print("ready", flush=True)
except KeyboardInterrupt:
    print("seen", seen, "threads left over", threading.active_count() - threads)
    {then}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a child")
@pytest.mark.parametrize(("then", "status"), [("pass", 0), ("raise", -signal.SIGINT)])
def test_ctrl_c_ends_the_wait_for_a_batch(then, status):
    """Ctrl-C while a batch is waited for raises once in the caller, with no thread left, and no second traceback."""
    process = start(WAITS_FOR_EVER.format(then=then))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert out == "seen 5 threads left over 0\n"
    assert process.returncode == status
    assert err.count("Traceback") == (1 if status else 0)


ASYNC_WAIT = """
import asyncio

async def main():
    reader = Gated(held=range(50, 60))
    seen = 0
    async for batch in make(reader):
        seen += 1
        if seen == 5:
            await asyncio.sleep(0)
            reader.arrived.wait()
            print("ready", flush=True)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a child")
def test_ctrl_c_under_asyncio_run():
    """Ctrl-C cancels an `async for` like any task, and the process ends by itself."""
    process = start(ASYNC_WAIT)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


FORK = """
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import cv2
opencv_threads = cv2.getNumThreads()
loader = make(size=100)
batches = iter(loader)
first = next(batches)
child = os.fork()
if child == 0:
    try:
        next(batches)
    except ab.LoaderClosed as error:
        print("inherited:", "belongs to the process that made it" in str(error))
    del batches
    print("again:", sum(1 for _ in loader), "threads:", threading.active_count(), flush=True)
    print("OpenCV's threads as before:", cv2.getNumThreads() == opencv_threads, flush=True)
    os._exit(0)
print("child:", os.waitpid(child, 0)[1])
print("parent:", 1 + sum(1 for _ in batches), "threads:", threading.active_count())
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")
def test_fork_in_mid_epoch():
    """A forked child is told that the iterator is not its own and can begin one; the parent goes on undisturbed."""
    status, out, err = run(FORK)
    assert err == ""
    assert status == 0
    assert out.splitlines() == [
        "inherited: True", "again: 10 threads: 1", "OpenCV's threads as before: True", "child: 0",
        "parent: 10 threads: 1",
    ]  # fmt: skip
