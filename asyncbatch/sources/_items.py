"""Whatever is indexed: a dataset of PyTorch or Hugging Face, a list of pairs."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError
from asyncbatch._types import Sample
from asyncbatch.sources._fingerprint import Digest

__all__ = ["IndexedSource", "items"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IndexedSource:
    """The items of an object. Made by `sources.items`; an `ItemSource`.

    Attributes:
        obj: The caller's own object.
        size: How many items it had when it was given.
        image: The key of the picture in items that are mappings.
        label: The key of the label, likewise; None where no labels are wanted.
        fingerprint: Changes with the object's type, length and own fingerprint, or is the caller's.
        class_names: The name of each class index, where the object says them.
    """

    obj: Any
    size: int
    image: str
    label: str | None
    fingerprint: str
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Sample:
        return Sample(key=str(range(self.size)[operator.index(index)]))

    def fetch(self, index: int, /) -> tuple[Any, Any]:
        """Return an item's picture as it is, and its label as a number, a text, an array, or None.

        Raises:
            Exception: Whatever the object raises.
            TypeError: The item, or its label, is of no kind that is known.
            KeyError: The item has not the keys that were named.
        """
        picture, label = self._parts(self.obj[index])
        if isinstance(picture, Mapping) and picture.get("bytes") is not None:
            picture = picture["bytes"]  # as Hugging Face has a picture that is not to be decoded
        return picture, None if label is None or self.label is None else _as_label(label)

    def _parts(self, item: Any) -> tuple[Any, Any]:
        if isinstance(item, Mapping):
            return self._named(item, self.image, "image"), self._label_of(item)
        if not isinstance(item, tuple | list):
            return item, None
        if len(item) != 2:
            raise TypeError(
                f"the item is a {type(item).__name__} of {len(item)}, and must be a picture, a pair (picture, label) "
                "or a mapping; give an object whose __getitem__ returns one of these"
            )
        return item[0], item[1]

    def _label_of(self, item: Mapping[Any, Any]) -> Any:
        if self.label is None or (self.label not in item and len(item) == 1):  # a picture and nothing else
            return None
        return self._named(item, self.label, "label")

    def _named(self, item: Mapping[Any, Any], key: str, argument: str) -> Any:
        if key in item:
            return item[key]
        keys = ", ".join(map(repr, item))
        other = next((str(other) for other in item if other not in (self.image, self.label)), key)
        none = " or, for no labels, label=None" if argument == "label" else ""
        raise _NoSuchKey(
            f"the item has no {key!r}, its keys are {keys}; write sources.items(…, {argument}={other!r}){none}"
        )

    def __repr__(self) -> str:
        kind = type(self.obj)
        return (
            f"IndexedSource({self.size:,} items of {kind.__module__}.{kind.__qualname__}, labels not known beforehand)"
        )


class _NoSuchKey(KeyError):
    """A KeyError whose words come without the quotation marks around them."""

    def __str__(self) -> str:
        return str(self.args[0])


def items(
    obj: Any, *, image: str = "image", label: str | None = "label", fingerprint: str | None = None
) -> IndexedSource:
    """Serve the items of any object with `__len__` and `__getitem__`: of a torch or Hugging Face dataset, of a list.

    `obj[index]` is called in the decode threads, once for each sample and several at a time, so it must bear that; with
    `decode_threads=1` it is called by one at a time. What it waits for is not read further ahead than `prefetch`
    batches: files are better given to `sources.folder` or `.manifest`. If it waits much, as for a download, give it
    `decode_threads=16` or more. What it draws at random is not the loader's to repeat: a resumed run is the same bit
    for bit if the random part is a `transform` of the decoder instead.

    An item is a picture, a pair (picture, label), or a mapping. A picture is

    * an array, or what `np.asarray` takes, such as a torch tensor on the CPU: a row as it is, or what the loader's
      decoder makes of it, where the loader has an `image_size` or a `decoder`;
    * a Pillow image: likewise, after it became RGB, or grey where that is what the decoder makes; without a decoder
      grey ones, (H, W), and those of 16 and 32 bits stay as they are, and others become RGB;
    * bytes, or a mapping with `bytes`: a picture's file, for the loader's decoder, by default an `ImageDecoder`.

    Labels become known with their items. Integers, (B,), are int64, Python's floats float32; arrays keep their dtype.

    Args:
        obj: The object; its length must not change.
        image: The key of the picture in items that are mappings.
        label: The key of the label in these; None leaves labels out, those of pairs too. A mapping with the picture
            alone has no label.
        fingerprint: A text that changes when the items or their order do, so that a state of other data is not resumed.
            Default: made of the object's type, its length and, where it has one, its `_fingerprint`, as datasets of
            Hugging Face do. A list of other items, as long, is not told apart.

    Returns:
        A source whose `class_names` are the object's `classes`, or those of its feature `label`, where it has them.

    Raises:
        ConfigError: The object has no length or no index, or another argument cannot be used.
    """
    kind = type(obj)
    if isinstance(obj, Mapping):
        example = repr(next(iter(obj), "train"))
        raise ConfigError(f"obj must be indexed by numbers, got a {kind.__name__}; write sources.items(obj[{example}])")
    if isinstance(obj, str | bytes | type) or not (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")):
        raise ConfigError(
            f"obj must have __len__ and __getitem__, got {reprlib.repr(obj)}; of an iterable dataset take a list, "
            "sources.items(list(obj)), or the version that is indexed"
        )
    for argument, key in (("image", image), ("label", label)):
        if not isinstance(key, str) and not (key is None and argument == "label"):
            raise ConfigError(f"{argument} must be a key of the items, got {key!r}; write {argument}={argument!r}")
    if fingerprint is not None and not (isinstance(fingerprint, str) and fingerprint):
        raise ConfigError(f"fingerprint must be a text, got {fingerprint!r}; write fingerprint='scans, release 3'")
    size = len(obj)
    return IndexedSource(
        obj=obj,
        size=size,
        image=image,
        label=label,
        fingerprint=fingerprint or _fingerprint(obj, size),
        class_names=_class_names(obj, label),
    )


def _fingerprint(obj: Any, size: int) -> str:
    digest = Digest()
    digest.texts([type(obj).__module__, type(obj).__qualname__, str(size), str(getattr(obj, "_fingerprint", ""))])
    return digest.text()


def _class_names(obj: Any, label: str | None) -> tuple[str, ...]:
    names = getattr(obj, "classes", None)
    features = getattr(obj, "features", None)
    if isinstance(features, Mapping):
        names = getattr(features.get(label), "names", None)
    usable = label is not None and isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if usable and names else ()


def _as_label(label: Any) -> Any:
    """Return a label in the dtype that it has in a batch."""
    if isinstance(label, str):
        return label
    array = np.asarray(label)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"its label is {type(label).__name__}, and must be a number, a text, or numbers of one shape; for pictures "
            "alone write sources.items(…, label=None)"
        )
    if array.dtype.kind in "iu" and array.shape in {(), (1,)}:
        return array.astype(np.int64)
    return array if hasattr(label, "dtype") or array.dtype.kind != "f" else array.astype(np.float32)
