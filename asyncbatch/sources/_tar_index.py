"""What is in an archive, and where: found once by reading its headers, and kept in a small file beside it.

The file is JSON, is believed only while the archive has the size and the time of change that it had, and never makes
anybody look outside of the archive.
"""

from __future__ import annotations

import json
import logging
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from asyncbatch._errors import SourceError

__all__ = ["Entry", "Members", "index_shard"]

_log = logging.getLogger("asyncbatch")

_VERSION = 1
_BLOCK = 512  # bytes of a header; what an archive has is rounded up to it
_BUFFER = 2**16  # bytes that are read at a time: a header, and whatever small comes after it
_LONGEST_LABEL = 2**20
_LARGEST_INDEX = 2**30
TEXTS = ("cls", "txt", "json")
"""What members with labels are called, by what follows the first dot of their names."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstandard"}


@dataclass(slots=True)
class Entry:
    """The members of an archive that have one key: a sample.

    Attributes:
        parts: (offset, length) in bytes of each member, by what follows the first dot of its name.
        texts: The contents of those with labels, likewise.
    """

    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


Members = dict[str, Entry]
"""The samples of an archive by their keys, in the order in which they begin."""


def index_shard(path: str, beside: str | None) -> Members:
    """Return what is in an archive.

    Args:
        path: The archive.
        beside: Where the index is kept; None keeps none.

    Raises:
        SourceError: It cannot be read, is compressed, cut off, or has a member that no sample may be.
    """
    try:
        about = os.stat(path)  # noqa: PTH116 - a text throughout
        if beside is not None and (known := _load(beside, about)) is not None:
            return known
        with open(path, "rb", buffering=_BUFFER) as file:  # noqa: PTH123
            found = _scan(path, file, about.st_size)
    except OSError as error:
        raise SourceError(f"{path!r} cannot be read: {error.strerror or error}") from error
    if beside is not None:
        _save(beside, about, found)
    return found


# -- reading an archive's headers --------------------------------------------------------------------------------------


def _scan(path: str, file: BinaryIO, size: int) -> Members:
    start = file.read(2)
    if start in _COMPRESSED:
        raise SourceError(
            f"{path!r} is compressed ({_COMPRESSED[start]}), and cannot be read from the middle; "
            f"pictures are compressed already: unpack it once with `gunzip` or `zstd -d`, or write it without"
        )
    file.seek(0)
    found: Members = {}
    names: set[str] = set()
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:", errorlevel=2) as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if not member.isdir():
                    _check(path, member, size, names)
                    _add(found, member, file)
    except (tarfile.TarError, UnicodeError, ValueError) as error:
        raise SourceError(f"{path!r} is no tar archive, or is damaged: {error}") from error
    file.seek(end)
    if (mark := file.read(_BLOCK)) != bytes(_BLOCK):
        what = "is damaged" if len(mark) == _BLOCK else "is cut off"
        last = f" after {next(reversed(found))!r}" if found else ""
        raise SourceError(f"{path!r} {what}{last}: at byte {end:,} there is no end mark; copy or write it again")
    return found


def _check(path: str, member: tarfile.TarInfo, size: int, names: set[str]) -> None:
    """Refuse what is no sample's part, by its name."""
    wrong = ""
    if member.issym() or member.islnk():
        wrong = "is a link"
    elif not member.isreg() or member.issparse():
        wrong = "is no regular file"
    elif member.name.startswith("/") or ".." in member.name.split("/") or "\0" in member.name:
        wrong = "has a name that leads out of the archive"
    elif member.name in names:
        wrong = "is there twice"
    elif member.offset_data + member.size > size:
        wrong = f"should have {member.size:,} bytes, and the archive ends before them: it is cut off, or damaged"
    if wrong:
        raise SourceError(f"{path!r}: member {member.name!r} {wrong}")
    names.add(member.name)


def _add(found: Members, member: tarfile.TarInfo, file: BinaryIO) -> None:
    folder, slash, name = member.name.rpartition("/")
    stem, _, kind = name.partition(".")
    if not stem or not kind:  # hidden files, and such as README
        return
    entry = found.setdefault(folder + slash + stem, Entry())
    kind = kind.lower()
    if kind in TEXTS:
        if member.size > _LONGEST_LABEL:
            raise ValueError(
                f"member {member.name!r} has {member.size:,} bytes, and a label at most {_LONGEST_LABEL:,}"
            )
        file.seek(member.offset_data)
        entry.texts[kind] = file.read(member.size).decode("utf-8").strip()
    else:
        entry.parts[kind] = member.offset_data, member.size


# -- the file beside it ------------------------------------------------------------------------------------------------


def _load(beside: str, about: os.stat_result) -> Members | None:
    """Return what an index says; None where there is none, or it is that of another archive."""
    try:
        if os.stat(beside).st_size > _LARGEST_INDEX:  # noqa: PTH116
            raise SourceError(f"{beside!r} is larger than any index; delete it")
        document = json.loads(Path(beside).read_bytes())
        if [document["version"], document["size"], document["mtime_ns"]] != [
            _VERSION, about.st_size, about.st_mtime_ns,
        ]:  # fmt: skip
            return None
        samples = document["samples"].items()
        return {key: _entry(key, parts, texts, about.st_size) for key, (parts, texts) in samples}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{beside!r} is no index of an archive, or is damaged: {error}; delete it") from error


def _entry(key: str, parts: dict[str, Any], texts: dict[str, Any], size: int) -> Entry:
    for kind, (offset, length) in parts.items():
        if not (type(offset) is type(length) is int and 0 <= offset <= offset + length <= size):
            raise ValueError(f"member '{key}.{kind}' lies outside of the archive")
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError(f"a label of {key!r} is no text")
    return Entry({kind: (offset, length) for kind, (offset, length) in parts.items()}, texts)


def _save(beside: str, about: os.stat_result, found: Members) -> None:
    """Keep what was found, or say why not: the next run then reads the headers again."""
    document = {
        "version": _VERSION,
        "size": about.st_size,
        "mtime_ns": about.st_mtime_ns,
        "samples": {key: [entry.parts, entry.texts] for key, entry in found.items()},
    }
    folder, name = os.path.split(beside)
    partial = Path(folder, f".{name}.{os.getpid()}.tmp")
    try:
        partial.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
        partial.replace(beside)
    except OSError as error:
        _log.info("the index of an archive cannot be kept in %s: %s; name a folder by index=", beside, error)
        partial.unlink(missing_ok=True)
