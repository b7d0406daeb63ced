"""`asyncbatch index`: a manifest gives what the folder gives, or there is none."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import asyncbatch as ab
from asyncbatch.cli import index, main


def _plant(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def _files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _assert_same(source, expected, *, names=True):
    assert len(source) == len(expected)
    for i in range(len(expected)):
        assert Path(source[i].path).samefile(expected[i].path)
    if expected.labels is None:
        assert source.labels is None
    else:
        np.testing.assert_array_equal(source.labels, expected.labels)
        assert source.labels.dtype == expected.labels.dtype
    assert source.class_names == (expected.class_names if names else ())


ODD = ("a b.jpg", "a\tb.jpg", "a,b.jpg", "a;b.png", "x.jpg,y.jpg", 'say "hi".jpg', "#1.jpg", " lead.jpg", "'.jpg",
       "ünï 猫.webp", "a  .jpg", "\ufeffbom.jpg", "--force.jpg", "1.2.jpg", "x.jpg 3.jpg", "p\u2028q.jpg")  # fmt: skip


@pytest.mark.parametrize("out", ["train.txt", "photos/train.txt", "elsewhere/train.txt"])
def test_the_manifest_gives_the_folders_samples(tmp_path, capsys, out):
    """In, above or beside the folder, the manifest has the same pictures, labels, order and class names."""
    (tmp_path / "elsewhere").mkdir()
    photos = _plant(tmp_path / "photos", "dog/2.jpg", "cat/9.jpg", "cat-2/1.jpg", "cat/a/1.png", "two words/1.bmp")
    assert main(["index", str(photos), "-o", str(tmp_path / out)]) == 0
    said = capsys.readouterr().out
    expected = ab.sources.folder(photos)
    source = ab.sources.manifest(tmp_path / out)
    _assert_same(source, expected)
    assert [source[i].key for i in range(5)] == [expected[i].key for i in range(5)]
    assert "5 pictures in 4 classes" in said
    assert f"ab.Loader({str(tmp_path / out)!r}" in said
    assert ("absolute" in said) == (out == "elsewhere/train.txt")
    assert _files(tmp_path) == {f"photos/{path}" for path in expected.paths} | {out}


@pytest.mark.parametrize("out", ["train.txt", "photos/train.txt", "elsewhere/train.txt"])
@pytest.mark.parametrize("classes", ["cat", ""])
def test_odd_names_come_back(tmp_path, out, classes):
    """Spaces, tabs, commas, quotes, comment signs and any script in names survive, with labels and without."""
    (tmp_path / "elsewhere").mkdir()
    names = [name for name in ODD if classes or ("\t" not in name and '"' not in name)]
    photos = _plant(tmp_path / "photos", *(str(Path(classes) / name) for name in names))
    assert main(["index", str(photos), "-o", str(tmp_path / out)]) == 0
    _assert_same(ab.sources.manifest(tmp_path / out), ab.sources.folder(photos))


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("classes", ["cat", ""])
def test_an_odd_name_alone_comes_back_or_is_refused(tmp_path, capsys, name, classes):
    """Whatever separators the reader would guess from one name alone: it is the right picture, or an error names it."""
    photos = _plant(tmp_path / "photos", str(Path(classes) / name))
    status = main(["index", str(photos), "-o", str(photos / "train.txt")])
    if status == 0:
        _assert_same(ab.sources.manifest(photos / "train.txt"), ab.sources.folder(photos))
    else:
        assert not classes
        assert "too odd" in capsys.readouterr().err
        assert _files(photos) == {name}


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\rb.jpg", os.fsdecode(b"caf\xe9.jpg")])
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the system refuses such names itself")
def test_names_that_no_text_can_hold_are_refused(tmp_path, capsys, name):
    """A line end or bytes that are no UTF-8 in a name are an error in one line, and nothing is written."""
    photos = _plant(tmp_path / "photos", "cat/1.jpg", f"cat/{name}")
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert repr(name)[1:4] in error
    assert not (tmp_path / "train.txt").exists()


@pytest.mark.parametrize(
    "classes",
    [
        ["1", "2", "10"],
        ["0", "1"],
        ["nan", "inf"],
        ["1e3", "x"],
        [" cat", "cat"],
        ['a"b', "c"],
        ["a\tb", "c"],
        ["1_0", "2"],
    ],
)
def test_odd_class_names_keep_their_indices(tmp_path, capsys, classes):
    """Classes that look like numbers or hold marks keep the folder's indices; the names are told in comments."""
    photos = _plant(tmp_path / "photos", *(f"{name}/1.jpg" for name in classes))
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 0
    _assert_same(ab.sources.manifest(tmp_path / "train.txt"), ab.sources.folder(photos), names=False)
    assert "indices" in capsys.readouterr().out
    comments = [line for line in (tmp_path / "train.txt").read_text().splitlines() if line.startswith("#")]
    assert len(comments) == len(classes)


def test_an_empty_class_keeps_its_index(tmp_path, capsys):
    """A class without pictures does not move the indices of those after it, and is noted."""
    photos = _plant(tmp_path / "photos", "ant/1.jpg", "cat/1.jpg")
    (photos / "bee").mkdir()
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 0
    assert ab.sources.manifest(tmp_path / "train.txt").labels.tolist() == [0, 2]
    said = capsys.readouterr().out
    assert "Note: " in said
    assert "bee" in said
    assert "# class 1: bee" in (tmp_path / "train.txt").read_text()


def test_no_classes_no_labels(tmp_path, capsys):
    """A folder without class folders gives paths alone."""
    photos = _plant(tmp_path / "photos", "2.jpg", "1.jpg")
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 0
    assert (tmp_path / "train.txt").read_text() == "photos/1.jpg\nphotos/2.jpg\n"
    assert "without classes" in capsys.readouterr().out


def test_relative_paths_for_a_tree_that_moves(tmp_path, capsys):
    """With --relative the manifest works with the folder at any place, by the line that is printed."""
    photos = _plant(tmp_path / "photos", "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "train.txt"
    assert main(["index", str(photos), "-o", str(out), "--relative"]) == 0
    assert f"root={str(photos)!r}" in capsys.readouterr().out
    moved = photos.rename(tmp_path / "moved")
    _assert_same(ab.sources.manifest(out, root=moved), ab.sources.folder(moved))


def test_a_dead_link_is_listed_as_the_folder_lists_it(tmp_path):
    """A picture's link that leads nowhere is a line as it is a sample: its error comes when it is read."""
    photos = _plant(tmp_path / "photos", "cat/1.jpg")
    (photos / "cat" / "2.jpg").symlink_to("nowhere.jpg")
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 0
    assert ab.sources.manifest(tmp_path / "train.txt").paths == ("photos/cat/1.jpg", "photos/cat/2.jpg")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos", "-o", "train.txt"], "add --force"),
        (["photos", "-o", "link.txt"], "add --force"),
        (["photos", "-o", "photos"], "-o photos/train.txt"),
        (["photos", "-o", "no/train.txt"], "no folder no"),
        (["photos", "-o", "-"], "-o train.txt"),
        (["photos", "-o", "pipe", "--force"], "pipe or a device"),
        (["photos", "-o", "photos/cat/1.jpg", "--force"], "one of the pictures"),
        (["nowhere", "-o", "new.txt"], "nowhere"),
        (["train.txt", "-o", "new.txt"], "is a file"),
    ],
)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_nothing_is_written_over(tmp_path, monkeypatch, capsys, arguments, says):
    """Without --force nothing that exists is touched, with it neither pictures nor pipes; the error says what to do."""
    monkeypatch.chdir(tmp_path)
    _plant(tmp_path / "photos", "cat/1.jpg")
    (tmp_path / "train.txt").write_text("precious")
    (tmp_path / "link.txt").symlink_to("dangling")
    os.mkfifo(tmp_path / "pipe")
    before = _files(tmp_path)
    assert main(["index", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert _files(tmp_path) == before
    assert (tmp_path / "train.txt").read_text() == "precious"


def test_force_replaces(tmp_path):
    """With --force a file is replaced as a whole."""
    photos = _plant(tmp_path / "photos", "cat/1.jpg")
    (tmp_path / "train.txt").write_text("old\n" * 1000)
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt"), "--force"]) == 0
    assert (tmp_path / "train.txt").read_text() == "photos/cat/1.jpg\tcat\n"


@pytest.mark.parametrize("moment", ["listing", "writing", "checking"])
def test_ctrl_c_leaves_no_half_file(tmp_path, monkeypatch, capsys, moment):
    """Stopped while it lists, writes or checks, it leaves what was there and nothing else."""
    photos = _plant(tmp_path / "photos", "cat/1.jpg", "cat/2.jpg")
    out = tmp_path / "train.txt"
    out.write_text("precious")
    before = _files(tmp_path)

    def stop(*_):
        raise KeyboardInterrupt

    where = {"listing": (ab.sources, "folder"), "writing": (os, "fsync"), "checking": (ab.sources, "manifest")}[moment]
    monkeypatch.setattr(*where, stop)
    assert main(["index", str(photos), "-o", str(out), "--force"]) == 130
    assert _files(tmp_path) == before
    assert out.read_text() == "precious"
    assert capsys.readouterr().err == "asyncbatch: stopped\n"


def test_a_wrong_manifest_never_appears(tmp_path, monkeypatch, capsys):
    """What does not read back as the folder is an error, not a file."""
    photos = _plant(tmp_path / "photos", "cat/1.jpg", "dog/2.jpg")
    monkeypatch.setattr(index, "_quoted", lambda path, also="": path.replace("1", "3"))
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 1
    assert "too odd" in capsys.readouterr().err
    assert _files(tmp_path) == {"photos/cat/1.jpg", "photos/dog/2.jpg"}


def test_the_clock_ticks_on_a_terminal(tmp_path, monkeypatch, capsys, footprint):
    """On a terminal a counter shows that listing goes on; its thread is gone afterwards."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    photos = _plant(tmp_path / "photos", *(f"cat/{i}.jpg" for i in range(30)))
    assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 0
    assert "listing" in capsys.readouterr().err
    footprint.assert_same()


def test_many_classes_are_summed_up(tmp_path, capsys):
    """Of many classes the largest are told, and how many there are more; folders' warnings stay warnings."""
    photos = _plant(tmp_path / "photos", *(f"class{i}/{j}.jpg" for i in range(40) for j in range(1 + i % 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["index", str(photos), "-o", str(tmp_path / "train.txt")]) == 0
    said = capsys.readouterr().out
    assert "in 40 classes" in said
    assert "30 classes more" in said


def test_help_and_missing_extras(tmp_path, monkeypatch, capsys):
    """The command explains itself, and without an extra's package it names the line that installs it."""
    with pytest.raises(SystemExit) as exit_:
        main(["index", "--help"])
    assert exit_.value.code == 0
    assert "pictures" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "tqdm", None)  # what Python itself does to forbid an import
    assert main(["index", str(tmp_path), "-o", str(tmp_path / "train.txt")]) == 1
    assert "pip install 'asyncbatch[cli]'" in capsys.readouterr().err
