"""The commands end to end, on real files, and what they say when they cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import asyncbatch as ab
from asyncbatch.cli import bench, demo, main
from asyncbatch.cli.pictures import KINDS
from asyncbatch.cli.race import Recorder, Run, by_hand, like_by_hand
from asyncbatch.cli.report import explain_ours

HUES = {"blue": (255, 0, 0), "green": (0, 255, 0), "röd": (0, 0, 255)}  # BGR


@pytest.fixture
def photos(tmp_path):
    """A folder of 24 JPEG and PNG pictures of several sizes in three class folders, and a manifest of it."""
    lines = []
    for i in range(24):
        name, colour = list(HUES.items())[i % 3]
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True, exist_ok=True)
        picture = np.full((30 + i, 40, 3), colour, np.uint8)
        picture[: 5 + i % 3] = 90
        path = folder / f"{i:02d}.{'jpg' if i % 2 else 'png'}"
        path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
        lines.append(f"photos/{name}/{path.name}\t{name}\n")
    (tmp_path / "list.txt").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def _started(*command, cwd):
    """Start the command in a process of its own, with pipes for both streams."""
    return subprocess.Popen(  # this very interpreter, on our own package
        [sys.executable, "-u", "-m", "asyncbatch", *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(ab.__file__).parents[1])},  # for a package that is not installed
        text=True,
    )


QUICK = ["--latency", "1", "--seconds", "0.3"]


def _demo(out):
    return main(["demo", "--out", str(out), "--images", "300", "--epochs", "8", "--seed", "2", *QUICK])


def _files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_demo_leaves_what_it_states(tmp_path, monkeypatch, capsys):
    """The demo exits with 0 and leaves its pictures, two drawings and its record in its folder and nothing elsewhere.

    A second demo in the same folder replaces the first's files, whatever their number.
    """
    monkeypatch.chdir(tmp_path)
    assert _demo("asyncbatch-demo") == 0
    said = capsys.readouterr().out
    out = tmp_path / "asyncbatch-demo"
    drawn = {f"{'test' if n % 5 == 4 else 'train'}/{kind}/{kind}-{n:04d}.jpg" for kind in KINDS for n in range(50)}
    assert _files(tmp_path) == {
        f"asyncbatch-demo/{name}" for name in drawn | {"contact-sheet.png", "timeline.png", "demo.json"}
    }
    record = json.loads((out / "demo.json").read_text())
    assert record["accuracy"] > 0.9
    for name in ("contact-sheet.png", "timeline.png"):
        picture = cv2.imread(str(out / name))
        assert min(picture.shape[:2]) > 800
        assert picture.std() > 20
        assert name in said
    assert re.search(r"Gained: [\d.]+ times as many pictures a second", said)
    assert "simulated" in said

    assert main(["demo", "--images", "120", "--epochs", "1", *QUICK]) == 1
    assert "The demo failed" in capsys.readouterr().out
    assert len(_files(out)) == 120 + 3


@pytest.mark.parametrize("stranger", ["notes.txt", "train/rings/mine.jpg", "train/other/rings-0000.jpg"])
@pytest.mark.parametrize("made_by_demo", [False, True])
def test_demo_leaves_others_files_alone(tmp_path, capsys, stranger, made_by_demo):
    """A folder with anything in it that the demo did not make is refused, and stays as it is."""
    (tmp_path / stranger).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / stranger).write_text("precious")
    if made_by_demo:
        (tmp_path / "demo.json").write_text('{\n  "made_by": "asyncbatch demo"\n}\n')
        (tmp_path / "timeline.png").write_text("old")
    before = _files(tmp_path)
    assert _demo(tmp_path) == 1
    assert _files(tmp_path) == before
    assert (tmp_path / stranger).read_text() == "precious"
    error = capsys.readouterr().err
    assert error.startswith("asyncbatch: ")
    assert "--out NEW" in error


def test_demo_shows_first_what_went_wrong(tmp_path, monkeypatch):
    """A model that has learnt next to nothing has its mistakes at the head of the sheet, marked, and all of them."""
    drawn = {}

    def draw(path, images, captions, title, wrong):
        drawn.update(count=len(images), captions=captions, wrong=wrong)

    monkeypatch.setattr(demo, "draw_sheet", draw)
    monkeypatch.setattr(demo, "SHOWN", 20)
    assert main(["demo", "--out", str(tmp_path / "out"), "--images", "120", "--epochs", "1", *QUICK]) == 1
    marks = [caption[-1] for caption in drawn["captions"]]
    assert drawn["count"] == len(marks) == 20
    assert marks == sorted(marks, key="✗✓".index)
    assert [place for place, mark in enumerate(marks) if mark == "✗"] == list(drawn["wrong"]) != []


def test_demo_says_where_it_cannot_write(tmp_path, capsys):
    """A folder that cannot be made is told in words, with what to type."""
    (tmp_path / "file").write_text("")
    assert _demo(tmp_path / "file" / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"asyncbatch: {tmp_path / 'file' / 'out'} cannot be written to: Not a directory; name a new"
    )
    assert "Errno" not in error


def test_demo_follows_no_links(tmp_path, capsys):
    """A link in a demo's folder is refused, so nothing is written or removed where it leads."""
    elsewhere = tmp_path / "elsewhere" / "rings"
    elsewhere.mkdir(parents=True)
    (elsewhere / "rings-0000.jpg").write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "demo.json").write_text('{\n  "made_by": "asyncbatch demo"\n}\n')
    (out / "train").symlink_to(tmp_path / "elsewhere")
    assert _demo(out) == 1
    assert _files(tmp_path / "elsewhere") == {"rings/rings-0000.jpg"}
    assert "train was not made by the demo" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["photos", "list.txt"])
@pytest.mark.parametrize("limit", [["--seconds", "2"], ["--batches", "2", "--step", "1"]])
def test_bench_compares(photos, capsys, what, limit):
    """On a folder and on a manifest bench prints both rates and where the time goes, and writes nothing."""
    before = _files(photos)
    assert main(["bench", str(photos / what), "--batch-size", "3", "--image-size", "20x30", *limit]) == 0
    said = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split("  ")[1:] for line in said.splitlines() if "  " in line}
    hand, ours = (float(cell.replace(",", "")) for cell in rows["pictures a second"] if cell)
    assert hand > 0
    assert ours > 0
    delivered = [int(cell.replace(",", "")) for cell in rows["pictures delivered"] if cell]
    if "--batches" in limit:  # no more than was asked for, and so it is said first that this is no measurement
        assert delivered == [6, 6]
        assert said.index("Not enough for a ratio") < said.index("pictures a second")
    else:  # 24 pictures are read in milliseconds, and from memory: over and over
        assert min(delivered) > 24
        assert min(float(cell.removesuffix(" s")) for cell in rows["in"] if cell) >= 1.0
        assert "over and over" in said
        assert "Not enough" not in said
    assert ("training step waits" in rows) == ("--step" in limit)
    assert "one picture after another" in said
    assert re.search(r"asyncbatch reads [\d.]+ pictures at once, [\d.]+ ms each,\nand decodes on \d threads", said)
    assert _files(photos) == before


def _run(pictures, seconds, reading):
    """What a contender did that waited so long for each picture's storage."""
    return Run(pictures, seconds, 0.01, 0.0, [ab.Span("read", 0.0, reading * pictures, 0, 0)])


@pytest.mark.parametrize(
    ("first", "later", "counts"),
    [
        (_run(100, 0.1, 0.0001), _run(3000, 3.0, 0.0001), "again"),  # in page cache from before
        (_run(100, 3.0, 0.03), _run(100, 3.0, 0.03), "again"),  # storage that nothing keeps in memory
        (_run(100, 3.0, 0.03), _run(3000, 3.0, 0.0001), "first"),  # from storage, then from memory
    ],
)
def test_only_what_is_read_alike_is_read_again(photos, monkeypatch, capsys, first, later, counts):
    """Few pictures that were in memory are measured in memory; those that were not are not, and it says so first."""

    def turn(name, *_, over_and_over=False):
        if over_and_over:
            return later
        return _run(100, 0.1, 0.0001) if name == "asyncbatch" else first

    monkeypatch.setattr(bench, "_turn", turn)
    assert main(["bench", str(photos / "photos"), "--batch-size", "3"]) == 0
    said = capsys.readouterr().out
    assert ("over and over" in said) == (counts == "again")
    assert ("Not enough for a ratio: only 0.10 s" in said) == (counts == "first")


@pytest.mark.parametrize(
    "command", [["bench", "--batch-size", "2"], ["preview", "-o", "s.png"], ["doctor", "--seconds", "2"]]
)
def test_commands_read_any_manifest(photos, monkeypatch, capsys, command):
    """A table whose columns do not tell by themselves is read with the options of `sources.manifest`."""
    monkeypatch.chdir(photos)
    (photos / "lists").mkdir()
    lines = (photos / "list.txt").read_text(encoding="utf-8").splitlines()
    rows = [f"{number},{line.split()[0]},{line.split()[1]},night" for number, line in enumerate(lines)]
    (photos / "lists" / "t.csv").write_text("\n".join(["id,where,kind,time", *rows]), encoding="utf-8")
    given = [command[0], "lists/t.csv", *command[1:], "--root", ".", "--path-column", "where"]
    labels = ["--label-columns", "kind"]
    assert main([*given, *labels]) == 0
    assert "24" in capsys.readouterr().out
    if command[0] == "doctor":  # which has no use for labels, and does not mind them
        assert main(given) == 0
        return
    assert main([*given, "--label-columns", "kind,time"]) == 1
    assert "words can be a label only alone" in capsys.readouterr().err
    assert main([*given, "--label-columns", ""]) == 0


@pytest.mark.parametrize(
    ("read", "decode", "wait", "step", "words"),
    [
        (4.0, 0.2, 0.05, 0.95, "The training step sets the pace"),
        (0.1, 0.2, 0.07, 0.93, "The training step sets the pace"),  # from page cache, and one batch came late
        (4.0, 0.9, 0.5, 0.5, "Decoding sets the pace"),
        (4.0, 0.2, 0.5, 0.5, "Storage sets the pace"),
        (0.1, 0.2, 0.5, 0.5, "Neither sets the pace"),
    ],
)
def test_bench_says_what_sets_the_pace(read, decode, wait, step, words):
    """Of a second: how long was read, all reads together, decoded, waited and computed."""
    busy = {"read": read, "decode": decode, "wait": wait, "compute": step}
    spans = [ab.Span(stage, 0.0, seconds, 0, 0) for stage, seconds in busy.items()]
    assert words in explain_ours(Run(32, 1.0, 0.1, 0.0, spans), stepped=True)


def test_bench_names_a_missing_file_in_its_own_words(photos):
    """A manifest with a file that is gone ends in one line on stderr, without OpenCV's own."""
    (photos / "photos" / "blue" / "00.png").unlink()
    with _started("bench", "list.txt", "--batch-size", "12", cwd=photos) as process:
        _, error = process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(
        r"asyncbatch: photos/blue/00\.png \(sample \d+\): does not exist; the command needs .* leave this one out\n",
        error,
    )


def test_bench_gives_both_the_same_work(photos):
    """The loop by hand and asyncbatch deliver the same values, so that the comparison is one of speed only."""
    recorder = Recorder()
    with ab.Loader(photos / "photos", batch_size=5, decoder=like_by_hand((20, 30)), drop_last=True) as loader:
        samples = [loader.source[i] for i in range(len(loader.source))]
        ours = [(batch.images.copy(), batch.labels.copy()) for batch in loader]
    hand = list(by_hand(samples, 5, (20, 30), recorder))
    assert len(hand) == len(ours) == 4
    for (images, labels), (expected, expected_labels) in zip(ours, hand, strict=True):
        assert images.dtype == expected.dtype == np.float32
        np.testing.assert_allclose(images, expected, atol=1e-6)
        np.testing.assert_array_equal(labels, expected_labels)
    assert [span.stage for span in recorder.spans[:11]] == ["read", "decode"] * 5 + ["wait"]
    assert all(span.start <= span.stop for span in recorder.spans)


@pytest.mark.parametrize("what", ["photos", "list.txt"])
def test_preview_draws_a_sheet(photos, capsys, what):
    """Preview draws as many pictures as asked for, resized, in their colours, and says where the sheet is."""
    out = photos / "sheet.png"
    command = ["preview", str(photos / what), "-o", str(out), "--count", "6", "--image-size", "32"]
    assert main(command) == 0
    sheet = cv2.imread(str(out))
    assert sheet.shape[0] > 300
    whole = (np.abs(sheet.astype(int)[..., None, :] - np.array(list(HUES.values()))) < 4).all(-1).sum((0, 1))
    assert 6 * 100 * 100 < whole.sum() < 6 * 180 * 180
    assert f"{out}: 6 of 24 pictures" in capsys.readouterr().out

    first = out.read_bytes()
    assert main([*command, "--seed", "1", "--keys"]) == 0
    assert out.read_bytes() != first


def _unreadable(photos):
    (photos / "photos" / "blue" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")


@pytest.mark.parametrize(
    ("spoil", "command", "says"),
    [
        (None, ["preview", "nowhere", "-o", "s.png"], "nowhere"),
        (None, ["preview", "photos", "-o", "s.jpg"], "-o s.png"),
        (None, ["preview", "photos", "-o", "nowhere/s.png"], "no folder nowhere"),
        (_unreadable, ["preview", "photos", "-o", "s.png"], "00.png"),
        (_unreadable, ["bench", "photos", "--batch-size", "12"], "00.png"),
        (None, ["bench", "nowhere"], "nowhere"),
        (None, ["bench", "photos"], "--batch-size 12"),
        (None, ["demo", "--out", "list.txt"], "list.txt is a file"),
    ],
)
def test_errors_are_one_kind_line(photos, monkeypatch, capsys, spoil, command, says):
    """What the user can cause is told in one line that names it, with exit status 1 and nothing written."""
    monkeypatch.chdir(photos)
    if spoil:
        spoil(photos)
    before = _files(photos)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("asyncbatch: ")
    assert error.count("\n") == 1
    assert says in error
    assert _files(photos) == before


@pytest.mark.parametrize("command", [["demo"], ["bench", "photos"], ["preview", "photos", "-o", "s.png"]])
@pytest.mark.parametrize(("package", "extra"), [("tqdm", "cli"), ("matplotlib", "plot")])
def test_a_missing_extra_names_its_line(photos, monkeypatch, capsys, command, package, extra):
    """Without an extra's package a command that needs it says what to install; bench needs no matplotlib."""
    monkeypatch.chdir(photos)
    monkeypatch.setitem(sys.modules, package, None)  # what Python itself does to forbid an import
    before = _files(photos)
    if (command[0], package) == ("bench", "matplotlib"):
        assert main([*command, "--batch-size", "3"]) == 0
    else:
        assert main(command) == 1
        assert f"pip install 'asyncbatch[{extra}]'" in capsys.readouterr().err
    assert _files(photos) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["demo", "--images", "7"], "from 120"),
        (["demo", "--latency", "-1"], "from 0"),
        (["bench"], "PATH"),
        (["bench", "p", "--image-size", "0"], "224x320"),
        (["bench", "p", "--image-size", "22x"], "224x320"),
        (["bench", "p", "--seconds", "nan"], "from 0.1"),
        (["preview", "p"], "-o"),
        (["preview", "p", "-o", "s.png", "--count", "many"], "'many'"),
    ],
)
def test_wrong_arguments_exit_with_2(capsys, arguments, says):
    """Arguments that do not parse end with status 2 and a message that names what is wanted."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["demo"], ["bench"], ["preview"]])
def test_help_tells_a_newcomer(capsys, command):
    """Every command explains itself."""
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert "pictures" in said
    assert f"asyncbatch {' '.join(command)}".strip() in said


def test_version_as_a_module(tmp_path):
    """`python -m asyncbatch --version` prints the package's version."""
    with _started("--version", cwd=tmp_path) as process:
        assert process.communicate() == (f"asyncbatch {ab.__version__}\n", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows delivers Ctrl-C to a group of processes")
@pytest.mark.parametrize("command", [["bench", "photos", "--batch-size", "3", "--step", "60000"], ["demo"]])
def test_ctrl_c_ends_cleanly(photos, command):
    """Ctrl-C in the middle of the work ends with 130 and one line, no traceback; no bars without a terminal."""
    with _started(*command, cwd=photos) as process:
        line = process.stdout.readline() + process.stdout.readline()  # the second line is printed amid the work
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert "pictures" in line
    assert process.returncode == 130
    assert error == "asyncbatch: stopped\n"


def test_a_reader_that_has_seen_enough(photos):
    """Output into a pipe that closes early, as `| head` does, ends without a traceback."""
    with _started("bench", "photos", "--batch-size", "3", cwd=photos) as process:
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 1
    assert error == ""
