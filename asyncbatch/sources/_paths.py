"""Paths that users give: as text, and in kind words when nothing usable is there."""

from __future__ import annotations

import os
import re
import reprlib
from pathlib import Path

from asyncbatch._errors import AsyncbatchError, ConfigError, SourceError

__all__ = ["file_mode", "path_text"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # one slash: a Path made of a URL has lost the other


def path_text(path: object, argument: str) -> str:
    """Return `path` as text, without trailing slashes.

    Raises:
        ConfigError: It is not a path, is empty, or holds a NUL character.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"{argument} must be a path (a str or a pathlib.Path), got {reprlib.repr(path)}")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ConfigError(f"{argument} must name a file or folder, got {text!r}; for the working folder write '.'")
    # A URL keeps its two slashes, so that the message about it shows what was given.
    return text if _URL.match(text) else str(Path(text))


def file_mode(path: str) -> int:
    """Return `st_mode` of what `path` leads to.

    Raises:
        SourceError: Nothing is there, or it cannot be reached.
        ConfigError: Nothing is there because it is a URL.
    """
    try:
        return os.stat(path).st_mode  # noqa: PTH116  path is text: keys show it as it was given
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path) from error
    except OSError as error:
        raise SourceError(f"{path!r} cannot be reached: {error.strerror}") from error


def _missing(path: str) -> AsyncbatchError:
    if path.startswith("file://"):
        return ConfigError(f"{path!r} is a URL: write the path that follows 'file://'")
    if _URL.match(path):
        return ConfigError(
            f"{path!r} is a URL that is not one of an object store as a text, 's3://…', 'gs://…', 'az://…' or "
            "'https://…'; write it so, or mount the share and give its folder, Loader('/mnt/…', …)"
        )
    absolute = Path(path).absolute()
    # os.path.exists, since Path.exists raises where a parent may not be searched.
    nearest = next(parent for parent in absolute.parents if os.path.exists(parent))  # noqa: PTH110
    message = f"{path!r} does not exist. Looked for {str(absolute)!r}; what exists of it is {str(nearest)!r}"
    if not Path(path).is_absolute():
        message += f". A relative path starts from the working folder, {str(Path.cwd())!r}"
    if path.startswith("~"):
        message += f". '~' is not expanded here: write os.path.expanduser({path!r})"
    return SourceError(message)
