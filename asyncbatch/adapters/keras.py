"""A `Loader` for `model.fit`, `evaluate` and `predict` of Keras 3, on every backend.

Keras needs a backend, which the extra cannot choose: `pip install 'asyncbatch[keras]'` and torch, jax or tensorflow.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asyncbatch import Batch, BatchIterator, ConfigError, Loader, LoaderClosed
from asyncbatch.adapters._missing import missing

try:
    from keras.utils import PyDataset
except ImportError as error:
    raise missing("keras", "pip install 'asyncbatch[keras]', and a backend such as torch or jax", error) from error

__all__ = ["KerasDataset", "generator"]

Array = NDArray[Any]
LabelMode = Literal["int", "categorical", "binary"]

Arrays = tuple[Array, ...]
"""(images,), (images, labels) or (images, labels, weights)."""

# Batches that Keras takes, and drops, to see what they look like: one to build the model, and some that are under way.
_PEEKED = 4


class KerasDataset(PyDataset):  # type: ignore[misc]
    """What `model.fit(data)` takes, and `evaluate` and `predict`.

    Each epoch of Keras is one of the loader, in the loader's order: Keras asks for batches by number, in an order that
    it may have shuffled, and gets the next one each time. What it takes only to look at is given again. An epoch that
    was broken off is begun again by the next `fit` or `evaluate`, unless `repeat` is set.

    Args:
        loader: Where the batches come from. It prefetches; leave Keras' own workers alone.
        labels: "int" for labels as they are: numbers, several columns, or class indices for a sparse loss.
            "categorical" makes class indices rows of zeros with a one, (B, classes) float32. "binary" makes two
            classes a column, (B, 1) float32.
        sample_weight: How much each sample counts: (N,) numbers, one for each of the source; or a function of the batch
            that returns (B,). Default None: all alike. `fit(class_weight=…)` works without it.
        classes: How many classes there are, for "categorical". Default None: as many as the source names.
        repeat: Go on for ever, for `fit(steps_per_epoch=…)` with a number of steps that is not an epoch's. On JAX and
            TensorFlow, Keras takes a few batches ahead, and drops those when `fit` returns.

    Attributes:
        loader: The loader.

    Raises:
        ConfigError: An argument cannot be used, or labels do not fit `labels`.
    """

    def __init__(
        self,
        loader: Loader,
        *,
        labels: LabelMode = "int",
        sample_weight: Array | Callable[[Batch], Array] | None = None,
        classes: int | None = None,
        repeat: bool = False,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)  # in the thread that asks: ours are enough
        self.loader = loader
        self._standard = _Standard(loader, labels, sample_weight, classes)
        self._repeat = repeat
        self._lock = threading.RLock()  # TensorFlow asks from a thread of its own
        self._batches: BatchIterator | None = None
        self._again: deque[Arrays] = deque()  # what was only looked at
        self._given: list[Arrays] = []  # since Keras began to go through it; no more than may have been looked at
        self._count = 0  # how many in all
        self._begin: dict[str, Any] = {}  # the loader's state before these
        self._anew = False  # Keras asked how many there are: it begins to go through it, or just looked at some

    def __repr__(self) -> str:
        return f"KerasDataset({self.loader!r})"

    @property
    def num_batches(self) -> int | None:
        """Batches an epoch; None for ever."""
        with self._lock:
            self._anew = True
        return None if self._repeat else len(self.loader)

    def __len__(self) -> int:
        """Batches of the loader's epoch."""
        return len(self.loader)

    def __getitem__(self, index: int, /) -> Arrays:
        """Return the next batch, whatever its number."""
        with self._lock:
            if self._anew:
                self._anew = False
                self._begin_again()
            arrays = self._again.popleft() if self._again else self._standard(self._next())
            self._count += 1
            if self._count <= _PEEKED:
                self._given.append(arrays)
            elif self._given:
                self._given = []
            return arrays

    def on_epoch_end(self) -> None:
        """Hear from Keras that an epoch is over, or that it has seen what the batches look like."""
        with self._lock:
            if self._anew and (self._repeat or self._count < len(self.loader)):
                self._put_back()
            self._given = []

    def state_dict(self) -> dict[str, Any]:
        """Return how far Keras came, as `Loader.state_dict` does.

        Exact between epochs. Within one, Keras may be a few batches ahead of its model, on JAX and TensorFlow.
        """
        with self._lock:
            return self._begin if self._again and self._begin else self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch of a state; see `Loader.load_state_dict`."""
        with self._lock:
            self.loader.load_state_dict(state)
            self._forget()

    def close(self) -> None:
        """Close the loader."""
        with self._lock:
            self.loader.close()
            self._forget()

    def _begin_again(self) -> None:
        """Begin to go through it: where the last time ended, or where that began if it did not come to its end."""
        self._put_back()
        if self._count and not self._repeat and self._count < len(self.loader):
            self.load_state_dict(self._begin)
        if not self._again:
            self._begin = self.loader.state_dict()
        self._count, self._given = 0, []

    def _put_back(self) -> None:
        """Give again what was given since it began, if it is so little that it may have been for a look."""
        if self._count == len(self._given):
            self._again.extendleft(reversed(self._given))
            self._count, self._given = 0, []

    def _next(self) -> Batch:
        if self._batches is not None:
            try:
                return next(self._batches)
            except LoaderClosed:
                if self._count:
                    raise
                # Between two epochs somebody else went over the loader, which is no reason not to train on.
        self._batches = self.loader.epochs()  # without a stall between them
        return next(self._batches)

    def _forget(self) -> None:
        self._batches = None
        self._again.clear()
        self._count, self._given = 0, []


def generator(
    loader: Loader,
    *,
    labels: LabelMode = "int",
    sample_weight: Array | Callable[[Batch], Array] | None = None,
    classes: int | None = None,
) -> Generator[Arrays]:
    """Yield batches for ever, for `model.fit(generator(loader), steps_per_epoch=len(loader))`.

    Keras takes the first one or two to look at before it trains, and keeps them for that; use `KerasDataset` where an
    epoch of Keras has to be one of the loader. The arguments are as there.
    """
    standard = _Standard(loader, labels, sample_weight, classes)
    return (standard(batch) for batch in loader.epochs())  # Keras knows generators by their type


class _Standard:
    """Makes of a batch what Keras takes."""

    def __init__(
        self,
        loader: Loader,
        labels: LabelMode,
        sample_weight: Array | Callable[[Batch], Array] | None,
        classes: int | None,
    ) -> None:
        if not isinstance(loader, Loader):
            raise ConfigError(f"loader must be an asyncbatch.Loader, got {loader!r}; write KerasDataset(ab.Loader(…))")
        if labels not in ("int", "categorical", "binary"):
            raise ConfigError(f"labels must be 'int', 'categorical' or 'binary', got {labels!r}; write labels='int'")
        if classes is not None and (not isinstance(classes, int) or classes < 1):
            raise ConfigError(f"classes must be a whole number above 0, got {classes!r}; write classes=10")
        named = len(getattr(loader.source, "class_names", ()))
        given = getattr(loader.source, "labels", None)
        if labels != "int" and isinstance(given, np.ndarray):
            _check_classes(labels, given)
        if labels == "binary" and max(named, classes or 0) > 2:
            raise ConfigError(
                f"labels='binary' is for two classes, and there are {max(named, classes or 0)}; write "
                "labels='categorical'"
            )
        self._labels = labels
        self._classes = classes if classes is not None else 2 if labels == "binary" else named
        if labels == "categorical" and not self._classes:
            raise ConfigError(
                "labels='categorical' needs the number of classes, and the source names none; write classes=10"
            )
        self._weight = sample_weight
        if sample_weight is not None and not callable(sample_weight):
            try:
                self._weights = np.asarray(sample_weight, np.float32)
            except (TypeError, ValueError) as error:
                raise ConfigError(
                    f"sample_weight must be ({len(loader.source)},) numbers or a function of the batch, got "
                    f"{sample_weight!r:.80}"
                ) from error
            if self._weights.shape != (len(loader.source),):
                raise ConfigError(
                    f"sample_weight must be ({len(loader.source)},), one for each sample, got {self._weights.shape}; "
                    "or write sample_weight=function_of_the_batch"
                )

    def __call__(self, batch: Batch) -> Arrays:
        images, labels = batch
        if labels is None:
            return (images,)
        targets = self._targets(labels)
        if self._weight is None:
            return images, targets
        weights = self._weight(batch) if callable(self._weight) else self._weights[batch.indices]
        if np.shape(weights) != (len(images),):
            raise ConfigError(f"sample_weight must give ({len(images)},) for this batch, got {np.shape(weights)}")
        return images, targets, weights

    def _targets(self, labels: Array) -> Array:
        if labels.dtype.kind == "U":
            raise ConfigError(
                f"the labels are words ({str(labels[0])!r}, …), and Keras wants numbers; "
                "give the source class indices, as a folder of class folders has them"
            )
        if self._labels == "int":
            return labels
        _check_classes(self._labels, labels)
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= self._classes:
            wrong = least if least < 0 else most
            raise ConfigError(
                f"label {wrong} is none of the {self._classes} classes of labels={self._labels!r}; "
                f"write labels='categorical', classes={most + 1}"
            )
        if self._labels == "binary":
            return labels.astype(np.float32)[:, None]
        one_hot = np.zeros((len(labels), self._classes), np.float32)
        one_hot[np.arange(len(labels)), labels] = 1
        return one_hot


def _check_classes(mode: str, labels: Array) -> None:
    """Refuse labels that are no class indices, where these are wanted."""
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise ConfigError(
            f"labels={mode!r} needs a class index a sample, and labels are {labels.shape} {labels.dtype}; "
            "write labels='int' to have them as they are"
        )
