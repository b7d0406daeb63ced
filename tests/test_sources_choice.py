"""What `Loader("path")` makes of its first argument, and what it says of what it cannot use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asyncbatch import ConfigError, Sample, SourceError, sources
from asyncbatch.sources import as_source


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_a_folder_and_a_file_a_manifest(tmp_path, kind):
    """A path is taken for what it leads to."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.jpg").touch()
    (tmp_path / "list.txt").write_text("cat/1.jpg 5")
    assert as_source(kind(tmp_path)).class_names == ("cat",)
    assert as_source(kind(tmp_path / "list.txt"))[0].label == 5


class Numbers:
    """A source that a user wrote, with a fingerprint of the given sort."""

    def __init__(self):
        self.fingerprint = "numbers"

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Sample(str(range(3)[index]))


class Lazy(Numbers):
    @property
    def fingerprint(self):
        raise AssertionError("computed without need")

    @fingerprint.setter
    def fingerprint(self, value): ...


@pytest.mark.parametrize(
    "source", [sources.arrays(np.zeros((2, 2))), Numbers(), Lazy()], ids=["ours", "user's", "lazy"]
)
def test_a_source_is_itself(source):
    """What satisfies the protocol is taken as it is, without computing its fingerprint."""
    assert as_source(source) is source


def a_class_of(module, name, **methods):
    return type(name, (), {"__module__": module, **methods})()


SEQUENCE = {"__len__": lambda self: 1, "__getitem__": lambda self, index: None}


@pytest.mark.parametrize(
    ("given", "what", "line"),
    [
        (["a.jpg", "b.jpg"], "list of 2", "pathlib.Path('list.txt').write_text("),
        ((Path("a.jpg"), Path("b.jpg")), "tuple of 2", "Loader(sources.manifest('list.txt', root='.'), …)"),
        ((np.zeros((2, 3)), np.zeros(2)), "tuple of 2", "Loader(sources.arrays(x, y), …)"),
        (np.zeros((2, 3)), "numpy.ndarray", "Loader(sources.arrays(x), …)"),
        (a_class_of("torch", "Tensor", **SEQUENCE, __array__=None), "torch.Tensor", "Loader(sources.arrays(x), …)"),
        (
            a_class_of("torchvision.datasets.folder", "ImageFolder", **SEQUENCE),
            "torchvision.datasets.folder.ImageFolder",
            "Loader(sources.folder(dataset.root), …)",
        ),
        (a_class_of("pandas", "DataFrame", **SEQUENCE, to_csv=None, __array__=None), "pandas.DataFrame", "to_csv("),
        (a_class_of("mine", "Half", **SEQUENCE), "mine.Half", "__getitem__(index) -> Sample, and fingerprint"),
        ([(np.zeros((2, 2)), 0)] * 3, "list of 3", "Loader(sources.items(pairs), …)"),
        ([("a.jpg", 0), ("b.jpg", 1)], "list of 2", "Loader(sources.manifest('list.csv', root='.'), …)"),
        (a_class_of("torch.utils.data", "Subset", **SEQUENCE), "torch.utils.data.Subset", "sources.items(dataset), …"),
        (a_class_of("datasets", "Dataset", **SEQUENCE, to_csv=None), "datasets.Dataset", "sources.items(dataset), …"),
        (a_class_of("mine", "Pictures", **SEQUENCE), "mine.Pictures", "Loader(sources.items(obj), …)"),
        (None, "None", "Loader('pictures/', …)"),
        (3, "int", "Loader('pictures/', …)"),
        ([], "list of 0", "pathlib.Path('list.txt').write_text("),
        ({"a.jpg": 3}, "dict", "Loader('pictures/', …)"),
        (Lazy, "type", "Loader('pictures/', …)"),
    ],
)
def test_anything_else_gets_the_line_to_write(given, what, line):
    """What is neither path nor source is a ConfigError that names its kind and the line to write instead."""
    with pytest.raises(ConfigError) as caught:
        as_source(given)
    assert f"source must be a path or a source, got {what}. " in str(caught.value)
    assert line in str(caught.value)


def test_the_line_for_a_list_of_paths_works(tmp_path, monkeypatch):
    """The line that is shown for a list of paths does what it says."""
    monkeypatch.chdir(tmp_path)
    paths = [Path("my cat.jpg"), Path("sub/dog.jpg")]
    Path("list.txt").write_text("\n".join(map(str, paths)))
    source = sources.manifest("list.txt", root=".")
    assert [Path(source[i].path) for i in range(2)] == paths


@pytest.mark.parametrize("url", ["ftp://host/train", "sftp://host/x.tar", Path("s3://bucket/train")])
def test_urls_of_no_store(url):
    """A URL that is none of an object store, or was made a Path, is a ConfigError that says what can be written."""
    with pytest.raises(ConfigError, match=r"not one of an object store as a text, 's3://…'.*Loader\('/mnt/"):
        as_source(url)


def test_file_urls():
    """A file URL is told to be written as a path."""
    with pytest.raises(ConfigError, match="write the path that follows 'file://'"):
        as_source("file:///data/train")


def test_missing_path(tmp_path, monkeypatch):
    """A missing path is a SourceError with the path, its absolute form, and what exists of it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as caught:
        as_source("data/train.txt")
    for part in ("'data/train.txt' does not exist", repr(str(tmp_path / "data/train.txt")), repr(str(tmp_path))):
        assert part in str(caught.value)


def test_names_are_sorted():
    """The public names are these, sorted."""
    assert sources.__all__ == ["arrays", "folder", "items", "manifest", "objects", "parquet", "tar"]
