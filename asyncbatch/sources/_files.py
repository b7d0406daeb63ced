"""A list of files and their labels: what `folder` and `manifest` make."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from asyncbatch._types import Array, Indices, Sample
from asyncbatch.sources._fingerprint import Digest
from asyncbatch.sources._plain import TextColumn

__all__ = ["PICTURE_EXTENSIONS", "FileSource", "labels_shown"]

PICTURE_EXTENSIONS = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
"""What the names of pictures end in, in any case: the formats that the decoder's allow-list takes."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FileSource:
    """Files with labels, in a fixed order. Made by `sources.folder` and `sources.manifest`.

    It holds two compact sequences; a `Sample` is made when it is asked for, with a NumPy scalar or row as its label,
    so that labels gathered into a batch keep their dtype.

    Attributes:
        root: The folder that relative paths start from, as it was given.
        paths: The files, relative to `root`, or absolute where the manifest has them so. A sequence of texts, which for
            a long manifest are made as they are asked for.
        labels: (N,) int64 for classes and integers, (N,) floating for floats, (N, K) for K columns; None where there
            are no labels. Read-only.
        class_names: The name of each class index; empty where labels are not named classes.
        reopen: Makes it again in another process, which is sent this instead of millions of names; None where the
            names are sent.
    """

    root: str
    paths: Sequence[str]
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    reopen: Callable[[], FileSource] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Sample:
        index = operator.index(index)
        path = os.path.join(self.root, self.paths[index])  # noqa: PTH118  a Path for every sample costs 3 µs, this 1
        return Sample(key=path, label=None if self.labels is None else self.labels[index], path=path)

    def samples(self, indices: Indices, /) -> list[Sample]:
        """Return several samples, in half the time of one after another."""
        if type(self) is not FileSource:  # a class of the user's own may have others
            return [self[index] for index in indices.tolist()]
        names = self.paths.at(indices) if isinstance(self.paths, TextColumn) else [self.paths[at] for at in indices]
        labels = [None] * len(names) if self.labels is None else list(self.labels[indices])
        join, root = os.path.join, self.root
        paths = names if not root else [join(root, name) for name in names]
        return [Sample(path, label, path) for path, label in zip(paths, labels, strict=True)]

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the files' names, order, labels and class names; a moved tree keeps it. Files are not read."""
        digest = Digest()
        digest.texts(self.paths)
        digest.array(self.labels)
        digest.texts(self.class_names)
        return digest.text()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reopen is not None:
            return self.reopen, ()
        return _made, (self.root, self.paths, self.labels, self.class_names)

    def __repr__(self) -> str:
        shown = labels_shown(self.labels, self.class_names)
        return f"FileSource({self.root or os.curdir!r}, {len(self):,} pictures, {shown})"


def labels_shown(labels: Array | None, class_names: tuple[str, ...]) -> str:
    """Say in a few words what the labels are."""
    if class_names:
        return f"{len(class_names)} classes: " + ", ".join(class_names[:3]) + (", …" if len(class_names) > 3 else "")
    return "no labels" if labels is None else f"labels {labels.shape} {labels.dtype}"


def _made(root: str, paths: Sequence[str], labels: Array | None, class_names: tuple[str, ...]) -> FileSource:
    return FileSource(root=root, paths=paths, labels=labels, class_names=class_names)
