"""The contact sheet and the timeline, decoded and looked into."""

from __future__ import annotations

import itertools

import cv2
import matplotlib as mpl
import numpy as np
import pytest

import asyncbatch as ab
from asyncbatch.cli.race import Run
from asyncbatch.cli.sheet import draw_sheet
from asyncbatch.cli.timeline import STAGES, draw_timeline


def _colours(path):
    """Return the picture and how often each RGB colour, as "#RRGGBB", is in it."""
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    colours, counts = np.unique(picture.astype(np.int64) @ (1 << 16, 1 << 8, 1), return_counts=True)
    return picture, {f"#{c:06X}": int(n) for c, n in zip(colours.tolist(), counts, strict=True)}


@pytest.mark.parametrize(("height", "width", "channels"), [(28, 28, 1), (96, 64, 3), (300, 224, 3), (1, 4096, 3)])
def test_sheet_shows_every_pixel_of_small_pictures(tmp_path, height, width, channels):
    """Each picture is on the sheet in its colour, at about one size whatever its own, below a title."""
    greens = [40, 90, 140, 190, 240]
    images = np.zeros((5, height, width, channels), np.uint8)
    images[..., -2 if channels == 3 else 0] = np.array(greens)[:, None, None]
    draw_sheet(tmp_path / "s.png", images, list("abcde"), "Five pictures")
    picture, colours = _colours(tmp_path / "s.png")
    shown = [colours[f"#00{g:02X}00" if channels == 3 else f"#{g:02X}{g:02X}{g:02X}"] for g in greens]
    assert max(shown) - min(shown) < 0.05 * max(shown) + 50  # letters have a few grey pixels too
    assert min(shown) >= (1 if height == 1 else 50) * 100
    assert (picture[:40] < 128).any()  # the title
    assert picture.shape[1] >= 640


@pytest.mark.parametrize(
    "label",
    ["", "Größe", "Ελληνικά", "猫", "قط", "🙂", "$x$ \\frac{", "$", "a\x00b\x07", "\udcff.jpg", "name" * 1000, "\n\n"],
    ids=lambda label: ascii(label)[:12],
)
def test_sheet_takes_any_label(tmp_path, label):
    """No label breaks or overruns the sheet, and none warns; a letter that has no glyph is escaped."""
    images = np.full((2, 50, 50, 3), 255, np.uint8)
    draw_sheet(tmp_path / "s.png", images, [label, "x"], label)
    picture, _ = _colours(tmp_path / "s.png")
    assert picture.shape[0] < 400
    assert (picture == 255).all(axis=2).mean() > 0.5
    assert not (picture[:, -14:] < 128).any()


def test_sheet_marks_the_wrong(tmp_path):
    """A wrong answer is framed; without one, the frame's colour is nowhere."""
    images = np.full((3, 96, 96, 3), 128, np.uint8)
    draw_sheet(tmp_path / "wrong.png", images, ["true: a\nmodel: b ✗"] * 3, "t", wrong={1})
    draw_sheet(tmp_path / "right.png", images, ["true: a\nmodel: a ✓"] * 3, "t")
    assert _colours(tmp_path / "wrong.png")[1]["#D55E00"] > 1000
    assert "#D55E00" not in _colours(tmp_path / "right.png")[1]


def test_a_users_matplotlib_settings_are_left_alone(tmp_path):
    """The sheet looks the same whatever the user's settings are, and they are as before afterwards."""
    images = np.zeros((1, 32, 32, 3), np.uint8)
    draw_sheet(tmp_path / "plain.png", images, ["a"], "t")
    with mpl.rc_context({"savefig.facecolor": "red", "font.size": 40, "savefig.bbox": "tight"}):
        draw_sheet(tmp_path / "styled.png", images, ["a"], "t")
        assert mpl.rcParams["font.size"] == 40
    np.testing.assert_array_equal(_colours(tmp_path / "plain.png")[0], _colours(tmp_path / "styled.png")[0])


LATE = {"read": 0.0, "decode": 0.0, "compute": 0.0, "wait": 0.05}  # the caller waits or computes, never both


def _run(lanes, busy):
    """Return a run of 2 s in which every stage is busy for `busy` of each 100 ms."""
    starts = np.arange(100.0, 102.0, 0.1)
    spans = [
        ab.Span(stage, start + LATE[stage], start + LATE[stage] + busy, 0, 0, lane)
        for stage, start in itertools.product(STAGES, starts)
        for lane in range(lanes if stage in ("read", "decode") else 1)
    ]
    return Run(pictures=64, seconds=2.0, first=0.1, start=100.0, spans=spans)


def test_timeline_shows_how_long_each_stage_is_busy(tmp_path):
    """Each stage has its colour, twice as much of it when it is busy twice as long, and blank runs have none."""
    painted = []
    for busy in (0.02, 0.04, 0.0):
        run = _run(2, busy) if busy else Run(64, 2.0, 0.1, 100.0, [])
        draw_timeline(tmp_path / "t.png", {"one": run, "two": run}, 2.0, "What happens when")
        picture, colours = _colours(tmp_path / "t.png")
        assert picture.shape == (1020, 1800, 3)
        painted.append([colours.get(colour, 0) for _, colour in STAGES.values()])
    legend = np.array(painted[2])
    once, twice = np.array(painted[0]) - legend, np.array(painted[1]) - legend
    assert (once > 1000).all()
    np.testing.assert_allclose(twice / once, 2, rtol=0.25)


def test_timeline_ends_where_it_says(tmp_path):
    """Spans past the stated seconds are not drawn, and one begun before them is cut off."""
    long = Run(1, 9.0, 1.0, 0.0, [ab.Span("read", 0.0, 9.0, 0, 0), ab.Span("compute", 5.0, 9.0, 0, 0)])
    draw_timeline(tmp_path / "t.png", {"one": long}, 1.0, "t")
    nothing = Run(1, 9.0, 1.0, 0.0, [])
    draw_timeline(tmp_path / "n.png", {"one": nothing}, 1.0, "t")
    with_long, without = (_colours(tmp_path / name)[1] for name in ("t.png", "n.png"))
    reading, computing = STAGES["read"][1], STAGES["compute"][1]
    assert with_long[reading] > without[reading] + 10_000
    assert with_long[computing] == without[computing]
