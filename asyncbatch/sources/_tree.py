"""What a tree of pictures says of them: the first folder of each is its class."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch._types import Array
from asyncbatch.sources._labels import from_memory
from asyncbatch.sources._scan import Findings

__all__ = ["Tree", "endings_of", "labelled", "no_pictures", "require_labels"]


@dataclass(frozen=True, slots=True)
class Tree:
    """The pictures that are taken, and their labels.

    Attributes:
        paths: Below the root, with "/" between their parts.
        labels: (N,) int64 for classes, else as they were given; None for none.
        class_names: The name of each class index; empty where labels are not named classes.
        concerns: What is odd, for a warning.
    """

    paths: tuple[str, ...]
    labels: Array | None
    class_names: tuple[str, ...]
    concerns: tuple[str, ...]


def labelled(found: Findings, labels: Any) -> Tree:
    """Give each picture its label.

    Args:
        found: What there is.
        labels: As `sources.folder` has them.

    Raises:
        ConfigError: There are not as many labels as pictures.
    """
    concerns = []
    if found.loops:
        concerns.append(f"not followed, since they lead back to a folder they lie in: {_counted(found.loops, 'link')}")
    if labels is None:
        return Tree(tuple(found.pictures), None, (), tuple(concerns))
    if isinstance(labels, str):
        return _classes(found, concerns)
    given, names = from_memory(labels, len(found.pictures), "labels")
    return Tree(tuple(found.pictures), given.copy(), names, tuple(concerns))


def require_labels(labels: Any) -> None:
    """Refuse a text other than "inferred".

    Raises:
        ConfigError: It is one.
    """
    if isinstance(labels, str) and labels != "inferred":
        raise ConfigError(f"labels must be 'inferred', None, or one label a picture, got {labels!r}")


def _classes(found: Findings, concerns: list[str]) -> Tree:
    """Take the root's sub-folders for the classes, if there are pictures in any, and note what is odd."""
    classed = [path for path in found.pictures if "/" in path]
    if not classed:
        return Tree(tuple(found.pictures), None, (), tuple(concerns))
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
    return Tree(tuple(classed), labels, tuple(found.folders), tuple(concerns))


def _counted(names: Sequence[str], noun: str) -> str:
    """Say how many there are and give an example: "3 links, such as 'a/b'"."""
    if len(names) == 1:
        return f"1 {noun}, {names[0]!r}"
    return f"{len(names):,} {noun}s, such as {names[0]!r}"


def endings_of(extensions: Iterable[str]) -> tuple[str, ...]:
    """Return extensions in lower case, with the dot.

    Raises:
        ConfigError: They are none.
    """
    given = (extensions,) if isinstance(extensions, str) or not isinstance(extensions, Iterable) else tuple(extensions)
    if not given or not all(isinstance(extension, str) and extension.strip(".") for extension in given):
        raise ConfigError(f"extensions must be a list such as ['.jpg', '.png'], got {reprlib.repr(extensions)}")
    return tuple(sorted({f".{extension.lower().lstrip('.')}" for extension in given}))


def no_pictures(root: str, found: Findings, endings: tuple[str, ...]) -> SourceError:
    """Return the error that says what is there instead."""
    others = [f"{count:,} {kind} {'file' if count == 1 else 'files'}" for kind, count in found.others.most_common(5)]
    present = ", ".join(others) if others else "no files"
    message = f"{root!r} holds no pictures: looked for {' '.join(endings)} in it and its folders, found {present}"
    if found.others[".txt"] or found.others[".csv"]:
        message += "; if one of them lists the pictures, write sources.manifest('list.txt')"
    if found.others[".parquet"]:
        message += f"; for pictures in Parquet write sources.parquet({root!r})"
    return SourceError(message)
