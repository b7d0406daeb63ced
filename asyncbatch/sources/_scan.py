"""Find the pictures under a folder with as few round trips to storage as it takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from asyncbatch._errors import SourceError

__all__ = ["Findings", "from_keys", "scan"]

# One folder is one wait for storage, so that a thousand class folders on a 30 ms mount take minutes one by one.
# A guess: enough to hide that wait, few enough to be polite to a server.
_THREADS = 16

# Left behind by systems, some with thumbnails or without permission; as classes they would move every index.
_SYSTEM_FOLDERS = frozenset({"$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "lost+found"})


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to list: its path below the root, and the real paths of the folders whose links led to it."""

    path: str
    holders: tuple[Path, ...]


@dataclass(slots=True)
class Findings:
    """What a folder holds.

    Attributes:
        pictures: Paths below the root with "/" between their parts.
        folders: The root's own sub-folders, by name.
        loops: Links that lead back to a folder they lie in; they were not followed.
        others: How many entries were no pictures, by kind: an extension, "hidden", or "extension-less".
    """

    pictures: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def scan(root: str, extensions: tuple[str, ...]) -> Findings:
    """List everything under `root`, in an order that depends on names alone.

    Entries are told apart by what listing their folder says of them: no file is looked at. Links to folders are
    followed, except those that lead back to a folder they lie in. A link with the name of a picture is a picture,
    wherever it leads.

    Args:
        root: An existing folder.
        extensions: Lower-case, with the dot.

    Raises:
        SourceError: A folder cannot be listed, or a link that may be one leads nowhere.
    """
    total = Findings()
    level = [_Folder("", ())]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="asyncbatch-scan") as pool:
        while level:
            below: list[_Folder] = []
            for found, folders in pool.map(partial(_list, root, extensions), level):
                total.pictures += found.pictures
                total.loops += found.loops
                total.others += found.others
                below += folders
            if level[0].path == "":
                total.folders = sorted(folder.path for folder in below)
            level = below
    total.pictures.sort(key=_in_folders)
    total.loops.sort()
    return total


def from_keys(keys: Iterable[str], extensions: tuple[str, ...]) -> Findings:
    """Take keys for the paths of a tree: what `scan` would have found in it, but for links and empty folders.

    Args:
        keys: Below the root, with "/" between their parts.
        extensions: Lower-case, with the dot.
    """
    found = Findings()
    folders: set[str] = set()
    for key in keys:
        *parents, name = parts = key.split("/")
        if any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in parts):
            found.others["hidden"] += 1
            continue
        folders.update(parents[:1])
        if name.lower().endswith(extensions):
            found.pictures.append(key)
        else:
            found.others[Path(name).suffix.lower() or "extension-less"] += 1
    found.pictures.sort(key=_in_folders)
    found.folders = sorted(folders)
    return found


def _in_folders(path: str) -> str:
    # NUL sorts before every character of a name: "cat/9.jpg" comes before "cat-2/1.jpg", as "cat" before "cat-2".
    return path.replace("/", "\0")


def _list(root: str, extensions: tuple[str, ...], folder: _Folder) -> tuple[Findings, list[_Folder]]:
    where = f"{root}/{folder.path}" if folder.path else root
    found = Findings()
    below: list[_Folder] = []
    links: list[str] = []
    try:
        with os.scandir(where) as entries:
            for entry in entries:
                path = f"{folder.path}/{entry.name}" if folder.path else entry.name
                if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
                    found.others["hidden"] += 1
                elif entry.name.lower().endswith(extensions) and not entry.is_dir(follow_symlinks=False):
                    found.pictures.append(path)
                elif not _leads_to_folder(entry):
                    found.others[Path(entry.name).suffix.lower() or "extension-less"] += 1
                elif entry.is_symlink():
                    links.append(path)
                else:
                    below.append(_Folder(path, folder.holders))
    except OSError as error:
        raise SourceError(
            f"{where!r} cannot be listed: {error.strerror}. Make it readable, or move it out of {root!r}: nothing is "
            "left out silently"
        ) from error
    if links:
        holders = (*folder.holders, Path(where).resolve())
        for path in links:
            # Walking a link's target comes by this link again when the target holds the folder that the link is in,
            # or one of the folders whose links led here.
            target = Path(root, path).resolve()
            if any(holder.is_relative_to(target) for holder in holders):
                found.loops.append(path)
            else:
                below.append(_Folder(path, holders))
    return found, below


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        try:
            entry.stat()
        except OSError as error:
            # It may have been a class folder, and leaving it out would move the index of every class after it.
            target = os.readlink(entry.path)  # noqa: PTH115  entry.path is text
            raise SourceError(
                f"{entry.path!r} is a link to {target!r}, which cannot be reached: {error.strerror}. "
                "Bring its target back, or remove the link"
            ) from error
    return entry.is_dir()
