"""`sources.folder`: what is listed, in which order, with which labels, and what is said about the rest."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from asyncbatch import ConfigError, SourceError, sources


def plant(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.fixture
def unprivileged():
    """Give up root's way around permissions; paths must then be relative to a working folder that all may enter."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no POSIX permissions here")
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_subfolders_are_classes(tmp_path):
    """Each sub-folder is a class, sorted, and its pictures carry its index, however deep they lie."""
    plant(tmp_path, "dog/1.jpg", "cat/b.png", "cat/a/deep/2.webp", "ant/z.bmp")
    source = sources.folder(tmp_path)
    assert source.class_names == ("ant", "cat", "dog")
    assert [Path(source[i].path).relative_to(tmp_path).as_posix() for i in range(len(source))] == [
        "ant/z.bmp",
        "cat/a/deep/2.webp",
        "cat/b.png",
        "dog/1.jpg",
    ]
    assert source.labels is not None
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [0, 1, 1, 2]


def test_samples_carry_path_and_label(tmp_path):
    """A sample's key is its path as found from the root that was given, its label an int64 scalar."""
    plant(tmp_path, "cat/1.jpg", "dog/2.jpg")
    sample = sources.folder(str(tmp_path))[1]
    assert sample.key == sample.path == str(tmp_path / "dog/2.jpg")
    assert sample.label == 1
    assert sample.label.dtype == np.int64
    assert (sample.offset, sample.length) == (0, None)


def test_keys_stay_relative(tmp_path, monkeypatch):
    """A relative root gives relative keys."""
    plant(tmp_path, "data/cat/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert sources.folder("data/")[0].key == str(Path("data/cat/1.jpg"))


def test_indices_behave_as_in_sequences(tmp_path):
    """Negative and NumPy indices work, those out of range raise IndexError, others TypeError."""
    source = sources.folder(plant(tmp_path, "1.jpg", "2.jpg", "3.jpg"))
    assert len(source) == 3
    assert source[-1] == source[2] == source[np.int64(2)]
    assert [sample.key for sample in source] == [source[i].key for i in range(3)]
    for outside in (3, -4):
        with pytest.raises(IndexError):
            source[outside]
    with pytest.raises(TypeError):
        source[0:2]  # type: ignore[index]
    with pytest.raises(TypeError):
        source["0"]  # type: ignore[index]


def test_order_is_by_code_points(tmp_path):
    """The order is that of names' code points part by part, so that a class's pictures stay together."""
    plant(tmp_path, "cat-2/1.jpg", "cat/9.jpg", "cat/10.jpg", "Zoo/1.jpg", "émeu/1.jpg", "cat/a/1.jpg", "cat/a.jpg")
    source = sources.folder(tmp_path)
    assert source.class_names == ("Zoo", "cat", "cat-2", "émeu")
    assert source.paths == (
        "Zoo/1.jpg",
        "cat/10.jpg",
        "cat/9.jpg",
        "cat/a/1.jpg",
        "cat/a.jpg",
        "cat-2/1.jpg",
        "émeu/1.jpg",
    )


def test_only_visible_pictures_are_listed(tmp_path):
    """Hidden files and folders, systems' folders and other files are left out without a word."""
    plant(tmp_path, "cat/1.jpg", "cat/.2.jpg", "cat/.git/3.jpg", ".cache/4.jpg", "cat/notes.txt", "cat/jpg", "list.csv")
    plant(tmp_path, "__MACOSX/5.jpg", "@eaDir/6.jpg", "lost+found/7.jpg")
    source = sources.folder(tmp_path)
    assert source.paths == ("cat/1.jpg",)
    assert source.class_names == ("cat",)


@pytest.mark.parametrize("extension", ["jpg", "JPG", "Jpeg", "jpe", "jfif", "PNG", "webp", "bmp"])
def test_extensions_in_any_case(tmp_path, extension):
    """Every extension of the allow-list counts, in upper and lower case."""
    assert sources.folder(plant(tmp_path, f"1.{extension}", "2.tiff")).paths == (f"1.{extension}",)


@pytest.mark.parametrize("extensions", [".tiff", ["tiff"], (".TIFF",), {".tiff"}, iter([".tiff"])])
def test_extensions_can_be_given(tmp_path, extensions):
    """Other extensions replace the default ones, with or without the dot."""
    plant(tmp_path, "1.tiff", "2.Tiff", "3.jpg")
    assert sources.folder(tmp_path, extensions=extensions).paths == ("1.tiff", "2.Tiff")


@pytest.mark.parametrize("extensions", [[], [3], [""], ["."], 3])
def test_unusable_extensions_are_refused(tmp_path, extensions):
    """Extensions that are none are a ConfigError that shows a list that works."""
    with pytest.raises(ConfigError, match=r"extensions must be a list such as \['.jpg'"):
        sources.folder(tmp_path, extensions=extensions)


def test_no_class_folders(tmp_path):
    """Pictures without sub-folders have no labels, and an empty sub-folder makes no class of its own."""
    plant(tmp_path, "2.jpg", "1.jpg", "annotations/1.xml")
    source = sources.folder(tmp_path)
    assert source.paths == ("1.jpg", "2.jpg")
    assert source.labels is None
    assert source.class_names == ()
    assert source[0].label is None


def test_labels_none_takes_every_picture(tmp_path):
    """`labels=None` lists all pictures, beside and in sub-folders, without labels and without a warning."""
    plant(tmp_path, "1.jpg", "cat/2.jpg", "cat/more/3.jpg")
    source = sources.folder(tmp_path, labels=None)
    assert source.paths == ("1.jpg", "cat/2.jpg", "cat/more/3.jpg")
    assert source.labels is None


@pytest.mark.parametrize(
    ("labels", "dtype", "values", "names"),
    [
        ([5, 6, 7], "int64", [5, 6, 7], ()),
        (np.array([1, 0, 1], np.uint8), "int64", [1, 0, 1], ()),
        ([0.5, 1.5, 2.5], "float32", [0.5, 1.5, 2.5], ()),
        (np.array([0.5, 1.5, 2.5]), "float64", [0.5, 1.5, 2.5], ()),
        (["dog", "ant", "dog"], "int64", [1, 0, 1], ("ant", "dog")),
        ([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], "float32", [[0, 1], [2, 3], [4, 5]], ()),
    ],
)
def test_labels_given(tmp_path, labels, dtype, values, names):
    """Labels may be given, one a picture in sorted order, over all folders."""
    source = sources.folder(plant(tmp_path, "b.jpg", "a.jpg", "cat/1.jpg"), labels=labels)
    assert source.paths == ("a.jpg", "b.jpg", "cat/1.jpg")
    assert source.labels is not None
    assert source.labels.dtype == dtype
    assert source.labels.tolist() == values
    assert source.class_names == names


def test_labels_given_are_copied(tmp_path):
    """The caller's array stays writable and is not referred to, while the source's own cannot be changed."""
    mine = np.array([3, 4])
    source = sources.folder(plant(tmp_path, "a.jpg", "b.jpg"), labels=mine)
    mine[0] = 9
    assert source[0].label == 3
    assert source.labels is not None
    with pytest.raises(ValueError, match="read-only"):
        source.labels[0] = 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], r"2 labels for 3 pictures"),
        ("infer", r"labels must be 'inferred', None, or one label a picture, got 'infer'"),
        (3, r"one label a picture"),
        ([object()] * 3, r"one label a picture"),
        ([[1], [2, 3], [4]], r"labels cannot be made an array"),
        (np.array([1, 2, 2**63], np.uint64), r"9223372036854775808, which does not fit int64"),
    ],
)
def test_unusable_labels_are_refused(tmp_path, labels, message):
    """Labels of another length or kind are a ConfigError that says so."""
    plant(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    with pytest.raises(ConfigError, match=message):
        sources.folder(tmp_path, labels=labels)


def test_pictures_beside_class_folders(tmp_path):
    """Pictures that lie beside class folders are left out with one warning that gives count and example."""
    plant(tmp_path, "cat/1.jpg", "stray2.jpg", "stray1.jpg")
    with pytest.warns(UserWarning, match=r"left out.*2 pictures, such as 'stray1.jpg'.*labels=None") as caught:
        source = sources.folder(tmp_path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert source.paths == ("cat/1.jpg",)


def test_empty_class_folder_keeps_its_index(tmp_path):
    """A class folder without pictures keeps its index, with one warning, so that two trees agree."""
    plant(tmp_path, "ant/notes.txt", "bee/.hidden.jpg", "cat/1.jpg")
    with pytest.warns(UserWarning, match=r"keeping their class index all the same: 2 folders, such as 'ant'") as caught:
        source = sources.folder(tmp_path)
    assert len(caught) == 1
    assert source.class_names == ("ant", "bee", "cat")
    assert source[0].label == 2


def test_fingerprint_follows_names_not_place(tmp_path):
    """A tree that is moved keeps its fingerprint; a renamed, added or relabelled picture changes it."""
    plant(tmp_path / "one", "cat/1.jpg", "dog/2.jpg")
    before = sources.folder(tmp_path / "one").fingerprint
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert sources.folder(tmp_path / "two").fingerprint == before
    assert sources.folder(tmp_path / "two", labels=[0, 1]).fingerprint != before
    assert sources.folder(tmp_path / "two", labels=None).fingerprint != before
    plant(tmp_path / "two", "dog/3.jpg")
    assert sources.folder(tmp_path / "two").fingerprint != before
    (tmp_path / "one/cat/1.jpg").rename(tmp_path / "one/cat/0.jpg")
    assert sources.folder(tmp_path / "one").fingerprint != before


def test_fingerprint_is_the_same_everywhere(tmp_path):
    """The fingerprint of a given list is a constant, on every machine and version."""
    plant(tmp_path, "cat/1.jpg", "dog/ü 2.jpg")
    assert sources.folder(tmp_path).fingerprint == "14dade98ced8b523a6fe991de37d4d2f"


def test_fingerprint_is_made_once(tmp_path):
    """The fingerprint is computed when it is first asked for and then kept."""
    source = sources.folder(plant(tmp_path, "1.jpg"))
    assert "fingerprint" not in vars(source)
    assert source.fingerprint is source.fingerprint


def test_samples_are_made_when_asked_for(tmp_path):
    """The source keeps no `Sample` of its own."""
    source = sources.folder(plant(tmp_path, "1.jpg"))
    assert source[0] == source[0]
    assert source[0] is not source[0]


def test_repr_says_what_it_is(tmp_path):
    """The repr gives the root, the number of pictures and the classes."""
    plant(tmp_path, *(f"c{i}/1.jpg" for i in range(5)))
    assert repr(sources.folder(tmp_path)) == f"FileSource({str(tmp_path)!r}, 5 pictures, 5 classes: c0, c1, c2, …)"
    assert repr(sources.folder(tmp_path, labels=None)).endswith("5 pictures, no labels)")
    assert repr(sources.folder(tmp_path, labels=np.zeros((5, 2)))).endswith("labels (5, 2) float64)")


def test_no_pictures_says_what_was_found(tmp_path):
    """A folder without pictures is a SourceError that says what was looked for and what is there instead."""
    plant(tmp_path, *(f"cat/{i}.TIFF" for i in range(12)), "cat/list.txt", "README", ".1.jpg")
    with pytest.raises(SourceError) as caught:
        sources.folder(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "looked for .bmp .jfif .jpe .jpeg .jpg .png .webp" in message
    for found in ("12 .tiff files", "1 .txt file,", "1 extension-less file", "1 hidden file"):
        assert found in message.replace(";", ",")
    assert "sources.manifest('list.txt')" in message


def test_empty_folder(tmp_path):
    """An empty folder is a SourceError that says that it is empty."""
    with pytest.raises(SourceError, match="found no files"):
        sources.folder(tmp_path)


def test_root_is_a_file(tmp_path):
    """A file given as a folder is a SourceError with the line that reads a manifest."""
    plant(tmp_path, "train.txt")
    with pytest.raises(SourceError, match=r"is a file, not a folder.*sources\.manifest\('.*train.txt'\)"):
        sources.folder(tmp_path / "train.txt")


@pytest.mark.parametrize(("below", "nearest"), [("no", "."), ("no/such/folder", "."), ("file.txt/below", "file.txt")])
def test_missing_root(tmp_path, below, nearest):
    """A missing root is a SourceError that names it and the part of it that exists."""
    plant(tmp_path, "file.txt")
    with pytest.raises(SourceError, match="does not exist") as caught:
        sources.folder(tmp_path / below)
    assert repr(str(tmp_path / below)) in str(caught.value)
    assert f"what exists of it is {str(tmp_path / nearest)!r}" in str(caught.value)


def test_missing_relative_root(tmp_path, monkeypatch):
    """A missing relative root is named as given and in full, with the folder that it was relative to."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as caught:
        sources.folder("data/train")
    assert str(caught.value).startswith("'data/train' does not exist")
    assert repr(str(tmp_path / "data/train")) in str(caught.value)
    assert f"working folder, {str(tmp_path)!r}" in str(caught.value)


def test_tilde_is_explained():
    """A path with "~" gets the line that expands it."""
    with pytest.raises(SourceError, match=r"os\.path\.expanduser\('~/no such folder'\)"):
        sources.folder("~/no such folder")


@pytest.mark.parametrize("root", [3, None, ["a"], b"bytes", "", "a\0b"])
def test_root_is_no_path(root):
    """What is no path is a ConfigError that says so."""
    with pytest.raises(ConfigError, match="root must"):
        sources.folder(root)


def test_unreadable_subfolder_is_an_error(tmp_path, monkeypatch, request):
    """A sub-folder that may not be read is a SourceError that names it, never a class left out."""
    plant(tmp_path, "cat/1.jpg", "dog/2.jpg")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert len(sources.folder(".")) == 2
    Path("dog").chmod(0)
    request.addfinalizer(lambda: (tmp_path / "dog").chmod(0o755))
    request.getfixturevalue("unprivileged")
    with pytest.raises(SourceError, match=r"'\./dog' cannot be listed: Permission denied"):
        sources.folder(".")


def test_root_out_of_reach(tmp_path, monkeypatch, request):
    """A root that may not be reached is a SourceError that says so, rather than one that is missing."""
    plant(tmp_path, "locked/set/1.jpg")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    Path("locked").chmod(0o600)
    request.addfinalizer(lambda: (tmp_path / "locked").chmod(0o755))
    request.getfixturevalue("unprivileged")
    with pytest.raises(SourceError, match="'locked/set' cannot be reached: Permission denied"):
        sources.folder("locked/set")


def test_files_are_not_looked_at(tmp_path, monkeypatch, request):
    """Listing asks nothing about single files: one stat a file is minutes on a slow mount."""
    plant(tmp_path, "cat/1.jpg", "cat/notes.txt")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    Path("cat").chmod(0o444)  # its entries can be listed but not looked at
    request.addfinalizer(lambda: (tmp_path / "cat").chmod(0o755))
    request.getfixturevalue("unprivileged")
    with pytest.raises(PermissionError):
        Path("cat/1.jpg").stat()
    assert sources.folder(".").paths == ("cat/1.jpg",)


def test_links_are_followed(tmp_path):
    """Links to folders and to pictures are listed under their own names, relative and absolute ones."""
    plant(tmp_path, "store/cats/1.jpg", "store/2.jpg", "set/dog/3.jpg")
    (tmp_path / "set/cat").symlink_to("../store/cats")
    (tmp_path / "set/dog/linked.jpg").symlink_to(tmp_path / "store/2.jpg")
    (tmp_path / "set/dog/notes").symlink_to(tmp_path / "store/2.jpg")
    assert sources.folder(tmp_path / "set").paths == ("cat/1.jpg", "dog/3.jpg", "dog/linked.jpg")
    (tmp_path / "link").symlink_to("set")
    assert len(sources.folder(tmp_path / "link")) == 3


@pytest.mark.parametrize("target", [".", "..", "../..", "../cat"])
def test_links_back_are_not_followed(tmp_path, target):
    """A link back to a folder above it ends there, with one warning that names it, and nothing is listed twice."""
    root = plant(tmp_path / "set", "cat/1.jpg", "dog/2.jpg")
    (root / "cat/back").symlink_to(target)
    with pytest.warns(UserWarning, match="lead back to a folder they lie in: 1 link, 'cat/back'") as caught:
        source = sources.folder(root)
    assert len(caught) == 1
    assert source.paths == ("cat/1.jpg", "dog/2.jpg")


def test_link_back_is_no_class(tmp_path):
    """A link from the root to itself does not become a class."""
    plant(tmp_path, "cat/1.jpg")
    (tmp_path / "all").symlink_to(tmp_path)
    with pytest.warns(UserWarning, match="1 link, 'all'"):
        source = sources.folder(tmp_path)
    assert source.class_names == ("cat",)


def test_links_across_end(tmp_path):
    """Two folders that link to each other are walked once from either side."""
    plant(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/to_b").symlink_to("../b")
    (tmp_path / "b/to_a").symlink_to("../a")
    with pytest.warns(UserWarning, match="2 links, such as 'a/to_b/to_a'"):
        source = sources.folder(tmp_path)
    assert source.paths == ("a/1.jpg", "a/to_b/2.jpg", "b/2.jpg", "b/to_a/1.jpg")


@pytest.mark.parametrize("target", ["nowhere", "dog"])
def test_broken_link_is_an_error(tmp_path, target):
    """A link to nothing or to itself may be a lost class, and is a SourceError that names it and its target."""
    plant(tmp_path, "cat/1.jpg")
    (tmp_path / "dog").symlink_to(target)
    with pytest.raises(SourceError, match=rf"dog' is a link to '{target}', which cannot be reached"):
        sources.folder(tmp_path)


def test_broken_link_to_a_picture_is_listed(tmp_path):
    """A link with a picture's name is listed unseen, so that a missing target shows when it is read."""
    plant(tmp_path, "cat/1.jpg")
    (tmp_path / "cat/2.jpg").symlink_to("nowhere")
    assert sources.folder(tmp_path).paths == ("cat/1.jpg", "cat/2.jpg")


def test_folder_with_a_pictures_name(tmp_path):
    """A folder whose name ends as a picture's is a folder all the same."""
    assert sources.folder(plant(tmp_path, "cat.jpg/1.png")).class_names == ("cat.jpg",)


@pytest.mark.skipif(os.name == "nt", reason="Windows names are always text")
def test_undecodable_names(tmp_path):
    """A file whose name is no UTF-8 is listed, has a fingerprint, and its path opens."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"picture")
    source = sources.folder(tmp_path)
    assert Path(source[0].path).read_bytes() == b"picture"
    assert len(source.fingerprint) == 32


def test_a_wide_and_deep_tree(tmp_path):
    """Every picture of many folders at several depths is found once, in order."""
    names = [f"c{i:02}/{'/'.join('abc'[:depth])}/{i}.jpg".replace("//", "/") for i in range(40) for depth in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = sources.folder(plant(tmp_path, *names))
    assert list(source.paths) == sorted(names, key=lambda name: name.split("/"))
