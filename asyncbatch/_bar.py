"""A progress bar an epoch, with how much of the time the caller waited."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any, Self

from asyncbatch._counters import Counters
from asyncbatch._iterator import BatchIterator
from asyncbatch._types import Batch

__all__ = ["BarIterator"]


class BarIterator:
    """Hands on the batches of an iterator, and shows a bar where there is a terminal or a notebook.

    Args:
        batches: The iterator.
        samples: Samples an epoch.
        counters: What the loader did.
        done: Samples of the first epoch that were delivered before.

    Raises:
        ImportError: tqdm is not installed.
    """

    def __init__(self, batches: BatchIterator, samples: int, counters: Counters, done: int = 0) -> None:
        self._make = _bar_type()
        self._batches = batches
        self._samples = samples
        self._counters = counters
        self._done = done
        self._bar: Any = None
        self._epoch = -1

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        try:
            batch = next(self._batches)
        except BaseException:
            self._end()
            raise
        self._show(batch)
        return batch

    async def __anext__(self) -> Batch:
        try:
            batch = await anext(self._batches)
        except BaseException:
            self._end()
            raise
        self._show(batch)
        return batch

    def close(self) -> None:
        """End the bar, and the background work of this iteration."""
        self._end()
        self._batches.close()

    def _show(self, batch: Batch) -> None:
        if self._bar is None or batch.epoch != self._epoch:  # a new one, too, after an `anext` that was cancelled
            self._end()
            self._epoch = batch.epoch
            # disable=None: nothing where the output is no terminal, such as a log.
            hidden = False if _in_notebook() else None
            done, self._done = self._done, 0
            said = {"desc": f"epoch {batch.epoch}", "unit": "img", "disable": hidden}
            self._bar = self._make(initial=done, total=self._samples, **said)
            self._waited, self._busy = self._counters.wait_seconds, self._counters.compute_seconds
        waited = self._counters.wait_seconds - self._waited
        busy = self._counters.compute_seconds - self._busy
        if waited + busy > 0:
            self._bar.set_postfix_str(f"waiting {waited / (waited + busy):.0%}", refresh=False)
        self._bar.update(len(batch.indices))

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bar_type() -> Any:
    try:
        # Where the widgets of its notebook bar are missing, it would say so at each import, and be a text all the same.
        if find_spec("ipywidgets") is None:
            from tqdm import tqdm  # noqa: PLC0415 - an extra
        else:
            from tqdm.auto import tqdm  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("a progress bar needs tqdm: pip install 'asyncbatch[cli]'", name="tqdm") from error
    # Without its monitor: a thread, and nobody would end it.
    return type("Bar", (tqdm,), {"monitor_interval": 0})


def _in_notebook() -> bool:
    """Whether a notebook shows what is printed, which is no terminal by its own account."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
