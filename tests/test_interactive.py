"""In a notebook: a real Jupyter kernel, whose main thread runs an event loop while cells run."""

from __future__ import annotations

import re
import time

import pytest
from coloured import write_coloured

manager = pytest.importorskip("jupyter_client.manager", reason="pip install ipykernel")

# Jupyter's own loops and sockets, in the process of the tests.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class Notebook:
    """Runs cells, one after another."""

    def __init__(self, kernel, client):
        self.kernel, self.client = kernel, client

    def begin(self, cell):
        return self.client.execute(cell, allow_stdin=False, stop_on_error=False)

    def finish(self, request, timeout=30):
        """Return what a cell printed or showed; raises what it raised, as text."""
        shown = []
        while True:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] == "execute_result":
                shown.append(content["data"]["text/plain"])
            elif message["msg_type"] == "error":
                raise CellError(f"{content['ename']}: {content['evalue']}")
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return "".join(shown)

    def run(self, cell):
        return self.finish(self.begin(cell))


class CellError(Exception):
    pass


@pytest.fixture(scope="module")
def kernel():
    kernel, client = manager.start_new_kernel(kernel_name="python3", startup_timeout=60)
    try:
        yield kernel, client
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


@pytest.fixture
def notebook(kernel, tmp_path):
    found = Notebook(*kernel)
    found.run(
        "import asyncbatch as ab, threading\n"
        f"loader = ab.Loader({str(write_coloured(tmp_path, 40))!r}, batch_size=8, image_size=24)\n"
        "def ours(): return sum(thread.name.startswith('asyncbatch') for thread in threading.enumerate())"
    )
    yield found
    found.run("loader.close()")


def test_cells(notebook):
    """`async for` at top level and plain `for`, again and again, and in a thread; nothing is left running."""
    top_level = "n = 0\nasync for images, labels in loader:\n    n += len(images)\nprint(n)"
    plain = "print(sum(len(images) for images, labels in loader))"
    thread = (
        "found = []\nt = threading.Thread(target=lambda: found.extend(loader))\nt.start(); t.join(); print(len(found))"
    )
    for _ in range(2):
        assert notebook.run(top_level) == "40\n"
        assert notebook.run(plain) == "40\n"
        assert notebook.run(thread) == "5\n"
    assert notebook.run("ours()") == "0"


def test_what_a_loader_shows(notebook):
    """Source, settings, length and shapes; statistics that can be read."""
    shown = notebook.run("loader")
    assert re.fullmatch(r"Loader\(.*batch_size=8.*\): 5 batches of \(8, 24, 24, 3\) uint8", shown)
    assert "40 samples in 5 batches" in notebook.run("for _ in loader: pass\nprint(loader.stats())")


def test_a_bar_in_a_notebook(notebook):
    """It shows, though what a notebook's cell prints to is no terminal."""
    assert "40/40" in notebook.run("for batch in loader.progress(): pass")


@pytest.mark.parametrize("loop", ["for batch in loader.epochs(): tick()", "async for batch in loader.epochs(): tick()"])
def test_a_cell_that_is_interrupted(notebook, loop, tmp_path):
    """It stops at once; the next cell begins anew, and closing leaves no thread."""
    # Not by a print: an interrupt while IPython flushes may be lost in it.
    running = tmp_path / "running"
    notebook.run(
        "import itertools, pathlib\nticks = itertools.count()\n"
        f"def tick(): next(ticks) == 3 and pathlib.Path({str(running)!r}).touch()"
    )
    request = notebook.begin(loop)
    end = time.monotonic() + 30
    while not running.exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    began = time.monotonic()
    notebook.kernel.interrupt_kernel()
    with pytest.raises(CellError, match=r"KeyboardInterrupt|CancelledError"):
        notebook.finish(request)
    assert time.monotonic() - began < 10
    assert notebook.run("print(sum(len(images) for images, labels in loader))") == "40\n"
    assert notebook.run("loader.close(); ours()") == "0"
