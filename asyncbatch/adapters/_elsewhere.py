"""A `Loader` whose batches are made into something else: what the adapters for tensors share."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from asyncbatch import Batch, BatchIterator, ConfigError, Loader, LoaderClosed, Stats
from asyncbatch.adapters._ahead import Ahead

__all__ = ["LoaderElsewhere"]

T = TypeVar("T")

_AHEAD = 2  # batches that are there before they are asked for: one that is ready, and one that is on its way


@dataclass(slots=True, eq=False)
class _Place:
    """How far the caller of an iteration is, while the loader is further.

    Attributes:
        state: The loader's state after what the caller has.
        epoch: Of the latest batch that it has; None before the first.
    """

    state: dict[str, Any]
    epoch: int | None = None


class LoaderElsewhere(ABC, Generic[T]):
    """A loader that makes something of each batch, ahead of the caller if that takes time.

    Args:
        loader: Where the batches come from.
        ahead: Whether a thread does it, two batches ahead.

    Attributes:
        loader: The loader.
    """

    def __init__(self, loader: Loader, *, ahead: bool) -> None:
        given: object = loader
        if not isinstance(given, Loader):
            name = type(self).__name__
            raise ConfigError(f"loader must be an asyncbatch.Loader, got {loader!r}; write {name}(ab.Loader(…))")
        self.loader = loader
        self._ahead = ahead
        self._place: _Place | None = None
        self._current: weakref.ref[_Ahead] | None = None

    @abstractmethod
    def _make(self, batch: Batch) -> T:
        """Make something of a batch; in the thread, if there is one."""

    @abstractmethod
    def _hand_over(self, made: T) -> Batch:
        """Return it to the caller, in the caller's thread."""

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.epochs(1)

    def epochs(self, n: int | None = None) -> Iterator[Batch]:
        """Return an iterator over the next `n` epochs, as `Loader.epochs` does; None goes on for ever."""
        self._end_current()
        self._fall_back()
        if not self._ahead:
            return _Direct(self, self.loader.epochs(n))
        place = _Place(self.loader.state_dict())
        batches = self.loader.epochs(n)
        self._place = place
        iterator = _Ahead(self, batches, place)
        self._current = weakref.ref(iterator)
        return iterator

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the next iteration's first; see `Loader.set_epoch`."""
        self.loader.set_epoch(epoch)
        self._place = None

    def state_dict(self) -> dict[str, Any]:
        """Return how far the caller came, as `Loader.state_dict` does; what is made ahead of it does not count."""
        return self.loader.state_dict() if self._place is None else dict(self._place.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch of a state; see `Loader.load_state_dict`."""
        self.loader.load_state_dict(state)
        self._place = None

    def stats(self) -> Stats:
        """Return what the loader did so far; a batch that was made ahead counts as taken."""
        return self.loader.stats()

    def close(self) -> None:
        """Close the loader, and end what works ahead."""
        self.loader.close()
        self._end_current()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _end_current(self) -> None:
        iterator = None if self._current is None else self._current()
        if iterator is not None:
            iterator.close()

    def _fall_back(self) -> None:
        """Have the next iteration begin where it would if the loader had not been ahead of the caller."""
        place, self._place = self._place, None
        if place is not None and place.epoch is None:
            self.loader.load_state_dict(place.state)
        elif place is not None and place.epoch is not None:
            self.loader.set_epoch(place.epoch + 1)

    def _ended(self, place: _Place) -> None:
        if self._place is place:
            self._place = None  # the caller has all that the loader gave


class _Direct(Iterator[Batch]):
    """Batches that are made into something else as they are taken."""

    def __init__(self, owner: LoaderElsewhere[Any], batches: BatchIterator) -> None:
        self._owner = owner
        self._batches = batches

    def __next__(self) -> Batch:
        return self._owner._hand_over(self._owner._make(next(self._batches)))

    def close(self) -> None:
        """End the work of this iteration."""
        self._batches.close()


class _Ahead(Iterator[Batch]):
    """Batches that a thread makes into something else before they are taken."""

    def __init__(self, owner: LoaderElsewhere[Any], batches: BatchIterator, place: _Place) -> None:
        self._owner = owner
        self._batches = batches
        self._place = place
        self._ahead = Ahead(partial(_next_one, owner, batches), _AHEAD, "asyncbatch-ahead")
        self._finalizer = weakref.finalize(self, _end, self._ahead, batches)

    def __next__(self) -> Batch:
        try:
            epoch, state, made = next(self._ahead)
        except StopIteration:
            if not self._finalizer.alive:
                raise LoaderClosed("this iterator has no more batches: it was closed") from None
            self._owner._ended(self._place)
            raise
        batch = self._owner._hand_over(made)
        self._place.epoch, self._place.state = epoch, state
        return batch

    def close(self) -> None:
        """End the work of this iteration."""
        self._finalizer()


def _next_one(owner: LoaderElsewhere[Any], batches: BatchIterator) -> tuple[int, dict[str, Any], Any]:
    batch = next(batches)
    return batch.epoch, owner.loader.state_dict(), owner._make(batch)


def _end(ahead: Ahead[Any], batches: BatchIterator) -> None:
    ahead.stop()
    batches.close(wait=False)
    ahead.join()  # at exit the interpreter must not go away under a thread that is inside of a framework
