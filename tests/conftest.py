"""Every test must leave the process as it found it, on either event loop, with the loop never blocked."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest
from blockbuster import blockbuster_ctx

from asyncbatch import _engine

FD_FOLDER = Path("/proc/self/fd")

# Processes that tests interrupt inherit it: in a job that a shell runs in the background, Ctrl-C is ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def load_torchvision(torch):
    """Let torchvision be imported, where it is there.

    PyPI's is linked with CUDA and cannot load its compiled operators beside a torch for CPUs; no transform and no
    trainer needs them, but importing it fails unless the two that it gives Python implementations to are declared.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchvision.transforms.v2  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")


def pytest_addoption(parser):
    parser.addoption("--event-loop", choices=["uvloop", "asyncio"], default="uvloop", help="what the engine runs on")
    parser.addoption("--no-skip", action="store_true", help="a test that would be skipped fails: for .ci/run")


def pytest_collection_modifyitems(items):
    for item in items:
        if {"albumentations", "torch", "v2"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("framework")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.skipped and item.config.getoption("--no-skip"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


@pytest.fixture(autouse=True, scope="session")
def _first_loop():
    """Make the first uvloop of the process, which opens libuv's signal pipe for as long as the process lives."""
    _engine.new_event_loop().close()


@pytest.fixture(autouse=True)
def _event_loop(request, monkeypatch):
    if request.config.getoption("--event-loop") == "asyncio":
        monkeypatch.setattr(_engine, "new_event_loop", asyncio.new_event_loop)


@pytest.fixture(autouse=True)
def _loop_never_blocked():
    """Raise where our code makes a blocking call on an event loop."""
    with blockbuster_ctx("asyncbatch") as blocker:
        # A lock that guards a few lines is no blocking call, and logging's own stream is not ours.
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            if name in blocker.functions:
                blocker.functions[name].deactivate()
        yield


def living_threads():
    return sorted(thread.name for thread in threading.enumerate())


def open_descriptors():
    """Return what this process holds open, but for the fonts that matplotlib keeps."""
    targets = []
    for link in FD_FOLDER.iterdir() if FD_FOLDER.exists() else ():
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            targets.append(str(link.readlink()))
    return sorted(target for target in targets if not target.endswith(".ttf"))


class Footprint:
    """The threads and file descriptors of this process, to be compared later."""

    def __init__(self):
        self.threads = living_threads()
        self.descriptors = open_descriptors()

    def assert_same(self):
        """Fail if anything was added; nothing is given time to end by itself."""
        assert living_threads() == self.threads
        assert open_descriptors() == self.descriptors

    def assert_same_soon(self, deadline=10.0):
        """Wait for what was told to end, but not waited for, as an iterator dropped on an event loop is."""
        end = monotonic() + deadline
        while (living_threads(), open_descriptors()) != (self.threads, self.descriptors) and monotonic() < end:
            gc.collect()
            for thread in threading.enumerate():
                if thread.name not in self.threads:
                    thread.join(end - monotonic())
        self.assert_same()


@pytest.fixture(autouse=True)
def footprint(_event_loop):
    """What the process held when the test began; checked again when it ends."""
    before = Footprint()
    yield before
    before.assert_same_soon()


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch", reason="pip install torch==2.13.0")
