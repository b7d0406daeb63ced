"""A folder of pictures, one sub-folder a class."""

from __future__ import annotations

import os
import reprlib
import stat
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch.sources._files import PICTURE_EXTENSIONS, FileSource
from asyncbatch.sources._labels import from_memory
from asyncbatch.sources._paths import file_mode, path_text
from asyncbatch.sources._scan import Findings, scan

__all__ = ["folder"]


def folder(
    root: str | os.PathLike[str], *, labels: Any = "inferred", extensions: Iterable[str] = PICTURE_EXTENSIONS
) -> FileSource:
    """List the pictures under a folder; by default its sub-folders are the classes.

    ``root/cat/1.jpg`` and ``root/cat/more/2.jpg`` are of class "cat". Classes and pictures are in the order of their
    names' code points, which is the same on every system and in every locale ("img10" comes before "img2").

    Hidden files and folders, whose names begin with a dot, the folders of operating systems (``__MACOSX``,
    ``lost+found``, …) and files with other extensions are left out. Links are followed; one that leads back to a
    folder it lies in is left out with a warning. Files are not looked at: what has the name of a picture is listed,
    and whatever is wrong with it shows when it is read.

    Args:
        root: The folder.
        labels: "inferred" makes the sub-folders of `root` the classes; there are no labels when none of them holds a
            picture. An empty class folder keeps its index, so that trees for training and validation agree, and
            pictures beside the class folders are left out; both with a warning. None takes every picture under `root`
            without labels. A list or array gives every picture under `root` its label, in order: integers become
            int64, a list's floats float32, strings class indices in the order of the sorted names.
        extensions: What the names of pictures end in, in any case. Default: the formats that are decoded.

    Returns:
        N pictures; labels (N,) int64 and `class_names` when classes were found.

    Raises:
        SourceError: The folder is missing, cannot be listed, holds a link that leads nowhere, or has no pictures.
        ConfigError: An argument cannot be used, or there are not as many labels as pictures.
    """
    path = path_text(root, "root")
    inferred = isinstance(labels, str) and labels == "inferred"
    if isinstance(labels, str) and not inferred:
        raise ConfigError(f"labels must be 'inferred', None, or one label a picture, got {labels!r}")
    endings = _endings(extensions)
    if not stat.S_ISDIR(file_mode(path)):
        raise SourceError(f"{path!r} is a file, not a folder; if it lists pictures, write sources.manifest({path!r})")
    found = scan(path, endings)
    if not found.pictures:
        raise _no_pictures(path, found, endings)
    concerns = []
    if found.loops:
        concerns.append(f"not followed, since they lead back to a folder they lie in: {_counted(found.loops, 'link')}")
    if labels is None:
        source = FileSource(root=path, paths=tuple(found.pictures))
    elif inferred:
        source = _classes(path, found, concerns)
    else:
        given, names = from_memory(labels, len(found.pictures), "labels")
        source = FileSource(root=path, paths=tuple(found.pictures), labels=given.copy(), class_names=names)
    for concern in concerns:
        warnings.warn(f"{path}: {concern}", stacklevel=2)
    return source


def _classes(root: str, found: Findings, concerns: list[str]) -> FileSource:
    """Take the root's sub-folders for the classes, if there are pictures in any, and note what is odd."""
    classed = [path for path in found.pictures if "/" in path]
    if not classed:
        return FileSource(root=root, paths=tuple(found.pictures))
    index = {name: i for i, name in enumerate(found.folders)}
    labels = np.fromiter((index[path.partition("/")[0]] for path in classed), dtype=np.int64, count=len(classed))
    beside = [path for path in found.pictures if "/" not in path]
    if beside:
        concerns.append(
            f"left out, having no class beside the class folders: {_counted(beside, 'picture')}. For all pictures "
            "without classes write labels=None"
        )
    empty = [found.folders[i] for i in np.flatnonzero(np.bincount(labels, minlength=len(index)) == 0)]
    if empty:
        concerns.append(f"without a picture, keeping their class index all the same: {_counted(empty, 'folder')}")
    return FileSource(root=root, paths=tuple(classed), labels=labels, class_names=tuple(found.folders))


def _counted(names: Sequence[str], noun: str) -> str:
    """Say how many there are and give an example: "3 links, such as 'a/b'"."""
    if len(names) == 1:
        return f"1 {noun}, {names[0]!r}"
    return f"{len(names):,} {noun}s, such as {names[0]!r}"


def _endings(extensions: Iterable[str]) -> tuple[str, ...]:
    given = (extensions,) if isinstance(extensions, str) or not isinstance(extensions, Iterable) else tuple(extensions)
    if not given or not all(isinstance(extension, str) and extension.strip(".") for extension in given):
        raise ConfigError(f"extensions must be a list such as ['.jpg', '.png'], got {reprlib.repr(extensions)}")
    return tuple(sorted({f".{extension.lower().lstrip('.')}" for extension in given}))


def _no_pictures(root: str, found: Findings, endings: tuple[str, ...]) -> SourceError:
    others = [f"{count:,} {kind} {'file' if count == 1 else 'files'}" for kind, count in found.others.most_common(5)]
    present = ", ".join(others) if others else "no files"
    message = f"{root!r} holds no pictures: looked for {' '.join(endings)} in it and its folders, found {present}"
    if found.others[".txt"] or found.others[".csv"]:
        message += "; if one of them lists the pictures, write sources.manifest('list.txt')"
    if found.others[".parquet"]:
        message += f"; for pictures in Parquet write sources.parquet({root!r})"
    return SourceError(message)
