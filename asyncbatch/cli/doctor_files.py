"""Files for the doctor to read: some of a folder's or a manifest's, found in bounded time."""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import asyncbatch as ab
from asyncbatch.cli.terminal import CommandError

__all__ = ["Listing", "find_files", "within"]

T = TypeVar("T")

WANTED = 2_500  # files: every level of concurrency gets its own
ENTRIES = 50_000  # the most that are looked at for them; a folder without pictures must not be walked for ever
PICTURES = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")


@dataclass(slots=True)
class Listing:
    """What was found.

    Attributes:
        files: Paths, in an order drawn by a fixed seed.
        entries: How many names the folders held that were listed; 0 for a manifest.
        folders: How many folders were listed.
        seconds: How long that took.
        unreadable: Folders that could not be listed.
        manifest: Whether a manifest named the files.
    """

    files: list[str] = field(default_factory=list)
    entries: int = 0
    folders: int = 0
    seconds: float = 0.0
    unreadable: int = 0
    manifest: bool = False

    @property
    def rate(self) -> float:
        """Entries a second; 0 where nothing was listed."""
        return self.entries / self.seconds if self.seconds else 0.0


def within(seconds: float, call: Callable[[], T], doing: str) -> T:
    """Return `call()`, or give up: storage that does not answer must not hold the doctor.

    The call runs on a daemon thread, which stays behind when it hangs.

    Raises:
        CommandError: It took longer than `seconds`. What the call itself raises is raised too.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised below, on the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, name="asyncbatch-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise CommandError(
            f"{doing} has not returned after {seconds:.0f} s: the storage does not answer. Look whether its server is "
            "up and mount it anew"
        )
    return results[0]


def find_files(path: str, seconds: float, open_manifest: Callable[[], str | ab.Source] | None = None) -> Listing:
    """Find up to 2,500 files of a folder, or of a manifest.

    Of a folder it lists as many sub-folders as it takes, chosen at random; pictures are preferred to other files, and
    hidden names are left out. Links to folders are not followed.

    Args:
        path: A folder or a manifest.
        seconds: How long it may take; a walk that takes longer returns what it has. What does not return in twice the
            time is given up.
        open_manifest: Reads the manifest; None reads it without labels.

    Raises:
        CommandError: Nothing is there, or no file was found, or the storage does not answer.
    """
    try:
        mode = within(seconds, lambda: os.stat(path).st_mode, f"looking at {path}")  # noqa: PTH116 - text from here on
    except OSError as error:
        raise CommandError(f"{path} cannot be looked at: {error.strerror}") from error
    listing = Listing()
    if stat.S_ISDIR(mode):
        walk = _Walk(path, listing, time.perf_counter() + seconds)
        within(2 * seconds, walk.run, f"listing {path}")
        if walk.failure is not None:
            raise CommandError(f"{path} cannot be listed: {walk.failure.strerror}") from walk.failure
        listing.files = walk.pictures or walk.others
    else:
        read = open_manifest or (lambda: ab.sources.manifest(path, label_columns=()))
        source = within(2 * seconds, read, f"reading {path}")
        assert not isinstance(source, str)  # noqa: S101 - only with labels may it be the path alone
        listing.manifest = True
        indices = random.Random(0).sample(range(len(source)), min(WANTED, len(source)))  # noqa: S311 - no secret
        listing.files = [source[index].path or "" for index in indices]
    if not listing.files:
        raise CommandError(f"{path} holds no file to read; give a folder or a manifest of pictures on the storage")
    return listing


class _Walk:
    """A walk through a tree that ends by itself when there is enough or the time is over."""

    def __init__(self, root: str, listing: Listing, end: float) -> None:
        self._root = root
        self._listing = listing
        self._end = end
        self._dice = random.Random(0)  # noqa: S311 - no secret
        self.pictures: list[str] = []
        self.others: list[str] = []
        self.failure: OSError | None = None

    def run(self) -> bool:
        folders = [self._root]
        while folders and not self._enough():
            # Any of those seen: the first folder of a tree need not be like the others.
            at = self._dice.randrange(len(folders))
            folders[at], folders[-1] = folders[-1], folders[at]
            folders += self._list(folders.pop())
        for found in (self.pictures, self.others):
            self._dice.shuffle(found)
            del found[WANTED:]
        return True

    def _enough(self) -> bool:
        return len(self.pictures) >= WANTED or self._listing.entries >= ENTRIES or time.perf_counter() >= self._end

    def _list(self, folder: str) -> list[str]:
        below: list[str] = []
        began = time.perf_counter()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if self._enough():
                        break
                    self._listing.entries += 1
                    if entry.name.startswith("."):
                        continue
                    if entry.name.lower().endswith(PICTURES):
                        self.pictures.append(entry.path)
                    elif entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        self.others.append(entry.path)
        except OSError as error:
            self._listing.unreadable += 1
            if folder == self._root:
                self.failure = error
        self._listing.folders += 1
        self._listing.seconds += time.perf_counter() - began
        return below
