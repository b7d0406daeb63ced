"""A folder of pictures, one sub-folder a class."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable
from typing import Any

from asyncbatch._errors import SourceError
from asyncbatch.sources._files import PICTURE_EXTENSIONS, FileSource
from asyncbatch.sources._paths import file_mode, path_text
from asyncbatch.sources._scan import scan
from asyncbatch.sources._tree import endings_of, labelled, no_pictures, require_labels

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
    require_labels(labels)
    endings = endings_of(extensions)
    if not stat.S_ISDIR(file_mode(path)):
        raise SourceError(f"{path!r} is a file, not a folder; if it lists pictures, write sources.manifest({path!r})")
    found = scan(path, endings)
    if not found.pictures:
        raise no_pictures(path, found, endings)
    tree = labelled(found, labels)
    for concern in tree.concerns:
        warnings.warn(f"{path}: {concern}", stacklevel=2)
    return FileSource(root=path, paths=tree.paths, labels=tree.labels, class_names=tree.class_names)
