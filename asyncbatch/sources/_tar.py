"""Pictures in tar archives, as WebDataset has them: read in place, never unpacked."""

from __future__ import annotations

import glob
import hashlib
import json
import operator
import os
import re
import reprlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asyncbatch._errors import ConfigError, SourceError
from asyncbatch._types import Array, Indices, Sample
from asyncbatch.sources._files import PICTURE_EXTENSIONS
from asyncbatch.sources._fingerprint import Digest
from asyncbatch.sources._labels import from_text
from asyncbatch.sources._tar_index import TEXTS, Entry, Members, index_shard

__all__ = ["TarSource", "tar"]

_AT_ONCE = 16  # archives that are indexed at once: it is waiting for storage, a header at a time
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_KINDS = tuple(extension[1:] for extension in PICTURE_EXTENSIONS)

# What the reader fetches at once, and as many samples as it looks at: then most of a block comes by one read.
_BLOCK_BYTES, _LARGEST_BLOCK = 4 * 2**20, 64


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TarSource:
    """Members of archives with labels, in the order of the archives. Made by `sources.tar`.

    Attributes:
        shards: The archives.
        shard: (N,) int32, each sample's archive.
        offsets: (N,) int64, where in it the picture begins, in bytes.
        lengths: (N,) int64, how many bytes it has.
        names: Each picture's name in its archive.
        labels: (N,) int64 for classes and integers, float32 for others; None where there are no labels.
        class_names: The name of each class index; empty where labels are not words.
    """

    shards: tuple[str, ...]
    shard: Indices
    offsets: Indices
    lengths: Indices
    names: tuple[str, ...]
    labels: Array | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Sample:
        place = range(len(self))[operator.index(index)]
        path = self.shards[self.shard[place]]
        return Sample(
            key=f"{path}/{self.names[place]}",
            label=None if self.labels is None else self.labels[place],
            path=path,
            offset=int(self.offsets[place]),
            length=int(self.lengths[place]),
        )

    @property
    def shuffle_block(self) -> int:
        """How many neighbours `shuffle=True` keeps together, so that one read brings them: about 4 MB, 64 at most."""
        return max(1, min(_LARGEST_BLOCK, _BLOCK_BYTES // max(1, int(self.lengths.mean()))))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the archives' names, their members' names and sizes, and the labels."""
        digest = Digest()
        digest.texts([os.path.basename(shard) for shard in self.shards])  # noqa: PTH119 - a text throughout
        digest.texts(self.names)
        digest.array(self.shard)
        digest.array(self.lengths)
        digest.array(self.labels)
        digest.texts(self.class_names)
        return digest.text()

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else f"labels {self.labels.dtype}"
        return f"TarSource({len(self.shards):,} archives, {len(self):,} pictures, {labels})"


def tar(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    image: str | None = None,
    labels: str | None = "inferred",
    label_key: str | None = None,
    index: str | os.PathLike[str] | bool = True,
) -> TarSource:
    """List the pictures in tar archives; members whose names are alike up to the first dot are one sample.

    ``0001.jpg`` and ``0001.cls`` are a picture and its label, as WebDataset writes them. Nothing is unpacked: a picture
    is read from where it lies, and neighbours by one read, which a mount answers as soon as a single small one. So
    `shuffle=True` means `BlockShuffle` of some 4 MB of neighbours for this source; `sampler=` says otherwise.

    What is where is found once, by reading the archives' headers, and kept in ``ARCHIVE.index.json`` beside each.

    Args:
        shards: A path, a pattern such as ``train-{000..099}.tar`` or ``train-*.tar``, or a list of them. Archives must
            not be compressed: pictures are already, and what is compressed cannot be read from the middle.
        image: What follows the first dot in the names of pictures, such as "jpg". Default: whatever is a picture by
            its name; a sample may have one.
        labels: Where labels are: "cls", "txt" or "json" for such members, None for no labels. Default: the first of
            these that the first sample has. Integers become int64, other numbers float32, and words class indices in
            the order of the sorted names.
        label_key: Which entry of a ``.json`` is the label; not needed where the file is the label itself, or has an
            entry "label".
        index: Where indices are kept: True for beside the archives (where that cannot be written they are found anew
            each time), a folder, or False for nowhere.

    Raises:
        SourceError: An archive is missing, compressed, cut off or damaged, or has links, devices, or names that lead
            out of it; or a sample lacks its picture or its label.
        ConfigError: An argument cannot be used.
    """
    paths = _expand(shards)
    if labels not in (None, "inferred", *TEXTS):
        raise ConfigError(f"labels must be 'inferred', 'cls', 'txt', 'json' or None, got {labels!r}")
    places = [_beside(path, index) for path in paths]
    with ThreadPoolExecutor(min(_AT_ONCE, len(paths)), thread_name_prefix="asyncbatch-index") as pool:
        found = list(_shown(pool.map(index_shard, paths, places), len(paths)))
    return _source(paths, found, image, labels, label_key)


def _source(
    paths: Sequence[str], found: Sequence[Members], image: str | None, labels: str | None, label_key: str | None
) -> TarSource:
    entries = [(shard, key, entry) for shard, members in enumerate(found) for key, entry in members.items()]
    kinds = [_picture(paths[shard], key, entry, image) for shard, key, entry in entries]
    if not entries:
        raise SourceError(f"{paths[0]!r}{' and the others have' if len(paths) > 1 else ' has'} no samples")
    if labels == "inferred":
        labels = next((kind for kind in TEXTS if kind in entries[0][2].texts), None)
    given: Array | None = None
    names: tuple[str, ...] = ()
    if labels is not None:
        texts = [_label(paths[shard], key, entry, labels, label_key) for shard, key, entry in entries]

        def wrong(place: int, reason: str) -> SourceError:
            shard, key, _ = entries[place]
            return SourceError(f"{paths[shard]!r}: {key}.{labels}: {reason}")

        given, names = from_text([texts], None, None, wrong)
    parts = np.array([entry.parts[kind] for (_, _, entry), kind in zip(entries, kinds, strict=True)], np.int64)
    return TarSource(
        shards=tuple(paths),
        shard=np.array([shard for shard, _, _ in entries], np.int32),
        offsets=parts[:, 0],
        lengths=parts[:, 1],
        names=tuple(f"{key}.{kind}" for (_, key, _), kind in zip(entries, kinds, strict=True)),
        labels=given,
        class_names=names,
    )


def _picture(path: str, key: str, entry: Entry, image: str | None) -> str:
    """Return which of a sample's members is its picture."""
    wanted = (image.lower().lstrip("."),) if image is not None else _KINDS
    kinds = [kind for kind in entry.parts if kind in wanted]
    if len(kinds) != 1:
        have = ", ".join(f".{kind}" for kind in (*entry.parts, *entry.texts))
        what = f"has several pictures, {have}" if kinds else f"has no picture among {have}"
        raise SourceError(f"{path!r}: sample {key!r} {what}; say which by image='jpg'")
    return kinds[0]


def _label(path: str, key: str, entry: Entry, kind: str, label_key: str | None) -> str:
    if kind not in entry.texts:
        have = ", ".join(f".{kind}" for kind in (*entry.parts, *entry.texts))
        raise SourceError(f"{path!r}: sample {key!r} has no .{kind}, only {have}; for no labels write labels=None")
    text = entry.texts[kind]
    if kind != "json":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path!r}: {key}.json is no JSON: {error}") from error
    if isinstance(value, dict):
        name = label_key or "label"
        if name not in value:
            have = reprlib.repr(sorted(value))
            raise SourceError(f"{path!r}: {key}.json has no {name!r}, only {have}; write label_key= with one of these")
        value = value[name]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SourceError(f"{path!r}: the label in {key}.json is {value!r}, neither a number nor a word")
    return str(value)


def _expand(shards: object) -> list[str]:
    """Return the archives that patterns name, in the order of their names."""
    given = [shards] if isinstance(shards, str | os.PathLike) else shards
    if not isinstance(given, Sequence) or not given or not all(isinstance(one, str | os.PathLike) for one in given):
        raise ConfigError(f"shards must be a path, a pattern or a list of them, got {shards!r}; write 'train-*.tar'")
    paths = []
    for one in given:
        for text in _ranges(os.fsdecode(one)):
            if os.path.exists(text):  # noqa: PTH110 - a text throughout
                paths.append(text)
            elif matches := sorted(glob.glob(text)):  # noqa: PTH207
                paths += matches
            else:
                raise SourceError(f"there is no archive {text!r}; the working folder is {os.getcwd()!r}")  # noqa: PTH109
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(f"the archive {twice!r} is named twice")
    return paths


def _ranges(pattern: str) -> Iterator[str]:
    """Yield what ``{000..099}`` stands for, in every place."""
    found = _RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        digits = str(number).zfill(len(first))
        yield from _ranges(f"{pattern[: found.start()]}{digits}{pattern[found.end() :]}")


def _beside(path: str, index: str | os.PathLike[str] | bool) -> str | None:
    if isinstance(index, bool):
        return f"{path}.index.json" if index else None
    whole = os.path.abspath(path)  # noqa: PTH100 - archives of one name lie in several folders
    mark = hashlib.blake2b(os.fsencode(whole), digest_size=4).hexdigest()
    return os.path.join(os.fsdecode(index), f"{os.path.basename(path)}.{mark}.index.json")  # noqa: PTH118, PTH119


def _shown(members: Iterator[Members], count: int) -> Iterator[Members]:
    """Show how far it is, where somebody watches and it takes long."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - an extra
    except ImportError:
        return members
    quiet = type("Bar", (tqdm,), {"monitor_interval": 0})  # without its thread
    return iter(quiet(members, desc="indexing", total=count, unit="archive", disable=None, delay=1.0))
