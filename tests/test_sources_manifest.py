"""`sources.manifest`: what a line may look like, what becomes of its labels, and what is said of a bad one."""

from __future__ import annotations

import csv
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncbatch import ConfigError, SourceError, sources


@pytest.fixture
def write(tmp_path):
    """Write a manifest and return its path."""

    def write(text, name="train.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def labels_of(source):
    return None if source.labels is None else (source.labels.dtype.name, source.labels.tolist())


@pytest.mark.parametrize(
    ("text", "paths", "labels"),
    [
        ("cat.jpg 3\ndog.jpg 0\n", ["cat.jpg", "dog.jpg"], [3, 0]),
        ("cat.jpg\t3\ndog.jpg\t0\n", ["cat.jpg", "dog.jpg"], [3, 0]),
        ("cat.jpg,3\ndog.jpg,0\n", ["cat.jpg", "dog.jpg"], [3, 0]),
        ("cat.jpg;3\ndog.jpg;0\n", ["cat.jpg", "dog.jpg"], [3, 0]),
        ("cat.jpg   3\ndog.jpg \t0  \n", ["cat.jpg", "dog.jpg"], [3, 0]),
        (" cat.jpg , 3\ndog.jpg,0 \n", ["cat.jpg", "dog.jpg"], [3, 0]),
        ("my cat.jpg 3\nmy old dog.PNG 0", ["my cat.jpg", "my old dog.PNG"], [3, 0]),
        ("my cat.jpg,3\nmy dog.jpg,0", ["my cat.jpg", "my dog.jpg"], [3, 0]),
        ("my cat.jpg\t3\nmy dog.jpg\t0", ["my cat.jpg", "my dog.jpg"], [3, 0]),
        ("a 1/b 2.jpg 3\na 1/c.jpg 0", ["a 1/b 2.jpg", "a 1/c.jpg"], [3, 0]),
        ('"my cat.jpg" 3\ndog.jpg 0', ["my cat.jpg", "dog.jpg"], [3, 0]),
        ('"my, cat.jpg",3\n"a ""dog"".jpg",0', ["my, cat.jpg", 'a "dog".jpg'], [3, 0]),
        ("my,cat.jpg 3\na,dog.jpg 0", ["my,cat.jpg", "a,dog.jpg"], [3, 0]),
        ("cat;1.jpg,3\ndog;1.jpg,0", ["cat;1.jpg", "dog;1.jpg"], [3, 0]),
        ("img/0001 3\nimg/0002 0", ["img/0001", "img/0002"], [3, 0]),
        ("scan 1.tif 3\nscan 2.tif 0", ["scan 1.tif", "scan 2.tif"], [3, 0]),
        ("v1.x dir/a.tif 3\nb.tif 0", ["v1.x dir/a.tif", "b.tif"], [3, 0]),
        ("猫 の.jpg 3\nÉmeu\u00a0x.jpg 0", ["猫 の.jpg", "Émeu\u00a0x.jpg"], [3, 0]),
        ("a.jpg\u2028b.jpg 3\nc\x0b\x85.jpg 0", ["a.jpg\u2028b.jpg", "c\x0b\x85.jpg"], [3, 0]),
        ("cat.jpg\nmy dog.jpg\n", ["cat.jpg", "my dog.jpg"], None),
        ("a,b.jpg\nc.jpg\n", ["a,b.jpg", "c.jpg"], None),
        ("cat.jpg,\ndog.jpg,\n", ["cat.jpg", "dog.jpg"], None),
        ("cat.jpg,3,\ndog.jpg,0,\n", ["cat.jpg", "dog.jpg"], [3, 0]),
        ("cat.jpg 3", ["cat.jpg"], [3]),
        ("../cat.jpg -1", ["../cat.jpg"], [-1]),
    ],
)
def test_separators_and_paths(write, text, paths, labels):
    """Spaces, tabs, commas and semicolons separate, found out from the file; paths may hold what does not."""
    source = sources.manifest(write(text))
    assert list(source.paths) == paths
    assert labels_of(source) == (None if labels is None else ("int64", labels))
    assert source.class_names == ()


@pytest.mark.parametrize(
    "text", ["cat.jpg 3\r\ndog.jpg 0\r\n", "\ufeffcat.jpg 3\ndog.jpg 0", "\ufeffcat.jpg 3\r\ndog.jpg 0"]
)
def test_windows_files(write, text):
    """Windows line ends and a byte order mark are no part of a path or label."""
    source = sources.manifest(write(text))
    assert source.paths == ("cat.jpg", "dog.jpg")
    assert labels_of(source) == ("int64", [3, 0])


def test_comments_and_blank_lines(write):
    """Blank lines and lines that begin with "#" are skipped; a "#" later in a line is part of it."""
    source = sources.manifest(write("# all mine\n\ncat.jpg 3\n  \t\n   # more\nno#1.jpg 0\n\n"))
    assert source.paths == ("cat.jpg", "no#1.jpg")
    assert sources.manifest(write('"#1.jpg",5\n')).paths == ("#1.jpg",)


def test_the_files_order_stays(write):
    """Lines keep their order, and a picture may be listed more than once."""
    assert sources.manifest(write("b.jpg 1\na.jpg 0\nb.jpg 1\n")).paths == ("b.jpg", "a.jpg", "b.jpg")


@pytest.mark.parametrize(
    ("labels", "dtype", "values", "names"),
    [
        (["3", "0", "+7"], "int64", [3, 0, 7], ()),
        (["007", "-2", "0"], "int64", [7, -2, 0], ()),
        (["0.5", "1", "-2e1"], "float32", [0.5, 1.0, -20.0], ()),
        (["1.", ".5", "1E-3"], "float32", [1.0, 0.5, np.float32(1e-3).item()], ()),
        (["dog", "ant", "dog"], "int64", [1, 0, 1], ("ant", "dog")),
        (["é", "Z", "a"], "int64", [2, 0, 1], ("Z", "a", "é")),
        (["1_0", "2_0", "1_0"], "int64", [0, 1, 0], ("1_0", "2_0")),
        (["nan", "cat", "inf"], "int64", [2, 0, 1], ("cat", "inf", "nan")),
        (["St.Elmo", "Mr.X", "a.b.c"], "int64", [1, 0, 2], ("Mr.X", "St.Elmo", "a.b.c")),
    ],
)
@pytest.mark.parametrize("separator", [" ", "\t", ","])
def test_label_kinds(write, separator, labels, dtype, values, names):
    """Integers become int64, floats float32, words the index of their sorted distinct names."""
    source = sources.manifest(write("\n".join(f"{i}.jpg{separator}{label}" for i, label in enumerate(labels))))
    assert labels_of(source) == (dtype, values)
    assert source.class_names == names
    assert source[1].label.dtype == dtype


def test_words_with_spaces(write):
    """Class names may hold spaces where tabs or commas separate."""
    for separator in "\t,":
        source = sources.manifest(write(f"1.jpg{separator}golden retriever\n2.jpg{separator}cat"))
        assert source.class_names == ("cat", "golden retriever")


@pytest.mark.parametrize(
    ("text", "dtype", "values"),
    [
        ("a.jpg 1 2\nb.jpg 3 4", "int64", [[1, 2], [3, 4]]),
        ("a.jpg,1,2.5\nb.jpg,3,4", "float32", [[1, 2.5], [3, 4]]),
        ("a b.jpg\t1\t2\t3", "int64", [[1, 2, 3]]),
        ("a b.jpg  1   2 \t 3 ", "int64", [[1, 2, 3]]),
    ],
)
def test_several_columns_are_a_vector(write, text, dtype, values):
    """Several label columns give (N, K) labels, and a sample's label is its row."""
    source = sources.manifest(write(text))
    assert labels_of(source) == (dtype, values)
    assert source[0].label.shape == (len(values[0]),)


@pytest.mark.parametrize(
    ("labels", "dtype", "expected"),
    [
        (["0.1", "3"], "float64", ("float64", [0.1, 3.0])),
        (["1", "3"], np.float32, ("float32", [1.0, 3.0])),
        (["1e300", "3"], float, ("float64", [1e300, 3.0])),
        (["1.0", "3.0"], "int32", ("int32", [1, 3])),
        (["1", "255"], np.uint8, ("uint8", [1, 255])),
        (["18446744073709551615", "0"], "uint64", ("uint64", [2**64 - 1, 0])),
    ],
)
def test_label_dtype(write, labels, dtype, expected):
    """`label_dtype` overrides the dtype of numbers."""
    path = write("\n".join(f"{i}.jpg {label}" for i, label in enumerate(labels)))
    assert labels_of(sources.manifest(path, label_dtype=dtype)) == expected


def test_class_names_that_look_like_numbers(write):
    """`label_dtype=str` makes classes of labels some or all of which look like numbers."""
    source = sources.manifest(write("1.jpg A\n2.jpg 7\n3.jpg A"), label_dtype=str)
    assert (source.class_names, labels_of(source)) == (("7", "A"), ("int64", [1, 0, 1]))
    source = sources.manifest(write("1.jpg 10\n2.jpg 9"), label_dtype="str")
    assert (source.class_names, labels_of(source)) == (("10", "9"), ("int64", [0, 1]))


@pytest.mark.parametrize(
    ("labels", "names", "values"),
    [
        (["dog", "ant"], ["dog", "bee", "ant"], [0, 2]),
        (["7", "A"], ["A", "7"], [1, 0]),
        (["2", "0"], ["dog", "bee", "ant"], [2, 0]),
        (["2", "0"], ["2", "1", "0"], [0, 2]),
    ],
)
def test_class_names_given(write, labels, names, values):
    """`class_names` sets the order of classes that are words, and names those that are indices."""
    path = write("\n".join(f"{i}.jpg {label}" for i, label in enumerate(labels)))
    source = sources.manifest(path, class_names=names)
    assert labels_of(source) == ("int64", values)
    assert source.class_names == tuple(names)


@pytest.mark.parametrize(
    ("text", "options", "paths", "labels"),
    [
        ("path,label\na.jpg,1\nb.jpg,2", {}, ["a.jpg", "b.jpg"], [1, 2]),
        ("label,File Name\n1,a.jpg\n2,b.jpg", {}, ["a.jpg", "b.jpg"], [1, 2]),
        ("Image-Path\tClass\na b.jpg\t1", {}, ["a b.jpg"], [1]),
        ("filename label\na b.jpg 1", {}, ["a b.jpg"], [1]),
        ("filename\na.jpg\nb.jpg", {}, ["a.jpg", "b.jpg"], None),
        (",path,label\n0,a.jpg,4\n1,b.jpg,5", {}, ["a.jpg", "b.jpg"], [4, 5]),
        ("filename,x,y\na.jpg,1,2", {}, ["a.jpg"], [[1, 2]]),
        ("path,label,note\na.jpg,1,\nb.jpg,2,", {}, ["a.jpg", "b.jpg"], [1, 2]),
        ("id,path,label\n7,a.jpg,1", {"label_columns": "label"}, ["a.jpg"], [1]),
        ("id,what,where\n7,1,a.jpg", {"path_column": "where", "label_columns": "what"}, ["a.jpg"], [1]),
        ("id,what,where\n7,1,a.jpg", {"path_column": 2, "label_columns": "what"}, ["a.jpg"], [1]),
        ("where,x,y,z\na.jpg,1,2,3", {"label_columns": ["z", "x"]}, ["a.jpg"], [[3, 1]]),
        ("7,a.jpg,1\n8,b.jpg,2", {"path_column": 1, "label_columns": 2}, ["a.jpg", "b.jpg"], [1, 2]),
        ("7,a.jpg,1\n8,b.jpg,2", {"path_column": 1, "label_columns": [0, 2]}, ["a.jpg", "b.jpg"], [[7, 1], [8, 2]]),
        ("path,label\na.jpg,1", {"label_columns": []}, ["a.jpg"], None),
        ("a.jpg,image\nb.jpg,file", {}, ["a.jpg", "b.jpg"], [1, 0]),
        ("a.tif image\nb.tif file", {}, ["a.tif", "b.tif"], [1, 0]),
        ("image,path,label\n1,a.jpg,2", {"label_columns": "label"}, ["a.jpg"], [2]),
        ("img1,Mr.X\nimg2,Mr.Y", {"path_column": 0, "label_columns": [], "separator": ","}, ["img1", "img2"], None),
    ],
)
def test_columns(write, text, options, paths, labels):
    """Columns go by the names of a header or by place; row numbers without a name and empty columns are left out."""
    source = sources.manifest(write(text), **options)
    assert list(source.paths) == paths
    assert (None if source.labels is None else source.labels.tolist()) == labels


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("path,split,label\na.jpg,val,1", {}, SourceError, r"several columns.*'split', 'label'.*label_columns='label'"),
        ("path,width,label\na.jpg,640,1", {}, SourceError, r"several columns.*label_columns='label'"),
        ("path,split,x\na.jpg,val,1", {}, SourceError, r"line 2: label 'val' is a word.*choose.*label_columns="),
        ("a.jpg,val,cat", {}, SourceError, r"line 1: label 'val' is a word.*label_columns="),
        (
            "foo,bar\na.jpg,1\nb.jpg,2",
            {},
            SourceError,
            r"line 1: seems to name.*path_column='foo', label_columns='bar'",
        ),
        ("7,a.jpg,1", {}, SourceError, r"line 1: the picture seems not to be in the first column; write path_column=1"),
        (
            "no,where,x\n1,a.jpg,2",
            {"label_columns": "x"},
            SourceError,
            r"line 2: .*not to be in the first.*path_column='where'",
        ),
        ("path,label\na.jpg,1", {"label_columns": "lable"}, ConfigError, r"'lable' is not one column.*'path', 'label'"),
        (
            "a.jpg,1",
            {"path_column": "path"},
            ConfigError,
            r"path_column='path' is not one column.*line 1.*'a.jpg', '1'",
        ),
        ("a.jpg,1", {"label_columns": 2}, ConfigError, r"label_columns=2 is not one column.*counted from 0"),
        ("a.jpg,1", {"path_column": -1}, ConfigError, r"path_column=-1 is not one column"),
        ("path,x,x\na.jpg,1,2", {"label_columns": "x"}, ConfigError, r"'x' is not one column.*stands there once"),
        ("path,x\na.jpg,1", {"label_columns": ["path", "x"]}, ConfigError, r"holds the column of the pictures' paths"),
        ("path,label\n", {}, SourceError, r"after the header there are no lines"),
    ],
)
def test_columns_that_need_a_word(write, text, options, error, message):
    """Where columns do not tell what they are, the error says which argument decides and shows a value."""
    with pytest.raises(error, match=message):
        sources.manifest(write(text), **options)


GOOD = "a.jpg{s}1\n# comment\n\nb.jpg{s}2\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c.jpg", "1 field where line 1 has 2: a label is missing"),
        ("c.jpg{s}3{s}4", "3 fields where line 1 has 2"),
        ("c.jpg{s}dog", "label 'dog' is a word where those before it are numbers; if all .* label_dtype=str"),
        ("c.jpg{s}nan", "label 'nan' is not a finite number"),
        ("c.jpg{s}-inf", "label '-inf' is not a finite number"),
        ("c.jpg{s}1e39", "label '1e39' is too large for float32; write label_dtype='float64'"),
        ("c.jpg{s}9223372036854775808", "label '9223372036854775808' does not fit int64"),
        ("c.jpg{s}1" + 5000 * "0", r"label '10{80,99}…' is not a finite number"),
        ("c\0.jpg{s}3", "holds a NUL character, as binary files do"),
        ("c\r.jpg{s}3", "holds a carriage return"),
        ("s3://bucket/c.jpg{s}3", "is a URL, and a manifest lists files; for a bucket write sources.objects"),
    ],
)
@pytest.mark.parametrize("separator", [" ", "\t", ",", ";"])
def test_bad_lines(write, separator, line, message):
    """A line that does not parse is a SourceError with file, line number, text and what is wrong."""
    good = write(GOOD.format(s=separator), "good.txt")
    assert len(sources.manifest(good)) == 2
    path = write((GOOD + line + "\nd.jpg{s}4\n").format(s=separator), "bad.txt")
    with pytest.raises(SourceError, match=message) as caught:
        sources.manifest(path, separator=separator)
    assert str(caught.value).startswith(f"{path}, line 5: ")
    assert f"The line: {line.format(s=separator)[:20]!r}"[:-1] in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("text", "number", "message"),
    [
        ("a.jpg,1\nb.jpg,\nc.jpg,3", 2, "its label is missing"),
        ("a.jpg,1,2\nb.jpg,1,\nc.jpg,3,4", 2, "its label is missing"),
        ("a.jpg,1\n,2\n", 2, "the picture's path is missing"),
        ("a.jpg,cat\nb.jpg,dog\nc.jpg,7\n", 3, "label '7' is a number where those before it are words"),
        ('a.jpg,1\n"b.jpg,2\nc.jpg,3\n"d.jpg",4\n', 2, "quotation mark"),
        ('a.jpg,1\n"b.jpg,2\nc.jpg,3\n', 2, "quotation mark"),
        ('a.jpg,1\n"b.jpg,2\nc.jpg",3\n', 2, "a quotation mark is opened and not closed"),
        ('a.jpg,1\n"b".jpg,2\n', 2, "is no CSV.*quotation mark"),
        ("a.jpg 1,0\nb.jpg 0,1\n", 1, "separates by spaces and by commas"),
        ("a.jpg golden retriever\nb.jpg border collie\n", 1, "label 'golden' is a word"),
        ("a.jpg cat\nb.jpg border collie\n", 2, "for class names with spaces separate by tabs or commas"),
        ("my, cat.jpg,1\na.jpg,1\nb.jpg,2", 2, "2 fields where line 1 has 3"),
        ("a.jpg 1 2\nb.jpg 1 x\n", 2, "label 'x' is a word"),
        (f"a.jpg,1\nb.jpg,{'2' * 200_000}\n", 2, "is no CSV, field larger than field limit"),
        ("a.jpg\nb.jpg 2\n", 2, "2 fields where line 1 has 1"),
    ],
)
def test_lines_that_differ(write, text, number, message):
    """Missing labels, words among numbers, open quotes and other numbers of columns are found, at their line."""
    with pytest.raises(SourceError, match=rf"train\.txt, line {number}: .*{message}.*The line: "):
        sources.manifest(write(text))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["dog", "cat"]}, r"line 3: label 'emu' is not one of class_names, 'dog', 'cat'\."),
        ({"label_dtype": "int64"}, r"line 1: label 'cat' is a word among labels that have to be numbers"),
    ],
)
def test_labels_that_do_not_fit_the_arguments(write, options, message):
    """A label that is not what the arguments announce is a SourceError at its line."""
    with pytest.raises(SourceError, match=message):
        sources.manifest(write("1.jpg cat\n2.jpg dog\n3.jpg emu"), **options)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ("0 1 2", {"class_names": ["dog", "cat"]}, r"line 3: label '2' is not an index of the 2 class_names, 0 to 1"),
        ("0 -1 1", {"class_names": ["dog", "cat"]}, r"line 2: label '-1' is not an index"),
        ("0 1.5 1", {"class_names": ["dog", "cat"]}, r"line 2: label '1.5' is not an integer"),
        ("0 0.5 1", {"label_dtype": "int64"}, r"line 2: label '0.5' is not an integer, as int64 wants"),
        ("0 1 256", {"label_dtype": "uint8"}, r"line 3: label '256' does not fit uint8, which goes from 0 to 255"),
        ("0 1e6 1", {"label_dtype": "float16"}, r"line 2: label '1e6' is too large for float16"),
    ],
)
def test_numbers_that_do_not_fit_the_arguments(write, labels, options, message):
    """A number that does not fit the dtype or the class names asked for is a SourceError at its line."""
    path = write("\n".join(f"{i}.jpg {label}" for i, label in enumerate(labels.split())))
    with pytest.raises(SourceError, match=message):
        sources.manifest(path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separator": "|"}, r"separator must be 'auto', ' ', '\\t', ',' or ';', got '|'"),
        ({"class_names": "cat"}, r"write class_names=\['cat', 'dog'\]"),
        ({"class_names": 3}, r"class_names must be a list of strings"),
        ({"class_names": ["cat", "cat"]}, r"name each class once"),
        ({"class_names": []}, r"name each class once"),
        ({"class_names": [1, 2]}, r"must be strings"),
        ({"label_dtype": "cat"}, r"label_dtype must be an integer or floating dtype.*got 'cat'"),
        ({"label_dtype": bool}, r"label_dtype must be"),
        ({"label_columns": [], "class_names": ["cat"]}, r"class_names is for labels, and .*train.txt' has none"),
        ({"label_columns": 1.5}, r"label_columns must be a name, a place or a list of them, got 1.5"),
        ({"path_column": 1.5}, r"path_column=1.5 is not one column"),
        ({"root": 3}, r"root must be a path"),
    ],
)
def test_unusable_arguments(write, options, message):
    """An argument that cannot be used is a ConfigError that names it and the value."""
    with pytest.raises(ConfigError, match=message):
        sources.manifest(write("1.jpg 0\n2.jpg 1"), **options)


def test_class_names_are_for_one_column(write):
    """Class names with several label columns are a SourceError that asks which column is meant."""
    with pytest.raises(SourceError, match="a class is one; choose it by label_columns="):
        sources.manifest(write("1.jpg 0 1"), class_names=["cat", "dog"])


def test_relative_to_the_manifest(tmp_path, write, monkeypatch):
    """Relative paths start from the manifest's folder, wherever the process is; absolute ones stay."""
    (tmp_path / "lists").mkdir()
    path = write("../cat.jpg 1\n/data/dog.jpg 2\n", "lists/train.txt")
    source = sources.manifest(path)
    assert source[0].key == source[0].path == str(tmp_path / "lists/../cat.jpg")
    assert source[1].path == "/data/dog.jpg"
    monkeypatch.chdir(tmp_path / "lists")
    assert sources.manifest("train.txt")[0].path == "../cat.jpg"


def test_relative_to_a_root(tmp_path, write):
    """`root` is where relative paths start from instead, and absolute ones stay."""
    (tmp_path / "pictures").mkdir()
    source = sources.manifest(write("cat.jpg 1\n/data/dog.jpg 2\n"), root=tmp_path / "pictures")
    assert source[0].path == str(tmp_path / "pictures/cat.jpg")
    assert source[1].path == "/data/dog.jpg"


def test_bad_roots(tmp_path, write):
    """A root that is missing or a file is a SourceError that names it."""
    path = write("cat.jpg 1")
    with pytest.raises(SourceError, match="no' does not exist"):
        sources.manifest(path, root=tmp_path / "no")
    with pytest.raises(SourceError, match=r"root must be the folder.*train\.txt' is a file"):
        sources.manifest(path, root=path)


def test_fingerprint_follows_contents(tmp_path, write):
    """The fingerprint depends on paths, labels and class names, not on where the file is or how it is written."""
    before = sources.manifest(write("a.jpg cat\nb.jpg dog\n")).fingerprint
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "train.txt", tmp_path / "moved")
    assert sources.manifest(tmp_path / "moved/train.txt").fingerprint == before
    assert sources.manifest(write('"a.jpg", cat\r\n\r\n"b.jpg", dog')).fingerprint == before
    others = ["b.jpg dog\na.jpg cat", "a.jpg dog\nb.jpg cat", "a.jpg cat\nb.jpg emu", "a.jpg cat", "a.jpg\nb.jpg",
              "a.jpg 0\nb.jpg 1", "a.jpg 0.0\nb.jpg 1"]  # fmt: skip
    assert len({before, *(sources.manifest(write(other)).fingerprint for other in others)}) == 1 + len(others)


@pytest.mark.parametrize("text", ["", "\n\r\n  \n", "# only\n# comments"])
def test_empty_manifest(write, text):
    """A manifest without pictures is a SourceError."""
    with pytest.raises(SourceError, match="lists no pictures: every line of it is blank or a comment"):
        sources.manifest(write(text))


@pytest.mark.parametrize("prefix", [b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x93NUMPY\x01\0", b"\x1f\x8b\x08\0\0\0\0\0"])
def test_binary_files_are_refused_at_once(write, prefix):
    """A binary file, here of 64 GiB, is refused in kind words without being read whole."""
    path = write(prefix)
    os.truncate(path, 64 << 30)
    with pytest.raises(SourceError, match=r"is a binary file, not a list of pictures.*cat\.jpg 3"):
        sources.manifest(path)


def test_endless_lines_are_refused(write):
    """A text without line ends, here of 64 MiB, is refused, naming the limit."""
    with pytest.raises(SourceError, match=r"line 1: longer than 1,048,576 bytes"):
        sources.manifest(write(b"x" * (64 << 20)))


def test_text_formats_are_refused_at_their_line(write):
    """A binary file that begins as a text, such as a tar, is refused at its first NUL."""
    with pytest.raises(SourceError, match=r"line 1: holds a NUL character, as binary files do; a manifest is"):
        sources.manifest(write(b"cat.jpg" + b"\0" * 93 + b"0000644\0"))


def test_utf16_is_explained(write):
    """UTF-16, as Windows tools write it, gets the command that converts it."""
    with pytest.raises(SourceError, match="UTF-16 text; save it as UTF-8: iconv"):
        sources.manifest(write("cat.jpg 3".encode("utf-16")))


def test_undecodable_bytes(write):
    """Bytes that are no UTF-8 are a SourceError with line, place and command."""
    with pytest.raises(
        SourceError, match=r"line 2: byte 4 of the line, 0xe9, is not UTF-8.*iconv.*'caf\\\\xe9\.jpg 1'"
    ):
        sources.manifest(write(b"a.jpg 0\ncaf\xe9.jpg 1\n"))


def test_what_is_no_file(tmp_path):
    """A folder, a pipe and nothing at all are SourceErrors with the line to write; a pipe does not hang."""
    with pytest.raises(SourceError, match=r"is a folder.*write sources\.folder\("):
        sources.manifest(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="is a pipe or a device"):
        sources.manifest(tmp_path / "pipe")
    with pytest.raises(SourceError, match=r"no\.txt' does not exist"):
        sources.manifest(tmp_path / "no.txt")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file at hand whose reading fails")
def test_a_failing_read():
    """An error of the system while the file is read is a SourceError that gives its words."""
    with pytest.raises(SourceError, match="'/proc/self/mem' cannot be read: Input/output error"):
        sources.manifest("/proc/self/mem")


def test_many_lines(write):
    """A list of many lines is read whole and in order, and an error far down has its own number."""
    lines = [f"class {i % 7}/{i}.jpg {i}" for i in range(20_000)]
    source = sources.manifest(write("\n".join(lines)))
    assert labels_of(source) == ("int64", list(range(20_000)))
    assert source.paths[-1] == "class 0/19999.jpg"
    lines[15_000] = "class 6/15000.jpg"
    with pytest.raises(SourceError, match=r"line 15001: 1 field where line 1 has 2.*class 6/15000\.jpg'"):
        sources.manifest(write("\n".join(lines)))


# Everything but what ends lines or cannot be written as UTF-8; spaces around a field are no part of it.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n")
text = st.text(characters, max_size=12).map(lambda text: text.strip(" \t"))
extensions = st.sampled_from([".jpg", ".JPEG", ".png", ".WebP"])
paths = st.tuples(text.filter(lambda text: not text.startswith("#") and "://" not in text), extensions).map("".join)
plain_paths = paths.filter(lambda path: not path.startswith('"') and "\t" not in path)


@st.composite
def manifests(draw):
    """Draw paths, rows of labels all of one kind, and a separator that can hold them apart."""
    separator = draw(st.sampled_from([" ", "\t", ",", ";"]))
    listed = draw(st.lists(plain_paths if separator == " " else paths, min_size=1, max_size=6))
    word = st.text("abcxyz-é猫", max_size=6) if separator == " " else text
    kind = draw(
        st.sampled_from(
            [
                st.integers(-(2**63), 2**63 - 1),
                st.floats(width=32, allow_nan=False, allow_infinity=False),
                word.map(lambda word: f"w{word}"),
            ]
        )
    )
    width = draw(st.integers(0, 3))
    rows = [[draw(kind) for _ in range(width)] for _ in listed]
    if any(isinstance(value, str) for row in rows for value in row):
        rows = [row[:1] for row in rows]
    return separator, listed, rows


@given(manifests(), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_round_trip(tmp_path_factory, drawn, line_end, with_mark):
    """Any paths and labels, written out with any separator, are read back as they were."""
    separator, listed, rows = drawn
    lines = [[path, *map(str, row)] for path, row in zip(listed, rows, strict=True)]
    stream = io.StringIO()
    if separator == " ":
        stream.writelines(" ".join(line) + line_end for line in lines)
    else:
        csv.writer(stream, delimiter=separator, lineterminator=line_end).writerows(lines)
    path = tmp_path_factory.getbasetemp() / "round_trip.txt"
    path.write_bytes(stream.getvalue().encode("utf-8-sig" if with_mark else "utf-8"))

    source = sources.manifest(path, separator=separator)

    assert list(source.paths) == listed
    width = len(rows[0])
    if width == 0:
        assert source.labels is None
    elif isinstance(rows[0][0], str):
        assert [source.class_names[label] for label in source.labels] == [row[0] for row in rows]
        assert list(source.class_names) == sorted({row[0] for row in rows})
    else:
        expected = np.array(rows, dtype=np.int64 if isinstance(rows[0][0], int) else np.float32)
        np.testing.assert_array_equal(source.labels, expected[:, 0] if width == 1 else expected, strict=True)


@given(
    st.lists(
        st.from_regex(r"[a-zé]{1,4}( [a-zé0-9]{1,4}){0,2}\.(jpg|PNG|tif)", fullmatch=True), min_size=1, max_size=5
    ),
    st.sampled_from(["\t", ",", ";", " "]),
    st.integers(0, 3),
)
def test_separator_is_found(tmp_path_factory, listed, separator, width):
    """The separator of paths with spaces and numeric labels needs no telling."""
    path = tmp_path_factory.getbasetemp() / "separator.txt"
    path.write_text("\n".join(separator.join([name, *("7" for _ in range(width))]) for name in listed), "utf-8")
    source = sources.manifest(path)
    assert list(source.paths) == listed
    assert (0 if source.labels is None else source.labels.size) == len(listed) * width


fragments = [
    "a.jpg",
    "b c.png",
    "path",
    "label",
    "7",
    "0.5",
    "dog",
    "nan",
    "é",
    "#",
    '"',
    " ",
    "\t",
    ",",
    ";",
    "\n",
    "\r\n",
]


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from(fragments), max_size=20).map("".join).map(str.encode),
    st.sampled_from(["auto", " ", "\t", ",", ";"]),
    st.sampled_from([{}, {"label_dtype": str}, {"class_names": ["dog"]}, {"path_column": 1}, {"label_columns": []}]),
)
def test_any_file_is_a_source_or_an_error_of_ours(tmp_path_factory, content, separator, options):
    """Whatever a file holds, it is read as pictures with as many labels, or refused as a SourceError or ConfigError."""
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    try:
        source = sources.manifest(path, separator=separator, **options)
    except (SourceError, ConfigError) as error:
        message = str(error)
    else:
        message = f"{source!r} of any.txt"
        assert len(source) > 0
        assert all(source.paths)
        assert source.labels is None or len(source.labels) == len(source)
    assert "any.txt" in message
