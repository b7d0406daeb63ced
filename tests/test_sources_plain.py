"""Plain manifests by columns: what the reader of lines would return, in other memory, and sent as a name."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import asyncbatch as ab
from asyncbatch.sources import _manifest, _plain
from asyncbatch.sources._plain import TextColumn


def by_lines(monkeypatch_context, file, **arguments):
    """Return what the reader of lines makes of a file, or its error."""
    with monkeypatch_context as patch:
        patch.setattr(_manifest, "_plain", lambda *_: None)
        return result(file, **arguments)


def result(file, **arguments):
    try:
        source = ab.sources.manifest(file, **arguments)
    except (ab.ConfigError, ab.SourceError) as error:
        return type(error), str(error)
    labels = None if source.labels is None else (source.labels.dtype, source.labels.shape, source.labels.tolist())
    return list(source.paths), labels, source.class_names, source.fingerprint


FIELDS = st.text(st.sampled_from("ab.09 é,;\t/#-+"), max_size=6) | st.sampled_from(
    [
        "a.jpg",
        "b c.png",
        "0",
        "1",
        "-7",
        "+3",
        "12345678901234567890",
        "cat",
        "dog",
        "1.5",
        "é.jpg",
        "path",
        "label",
        "nan",
        "-inf",
        "",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    rows=st.lists(st.lists(FIELDS, min_size=1, max_size=4), max_size=6),
    separator=st.sampled_from([" ", "\t", ",", ";", ", "]),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    bom=st.booleans(),
)
@example(rows=[["a.jpg", "cat"], ["b.jpg", "dog"]], separator=" ", end="\n", last=False, bom=False)
@example(rows=[["path", "label"], ["b.jpg", "3"]], separator=",", end="\r\n", last=True, bom=True)
@example(rows=[["a.jpg", "nan"], ["b.jpg", "nan"]], separator=" ", end="\n", last=True, bom=False)
@example(rows=[["a.jpg", "NaN"], ["b.jpg", "-Infinity"]], separator=",", end="\n", last=True, bom=False)
@example(rows=[["a.jpg", "nan"], ["b.jpg", "cat"]], separator="\t", end="\n", last=True, bom=False)
@example(rows=[["a.jpg", "1", "2"], ["b.jpg", "-3", "4"]], separator="\t", end="\n", last=True, bom=False)
def test_columns_return_what_lines_return(tmp_path_factory, rows, separator, end, last, bom):
    """The same paths, labels, classes and fingerprint, or the same error."""
    file = tmp_path_factory.mktemp("plain") / "train.txt"
    text = end.join(separator.join(row) for row in rows) + end * last
    file.write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    assert result(file) == by_lines(pytest.MonkeyPatch.context(), file)


PLAIN = {
    "spaces": "a.jpg 3\nb.jpg 1\n",
    "tabs": "a b.jpg\t3\nb.jpg\t1\n",
    "commas": "path,label\na.jpg,3\nb.jpg,1\n",
    "words": "a.jpg;cat\nb.jpg;dog\n# none\n\nc.jpg;cat\n",
    "several": "a.jpg,1,2\nb.jpg,3,4\n",
    "paths alone": "a.jpg\nb.jpg\n",
    "Windows": "a.jpg 3\r\nb.jpg 1\r\n",
    "UTF-8": "é/ä.jpg 3\nb.jpg 1",
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_manifests_are_read_by_columns(tmp_path, name):
    """Positive control: these take the short way, and agree with the long one."""
    (tmp_path / "train.txt").write_bytes(PLAIN[name].encode())
    source = ab.sources.manifest(tmp_path / "train.txt")
    assert isinstance(source.paths, TextColumn)
    assert result(tmp_path / "train.txt") == by_lines(pytest.MonkeyPatch.context(), tmp_path / "train.txt")


@pytest.mark.parametrize("label", ["nan", "NaN", "-inf", "+Infinity"])
def test_a_column_of_nan_is_no_class(tmp_path, label):
    """Labels that a table lacked are refused as a single one is, and not taken for a class of that name."""
    (tmp_path / "train.txt").write_text(f"a.jpg {label}\nb.jpg {label}\n")
    with pytest.raises(ab.SourceError, match=r"train\.txt, line 1: label '.*' is not a finite number"):
        ab.sources.manifest(tmp_path / "train.txt")


OTHERS = {
    "quotes": 'a.jpg,"3"\nb.jpg,1\n',
    "floats": "a.jpg 3.5\nb.jpg 1\n",
    "blanks": "a.jpg , 3\nb.jpg,1\n",
    "names with blanks": "my cat.jpg 3\nb.jpg 1\n",
    "a word with a dot": "a.jpg St.Elmo\nb.jpg dog\n",
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_read_by_lines(tmp_path, name):
    """What is not plain is left to the reader of lines, and is no error."""
    (tmp_path / "train.txt").write_text(OTHERS[name])
    assert isinstance(ab.sources.manifest(tmp_path / "train.txt").paths, tuple)


def test_paths_are_a_sequence(tmp_path):
    """Single ones, from the end, pieces, comparison, iteration and a short repr."""
    (tmp_path / "train.txt").write_text("".join(f"{n}.jpg\n" for n in range(10)))
    paths = ab.sources.manifest(tmp_path / "train.txt").paths
    assert (len(paths), paths[0], paths[-1], paths[3:5]) == (10, "0.jpg", "9.jpg", ("3.jpg", "4.jpg"))
    assert list(paths) == [f"{n}.jpg" for n in range(10)] == list(reversed(paths))[::-1]
    assert paths != paths[1:]
    assert "7.jpg" in paths
    assert repr(paths) == "<10 texts: '0.jpg', '1.jpg', '2.jpg', …>"
    with pytest.raises(IndexError):
        paths[10]


def test_a_source_is_sent_as_the_name_of_its_file(tmp_path):
    """A pickle is a few hundred bytes however many lines there are, and is the same source again."""
    (tmp_path / "train.txt").write_text("".join(f"{n:06}.jpg {n % 7}\n" for n in range(50_000)))
    source = ab.sources.manifest(tmp_path / "train.txt")
    pickled = pickle.dumps(source)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)  # noqa: S301 - of our own making
    assert again.fingerprint == source.fingerprint
    assert again[49_999] == source[49_999]
    assert len(pickle.dumps(again)) < 1000


def test_a_relative_manifest_keeps_its_keys(tmp_path, monkeypatch):
    """Keys and paths are the same in the process that the source is sent to."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("a.jpg 1\nb.jpg 2\n")
    monkeypatch.chdir(tmp_path)
    source = ab.sources.manifest("lists/train.txt")
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[1].path)"
    found = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(source), capture_output=True, check=True)
    assert found.stdout.decode().strip() == source[1].path == str(Path("lists", "b.jpg"))


def test_a_manifest_that_was_written_to_is_not_taken_for_what_it_was(tmp_path):
    """A process that opens another file than the one that sent the source is told so."""
    (tmp_path / "train.txt").write_text("a.jpg 1\n")
    pickled = pickle.dumps(ab.sources.manifest(tmp_path / "train.txt"))
    (tmp_path / "train.txt").write_text("a.jpg 1\nb.jpg 2\n")
    with pytest.raises(ab.SourceError, match="was written to or removed since it was opened"):
        pickle.loads(pickled)  # noqa: S301 - of our own making


def test_what_is_not_plain_is_sent_whole(tmp_path):
    """A folder, or a manifest with quotes, has its names in the pickle, and arrives."""
    (tmp_path / "train.txt").write_text('"a.jpg",1\n"b.jpg",2\n')
    source = ab.sources.manifest(tmp_path / "train.txt")
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - of our own making
    assert (again.paths, again.labels.tolist(), again.fingerprint) == (source.paths, [1, 2], source.fingerprint)


def test_long_files_are_read_piece_by_piece(tmp_path, monkeypatch):
    """Wherever a piece ends, the result is the same."""
    lines = "".join(f"{'x' * (n % 5)}{n}.jpg,{'abc'[n % 3]}{n % 11}\n" for n in range(300))
    (tmp_path / "train.txt").write_text(lines)
    expected = result(tmp_path / "train.txt")
    for chunk, count in [(1, 1), (7, 3), (100, 64), (4096, 299)]:
        monkeypatch.setattr(_plain, "_CHUNK", chunk)
        monkeypatch.setattr(_plain, "_LINES", count)
        assert result(tmp_path / "train.txt") == expected
    assert np.array(expected[1][2]).max() == 32


@pytest.mark.parametrize(("narrow", "dtype"), [(1 << 31, np.int32), (0, np.int64)])
def test_places_of_32_bits_serve_files_that_are_small_enough(tmp_path, monkeypatch, narrow, dtype):
    """Both widths give the same source, comments and line ends of Windows included."""
    monkeypatch.setattr(_plain, "_NARROW", narrow)
    file = tmp_path / "list.txt"
    file.write_bytes(b"# mine\r\nb/1.jpg 10\r\n\r\na/22.jpg -2\r\n")
    source = ab.sources.manifest(file)
    assert isinstance(source.paths, TextColumn)
    assert source.paths._starts.dtype == dtype
    assert (list(source.paths), source.labels.tolist()) == (["b/1.jpg", "a/22.jpg"], [10, -2])
