"""Pictures in an object store, one folder below the prefix a class."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asyncbatch._buckets import Bucket, WholeObject, require_options, split_url
from asyncbatch._types import Array
from asyncbatch.sources._files import PICTURE_EXTENSIONS, labels_shown
from asyncbatch.sources._fingerprint import Digest
from asyncbatch.sources._listing import kept, listed
from asyncbatch.sources._paths import path_text
from asyncbatch.sources._scan import from_keys
from asyncbatch.sources._tree import endings_of, labelled, no_pictures, require_labels

__all__ = ["ObjectSource", "objects"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ObjectSource:
    """Objects with labels, in a fixed order. Made by `sources.objects`; `Loader` reads them with an `ObjectReader`.

    Attributes:
        url: Where they are, without a slash at the end.
        bucket: How their store is opened.
        paths: Their keys below `url`.
        sizes: (N,) int64, in bytes. Read-only.
        labels: (N,) int64 for classes, else as they were given; None where there are no labels. Read-only.
        class_names: The name of each class index; empty where labels are not named classes.
    """

    url: str
    bucket: Bucket
    paths: Sequence[str]
    sizes: Array
    labels: Array | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.sizes.setflags(write=False)
        if self.labels is not None:
            self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> WholeObject:
        index = operator.index(index)
        url = f"{self.url}/{self.paths[index]}"
        label = None if self.labels is None else self.labels[index]
        return WholeObject(key=url, label=label, path=url, length=int(self.sizes[index]))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the keys, their order, sizes, labels and class names; a tree copied elsewhere keeps it."""
        digest = Digest()
        digest.texts(self.paths)
        digest.array(self.sizes)
        digest.array(self.labels)
        digest.texts(self.class_names)
        return digest.text()

    def __repr__(self) -> str:
        return f"ObjectSource({self.url!r}, {len(self):,} pictures, {labels_shown(self.labels, self.class_names)})"


def objects(
    url: str,
    *,
    labels: Any = "inferred",
    extensions: Iterable[str] = PICTURE_EXTENSIONS,
    manifest: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    store: Any = None,
) -> ObjectSource:
    """List the pictures below a URL; by default the folders below it are the classes, as `sources.folder` has it.

    The order is that of the same tree as a folder, and with it every batch. It needs obstore,
    ``pip install 'asyncbatch[objects]'``.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``, or ``https://…`` of a server
            that lists by WebDAV, of a bucket of S3 or R2 or of a container of Azure.
        labels: "inferred" makes the first folders below `url` the classes, None takes every picture without labels, a
            list or array gives every picture its label; all as `sources.folder` does. A store has no empty folders, so
            that they keep no class index.
        extensions: What the names of pictures end in, in any case. Default: the formats that are decoded.
        manifest: A file that keeps the listing: it is written once, and from then on used instead of listing, which
            takes a second for some thousand objects. What is added to the bucket later is not seen until it is removed.
        options: How obstore opens the store: ``{"region": "eu-west-1"}``, ``{"skip_signature": True}`` for a public
            bucket, ``endpoint``, ``account_name``, ``client_options``, …. What is not there is taken from the
            environment, credentials among it.
        store: An obstore store of the whole bucket, used instead.

    Returns:
        N pictures with their sizes; labels (N,) int64 and `class_names` when classes were found.

    Raises:
        SourceError: It cannot be listed, has no pictures, or the manifest is of something else.
        ConfigError: An argument cannot be used, or there are not as many labels as pictures.
        ImportError: obstore is not installed.
    """
    base, prefix = split_url(url)
    require_labels(labels)
    require_options(options, store)
    endings = endings_of(extensions)
    bucket = Bucket(base, dict(options or {}), store)
    whole = f"{base}/{prefix}" if prefix else base
    if manifest is None:
        keys = listed(bucket, prefix, whole)
    else:
        keys = kept(path_text(manifest, "manifest"), bucket, prefix, whole)
    found = from_keys(keys, endings)
    if not found.pictures:
        raise no_pictures(whole, found, endings)
    tree = labelled(found, labels)
    for concern in tree.concerns:
        warnings.warn(f"{whole}: {concern}", stacklevel=2)
    sizes = np.fromiter((keys[path] for path in tree.paths), dtype=np.int64, count=len(tree.paths))
    return ObjectSource(
        url=whole, bucket=bucket, paths=tree.paths, sizes=sizes, labels=tree.labels, class_names=tree.class_names
    )
