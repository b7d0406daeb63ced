"""Seeing what happens: the trace that Perfetto opens, and the progress bar."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
import textwrap
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from coloured import write_coloured

import asyncbatch as ab
from asyncbatch import _bar, trace
from asyncbatch._spans import Lanes
from asyncbatch.cli import main
from asyncbatch.cli.timeline import STAGES

COUNT, BATCH, STEPS = 40, 8, 5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), COUNT)


def make_loader(pictures, **options):
    return ab.Loader(pictures, batch_size=BATCH, image_size=24, **options)


def traced(pictures, path, epochs=1):
    with make_loader(pictures) as loader, loader.trace(path):
        start = time.perf_counter()
        for _ in loader.epochs(epochs):
            time.sleep(0.002)
        return time.perf_counter() - start


def events(path):
    document = json.loads(path.read_text("utf-8"))
    assert document["displayTimeUnit"] == "ms"
    return document["traceEvents"]


# -- the trace ---------------------------------------------------------------------------------------------------------


def test_every_piece_of_work_is_in_the_trace(pictures, tmp_path):
    """A read and a decoding of each sample, a wait for each batch, and each batch from its first read to delivery."""
    traced(pictures, tmp_path / "trace.json", epochs=2)
    found = events(tmp_path / "trace.json")
    work = [event for event in found if event["ph"] == "X"]
    counts = {stage: sum(event["name"] == stage for event in work) for stage in ("read", "decode", "wait", "compute")}
    assert counts["read"] == 2 * COUNT
    assert 2 * STEPS <= counts["decode"] <= 2 * COUNT  # a span may be that of a group
    assert counts["wait"] == 2 * STEPS
    assert counts["compute"] == 2 * STEPS - 1  # between two batches each
    begins, ends = ([event for event in found if event["ph"] == phase] for phase in "be")
    assert [event["name"] for event in begins] == [f"batch {epoch}:{step}" for epoch in (0, 1) for step in range(STEPS)]
    assert [event["id"] for event in begins] == [event["id"] for event in ends]
    assert all(begin["ts"] < end["ts"] for begin, end in zip(begins, ends, strict=True))


def test_the_callers_spans_add_up_to_the_wall_time(pictures, tmp_path):
    """Waiting and computing take turns, without a gap that anybody would see."""
    wall = traced(pictures, tmp_path / "trace.json", epochs=4)
    mine = [event for event in events(tmp_path / "trace.json") if event["name"] in ("wait", "compute")]
    mine.sort(key=lambda event: event["ts"])
    assert [event["name"] for event in mine] == ["wait", "compute"] * (4 * STEPS - 1) + ["wait"]
    # What it does not have is the making of the iterator, and what the caller does after the last batch.
    assert 0.8 * wall < sum(event["dur"] for event in mine) / 1e6 <= wall
    for before, after in pairwise(mine):
        assert before["ts"] + before["dur"] <= after["ts"] + 1
        assert after["ts"] - before["ts"] - before["dur"] < 1e6 * 0.1 * wall


def test_spans_of_one_track_do_not_overlap(pictures, tmp_path):
    """Or viewers would draw them as if one had called the other."""
    traced(pictures, tmp_path / "trace.json")
    tracks = {}
    for event in events(tmp_path / "trace.json"):
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    assert len({process for process, _ in tracks}) == 3  # the caller, decoding, reading
    for found in tracks.values():
        found.sort(key=lambda event: event["ts"])
        assert all(one["ts"] + one["dur"] <= other["ts"] + 1 for one, other in pairwise(found))


def test_a_trace_begins_and_ends_when_it_is_told_to(pictures, tmp_path):
    """In the middle of an iteration, too; and closing the loader writes what is still open."""
    loader = make_loader(pictures)
    batches = loader.epochs(2)
    next(batches)
    with loader.trace(tmp_path / "part.json") as part:
        next(batches)
        assert not (tmp_path / "part.json").exists()
    seen = len(part.spans)
    other = loader.trace(tmp_path / "rest.json")
    list(batches)
    assert len(part.spans) == seen
    loader.close()
    assert {event["name"] for event in events(tmp_path / "part.json") if event["ph"] == "X"} >= {"wait"}
    assert sum(event["name"] == "wait" for event in events(tmp_path / "rest.json")) == 2 * STEPS - 2
    written = (tmp_path / "rest.json").read_bytes()
    other.close()
    assert (tmp_path / "rest.json").read_bytes() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.json", "rest.json"]  # and nothing beside it


def test_a_trace_that_is_too_long_says_so(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(trace, "_MOST", 10)
    traced(pictures, tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text("utf-8"))
    assert sum(event["ph"] == "X" for event in document["traceEvents"]) == 10
    assert document["otherData"]["left out"] > 50


def test_a_trace_that_cannot_be_written(pictures, tmp_path):
    """It is said before anything is recorded; and what goes wrong later hides no error of the caller's."""
    with make_loader(pictures) as loader:
        with pytest.raises(ab.ConfigError, match=r"there is no folder .*missing"):
            loader.trace(tmp_path / "missing" / "trace.json")
        (tmp_path / "folder").mkdir()
        with pytest.raises(OSError, match="folder"), loader.trace(tmp_path / "folder"):
            next(iter(loader))
        with pytest.raises(RuntimeError, match="mine"), loader.trace(tmp_path / "folder"):
            raise RuntimeError("mine")
        assert len(list(loader)) == STEPS
    with pytest.raises(ab.LoaderClosed, match="make a new one"):
        loader.trace(tmp_path / "trace.json")


# -- the bar -----------------------------------------------------------------------------------------------------------


class Shown:
    """What tqdm is told."""

    def __init__(self, shown, initial, total, **_):
        self.initial = self.n = initial
        self.total = total
        shown.append(self)

    def update(self, number):
        self.n += number

    def set_postfix_str(self, *_, **__): ...

    def close(self): ...


BAR = """
    import sys, asyncio, asyncbatch as ab
    loader = ab.Loader(sys.argv[1], batch_size=8, image_size=24)
    if sys.argv[2] == "for":
        print(sum(len(images) for images, labels in loader.progress(2)))
    else:
        async def main():
            return sum([len(images) async for images, labels in loader.progress(2)])
        print(asyncio.run(main()))
"""


@pytest.mark.parametrize("way", ["for", "async for"])
def test_a_bar_in_a_terminal(pictures, way):
    """A bar an epoch with img/s and the share of waiting; a terminal is a terminal, so this has a real one."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 120))
    command = [sys.executable, "-c", textwrap.dedent(BAR), str(pictures), way]
    environment = {**os.environ, "PYTHONPATH": str(Path(ab.__file__).parents[1]), "TQDM_MININTERVAL": "0"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=slave, text=True, timeout=60, check=True, env=environment
    )
    os.close(slave)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert done.stdout == "80\n"
    for epoch in (0, 1):
        assert f"epoch {epoch}: 100%" in shown
    assert "40/40" in shown
    assert "img/s" in shown
    assert "waiting " in shown


def test_the_bar_of_an_epoch_that_is_resumed(pictures, monkeypatch):
    """It begins where the epoch was left, and the next one at nothing."""
    shown = []
    monkeypatch.setattr(_bar, "_in_notebook", lambda: True)
    monkeypatch.setattr(_bar, "_bar_type", lambda: partial(Shown, shown))
    with make_loader(pictures) as loader:
        next(iter(loader))
        state = loader.state_dict()
    with make_loader(pictures) as loader:
        loader.load_state_dict(state)
        assert sum(1 for _ in loader.progress(2)) == 2 * STEPS - 1
    assert [(bar.initial, bar.n, bar.total) for bar in shown] == [(BATCH, 40, 40), (0, 40, 40)]


def test_no_bar_in_a_log(pictures, capsys):
    """Nothing is printed where nobody watches."""
    with make_loader(pictures) as loader:
        assert [batch.step for batch in loader.progress()] == list(range(STEPS))
        batches = loader.progress(None)
        next(batches)
        batches.close()
        with pytest.raises((StopIteration, ab.LoaderClosed)):
            next(batches)
    assert capsys.readouterr() == ("", "")


def test_a_bar_without_tqdm(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with make_loader(pictures) as loader, pytest.raises(ImportError, match=r"pip install 'asyncbatch\[cli\]'"):
        loader.progress()


# -- the commands that draw --------------------------------------------------------------------------------------------


def test_lanes_are_as_few_as_the_work_that_was_under_way_at_once():
    """Whatever the order in which pieces of work are told of; and none overlaps another in its lane."""
    begun, lasted = np.random.default_rng(3).uniform([[0], [0.1]], [[20], [1]], (2, 500))
    work = sorted(zip(begun, begun + lasted, strict=True), key=end)
    lanes, told = Lanes(), {}
    for start, stop in work:
        told.setdefault(lanes.lane(start, stop), []).append((start, stop))
    most = max(sum(start <= at < stop for start, stop in work) for at, _ in work)
    assert len(told) == most
    for pieces in told.values():
        assert all(one[1] <= other[0] for one, other in pairwise(pieces))


def end(piece):
    return piece[1]


def test_few_reads_have_few_lanes(pictures, tmp_path):
    """Although a thousand may be asked for."""
    with (
        make_loader(pictures, reader=ab.FileReader(concurrency=2)) as loader,
        loader.trace(tmp_path / "t.json") as kept,
    ):
        list(loader)
    lanes = {span.lane for span in kept.spans if span.stage == "read"}
    assert len(lanes) <= 6  # those of two runs besides, at most


@pytest.mark.parametrize("what", ["pictures", "trace.json"])
def test_trace_draws_a_timeline(pictures, tmp_path, capsys, what):
    """Of pictures that it loads, or of a trace that a loader wrote."""
    pytest.importorskip("matplotlib", reason="pip install 'asyncbatch[plot]'")
    path, out = pictures, tmp_path / "timeline.png"
    if what == "trace.json":
        path = tmp_path / what
        traced(pictures, path)
    assert (
        main(["trace", str(path), "-o", str(out), "--seconds", "0.3", "--batch-size", "8", "--image-size", "24"]) == 0
    )
    shown = capsys.readouterr().out
    assert f"{out}: the first 0." in shown
    assert "a second" in shown
    colours = {tuple(colour) for colour in cv2.imread(str(out)).reshape(-1, 3)[:, ::-1]}
    drawn = {stage: tuple(bytes.fromhex(colour[1:])) for stage, (_, colour) in STAGES.items()}
    assert set(drawn.values()) <= colours


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is no trace of asyncbatch"),
        ("{", "is no trace of asyncbatch"),
        ('{"traceEvents": []}', "has no spans"),
        ('{"traceEvents": [{"ph": "X", "name": "read"}]}', "loader.trace does not write"),
    ],
)
def test_what_is_no_trace(tmp_path, capsys, text, words):
    (tmp_path / "t.json").write_text(text)
    assert main(["trace", str(tmp_path / "t.json"), "-o", str(tmp_path / "t.png")]) == 1
    assert words in capsys.readouterr().err


def test_preview_before_and_after(pictures, tmp_path, capsys, monkeypatch):
    """A transform of one's own, by its name; each picture stands beside what becomes of it."""
    pytest.importorskip("matplotlib", reason="pip install 'asyncbatch[plot]'")
    (tmp_path / "seeing_transforms.py").write_text("def black(image, rng):\n    return image * 0\nnothing = 3\n")
    monkeypatch.chdir(tmp_path)
    command = ["preview", str(pictures), "-o", "sheet.png", "--count", "4", "--image-size", "24"]
    assert main([*command, "--augment", "seeing_transforms:black"]) == 0
    assert "4 of 40 pictures" in capsys.readouterr().out
    sheet = cv2.imread("sheet.png")
    cells = [sheet[64 + 80, 14 + column * (168 + 14) + 84] for column in range(4)]
    assert [bool(cell.any()) for cell in cells] == [True, False, True, False]
    assert main([*command, "--augment"]) == 0
    capsys.readouterr()
    for name, words in [
        ("black", "as MODULE:NAME, got 'black'"),
        ("seeing_transforms:white", "there is no white in a module seeing_transforms"),
        ("nowhere:black", "there is no black in a module nowhere"),
        ("seeing_transforms:nothing", "a transform is a callable"),
    ]:
        assert main([*command, "--augment", name]) == 1
        assert words in capsys.readouterr().err
