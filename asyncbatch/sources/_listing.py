"""What is below a URL: listed from the store, or taken from a file that was written of an earlier listing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

from asyncbatch._buckets import Bucket, failure, obstore
from asyncbatch._errors import SourceError, describe

__all__ = ["kept", "listed"]

Keys = dict[str, int]
"""Of each key below the prefix its size, in bytes."""

_PAGE = 1000  # objects, as many as S3 gives in one answer
_RETRIES = 4  # of obstore's own: a listing that fails half way has to begin anew

_HEADER = "# asyncbatch objects 1: "  # and the URL; a line each follows, the key, a tab and the size

# Seconds: most listings are over before anybody wonders, and a line that flickers says nothing.
_UNTOLD, _BETWEEN = 1.0, 0.2


def listed(bucket: Bucket, prefix: str, url: str) -> Keys:
    """List what is below a prefix, with the progress on a terminal if it takes longer than a second.

    Raises:
        SourceError: It cannot be listed.
        ConfigError: The store cannot be opened.
    """
    store = bucket.open(retries=_RETRIES)
    keys: Keys = {}
    progress = _Progress(f"listing {url}")
    below = len(prefix) + 1 if prefix else 0
    try:
        for page in obstore().list(store, prefix or None, chunk_size=_PAGE):
            keys.update((entry["path"][below:], int(entry["size"])) for entry in page)
            progress.show(len(keys))
        return keys
    except Exception as error:  # noqa: BLE001 - obstore has kinds of its own
        why = describe(failure(error, bucket.options))
    finally:
        progress.end()
    raise SourceError(
        f"{url!r} cannot be listed: {why}. Where listing is not allowed, or the server has no way to, write a file of "
        f"keys and sizes and give it, manifest='list.txt': a line '{_HEADER}{url}', then each key, a tab and its size"
    )


def kept(file: str, bucket: Bucket, prefix: str, url: str) -> Keys:
    """Return what a file says is there; where there is no such file, list it and write one.

    Raises:
        SourceError: A line cannot be understood, it is of another URL, or it cannot be read or written.
    """
    path = Path(file)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        keys = listed(bucket, prefix, url)
        _write(path, keys, url)
        return keys
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"manifest={file!r} cannot be read: {describe(error)}") from error
    return dict(_parsed(file, text, url))


def _parsed(file: str, text: str, url: str) -> Iterator[tuple[str, int]]:
    first, *lines = text.removesuffix("\n").split("\n")
    if first.rstrip("/") != f"{_HEADER}{url}":
        raise SourceError(
            f"manifest={file!r} is no list of {url!r}: it begins with {first[:200]!r}, not with '{_HEADER}{url}'. "
            "Remove it to have it written anew, or give another name"
        )
    for number, line in enumerate(lines, 2):
        key, tab, size = line.rpartition("\t")
        if not (key and tab and size.isdecimal()):
            raise SourceError(
                f"{file}, line {number}: {line[:200]!r} is not a key, a tab and a size in bytes; remove the file to "
                "have it written anew"
            )
        yield key, int(size)


def _write(path: Path, keys: Keys, url: str) -> None:
    """Write a list whole or not at all: other processes may look for it, or write the same."""
    odd = next((key for key in keys if "\n" in key or "\t" in key), None)
    if odd is not None:
        raise SourceError(f"{odd!r} has a line break or a tab in its key, which no line can hold; leave out manifest=")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{_HEADER}{url}\n")
            file.writelines(f"{key}\t{size}\n" for key, size in sorted(keys.items()))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise SourceError(f"manifest={str(path)!r} cannot be written: {describe(error)}") from error


class _Progress:
    """One line on standard error, where that is a terminal, gone when it ends."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._due = monotonic() + _UNTOLD
        self._is_seen = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0

    def show(self, count: int) -> None:
        if self._is_seen and monotonic() >= self._due:
            self._due = monotonic() + _BETWEEN
            text = f"{self._what}: {count:,} objects"
            self._width = max(self._width, len(text))
            self._write(f"\r{text}")

    def end(self) -> None:
        if self._width:
            self._write(f"\r{' ' * self._width}\r")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that went away is no reason to stop
            sys.stderr.write(text)
            sys.stderr.flush()
