"""Tar archives for tests, of pictures and of mischief."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path


def add(archive, name, data, **attributes):
    """Add a member, whose header says what the attributes say."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(data))


def write_tars(folder, into, shards=3, label="cls"):
    """Write the pictures of a folder of class folders, in its order, as archives with labels; return their paths."""
    pictures = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    classes = sorted({path.parent.name for path in pictures})
    paths = []
    for shard in range(shards):
        paths.append(Path(into) / f"train-{shard:03}.tar")
        with tarfile.open(paths[-1], "w") as archive:
            for place, path in enumerate(pictures):
                if place * shards // len(pictures) == shard:
                    add(archive, f"{place:06}{path.suffix}", path.read_bytes())
                    text = {"cls": str(classes.index(path.parent.name)), "txt": path.parent.name}[label]
                    add(archive, f"{place:06}.{label}", text.encode())
    return paths
