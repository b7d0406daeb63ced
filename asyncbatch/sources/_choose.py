"""What `Loader` does with its first argument."""

from __future__ import annotations

import inspect
import os
import stat
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from asyncbatch._buckets import is_object_url
from asyncbatch._errors import ConfigError
from asyncbatch._types import Source
from asyncbatch.sources._folder import folder
from asyncbatch.sources._manifest import manifest
from asyncbatch.sources._objects import objects
from asyncbatch.sources._parquet import parquet
from asyncbatch.sources._paths import file_mode, path_text
from asyncbatch.sources._tar import tar

__all__ = ["as_source"]

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def as_source(source: Any) -> Source:
    """Return the source that `source` is or names: the pictures of a folder, a URL, archives or Parquet, or a list's.

    Raises:
        ConfigError: It is neither a path nor a source; the message gives the line to write instead.
        SourceError: The path does not exist, or holds no pictures.
    """
    if isinstance(source, str) and is_object_url(source):
        return objects(source)
    if isinstance(source, str | os.PathLike):
        return _at(path_text(source, "source"))
    if _is_source(source):
        return cast("Source", source)
    raise ConfigError(f"source must be a path or a source, got {_described(source)}. {_remedy(source)}")


def _at(path: str) -> Source:
    if "://" not in path:
        if path.endswith(_ARCHIVES):
            return tar(path)
        if path.endswith(".parquet"):
            return parquet(path)
    return folder(path) if stat.S_ISDIR(file_mode(path)) else manifest(path)


def _is_source(source: object) -> bool:
    # Special methods count on the type alone. And hasattr would compute the fingerprint, which costs.
    return (
        hasattr(type(source), "__len__")
        and hasattr(type(source), "__getitem__")
        and inspect.getattr_static(source, "fingerprint", None) is not None
    )


def _described(source: object) -> str:
    kind = type(source)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    shown = f"{name} of {len(source)}" if isinstance(source, list | tuple) else name
    return "None" if source is None else shown


def _remedy(source: Any) -> str:
    if isinstance(source, list | tuple | set | frozenset) and all(
        isinstance(item, str | os.PathLike) for item in source
    ):
        return (
            "For a list of paths write them to a file and give that: "
            "pathlib.Path('list.txt').write_text('\\n'.join(map(str, paths))), then "
            "Loader(sources.manifest('list.txt', root='.'), …)"
        )
    if isinstance(source, list | tuple) and all(isinstance(item, list | tuple) and len(item) == 2 for item in source):
        if all(isinstance(item[0], str | os.PathLike) for item in source):
            return (
                "For a list of paths and labels write them to a file and give that: "
                "csv.writer(open('list.csv', 'w', newline='')).writerows(pairs), then "
                "Loader(sources.manifest('list.csv', root='.'), …)"
            )
        return "For a list of pairs of a picture and its label write Loader(sources.items(pairs), …)"
    if isinstance(source, tuple) and len(source) == 2:
        return "For pictures and labels in memory write Loader(sources.arrays(x, y), …)"
    modules = {base.__module__.partition(".")[0] for base in type(source).__mro__}
    if "datasets" in modules:
        split = "[split]" if isinstance(source, Mapping) else ""
        return f"For a dataset of Hugging Face write Loader(sources.items(dataset{split}), …)"
    if isinstance(source, np.ndarray) or (hasattr(source, "__array__") and not hasattr(source, "to_csv")):
        return "For pictures in memory write Loader(sources.arrays(x), …)"
    if hasattr(source, "to_csv"):
        return (
            "For a table write it to a file and give that: table.to_csv('list.csv', index=False), then "
            "Loader(sources.manifest('list.csv', path_column='path', label_columns='label', root='.'), …)"
        )
    if modules & {"torch", "torchvision"}:
        return (
            "For a torch dataset write Loader(sources.items(dataset), …); one that only reads files, as ImageFolder "
            "does, is read further ahead and decoded faster by Loader(sources.folder(dataset.root), …)"
        )
    return (
        "Give a folder or a manifest, Loader('pictures/', …), or an object with __len__, __getitem__(index) -> Sample, "
        "and fingerprint, a text that changes when the samples do; one whose __getitem__ returns pictures is given "
        "by Loader(sources.items(obj), …)"
    )
