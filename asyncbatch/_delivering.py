"""From made to delivered: failures are counted, errors raised, and rows compared with those before them."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from asyncbatch._counters import Counters
from asyncbatch._engine import Engine
from asyncbatch._errors import DecodeError
from asyncbatch._made import Coming, Dooms, MadeBatch, Producer
from asyncbatch._progress import Delivery, Passed, Progress
from asyncbatch._stages import Stages
from asyncbatch._tally import ErrorTally
from asyncbatch._types import Array, Batch

__all__ = ["Delivering", "engine_of"]


def engine_of(
    stages: Stages,
    begin: Progress,
    epochs: int | None,
    counters: Counters,
    produce: Callable[[Coming, Dooms, AbstractEventLoop], Producer],
) -> Engine[Delivery]:
    """Start an iteration.

    Args:
        stages: What the batches are made of.
        begin: Where to begin, and what was delivered already.
        epochs: How many epochs to run through, without a pause between them; None for ever.
        counters: What the iteration did is added here.
        produce: Returns what makes the batches.

    Raises:
        LoaderClosed: The interpreter is shutting down.
        RuntimeError: No further thread can be started.
    """
    tally = ErrorTally(stages.on_error, stages.plan.samples, stages.plan.steps, counters)
    tally.resume(begin.epoch, begin.delivered, begin.failed)
    left = begin.left(epochs)

    async def coming(most: int) -> Sequence[int]:
        return [*islice(left, most)]

    return Engine(partial(produce, coming, tally.foresee), Delivering(tally, counters).deliver)


class Delivering:
    """Takes the batches of one iteration in the order in which they leave; belongs to the event loop.

    Args:
        tally: Counts what `on_error` lets pass.
        counters: What was replaced is added here.
    """

    def __init__(self, tally: ErrorTally, counters: Counters) -> None:
        self._tally = tally
        self._counters = counters
        self._kind: tuple[tuple[int, ...], np.dtype[Any]] | None = None  # the shape and dtype of all rows
        self._passed: list[Passed] = []  # since the last delivery

    def deliver(self, made: MadeBatch) -> Delivery | None:
        """Return a batch as it is delivered; None when nothing is left of it.

        Raises:
            SampleError: A sample did not become a row, or not one like those before it. Of several errors it is always
                that of the first slot, whichever came first in time.
            ErrorLimitExceeded: More samples failed than `on_error` lets pass.
            AsyncbatchError: Whatever else the source or a reader said.
        """
        self._tally.let_pass(made.epoch, made.failures)
        if made.error is not None:
            raise made.error
        self._passed.append(Passed(made.epoch, made.step, tuple(error.index for error in made.failures)))
        if made.is_void:
            return None
        batch = Batch(
            self._alike(made),
            made.labels,
            indices=made.indices,
            keys=made.keys,
            epoch=made.epoch,
            step=made.step,
            errors=self._tally.to_report(),
        )
        self._counters.replaced += made.replaced
        passed, self._passed = self._passed, []
        return Delivery(batch, tuple(passed), made.times)

    def _alike(self, made: MadeBatch) -> Array:
        """Return its rows, which are of one kind with each other and with those before them."""
        stacked = isinstance(made.rows, np.ndarray)
        for place, row in enumerate(made.rows[:1] if stacked else made.rows):
            kind = row.shape, row.dtype
            self._kind = self._kind or kind
            if kind != self._kind:
                raise DecodeError(
                    made.keys[place],
                    int(made.indices[place]),
                    f"its row is {row.shape} {row.dtype}, those before it {self._kind[0]} {self._kind[1]}; "
                    "all rows must be alike: for pictures write image_size=(height, width)",
                )
        assert isinstance(made.rows, np.ndarray)  # noqa: S101 - rows that are all alike were stacked
        return made.rows
