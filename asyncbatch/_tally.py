"""The samples that `on_error` lets pass: counted an epoch, logged, and handed to the batch that reports them.

They are counted when their batch leaves, slot after slot: in the order of the plan, whichever failed first in time.
With `in_order=False` that is the order in which the batches leave.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from asyncbatch._counters import Counters
from asyncbatch._errors import ErrorLimitExceeded, SampleError
from asyncbatch.on_error import OnError, Skip, allowed_of

__all__ = ["ErrorTally"]

_logger = logging.getLogger("asyncbatch")


@dataclass(slots=True)
class _Epoch:
    complete: int = 0  # errors of batches that are complete: they will leave, or one before them raises
    batches: int = 0  # that left
    earlier: int = 0  # errors of batches that left before the iteration was resumed
    errors: list[SampleError] = field(default_factory=list)  # of those that left since


class ErrorTally:
    """Counts the failed samples of one iteration; belongs to the event loop.

    Args:
        on_error: What is let pass.
        samples: How many samples an epoch has.
        steps: How many batches an epoch has.
        counters: Where what was let pass is noted.
    """

    def __init__(self, on_error: OnError, samples: int, steps: int, counters: Counters) -> None:
        self._on_error = on_error
        self._samples = samples
        self._steps = steps
        self._counters = counters
        self._allowed = allowed_of(on_error, samples)
        self._epochs: defaultdict[int, _Epoch] = defaultdict(_Epoch)
        self._riding: list[SampleError] = []

    def resume(self, epoch: int, batches: int, failed: int) -> None:
        """Count in what an epoch had before this iteration."""
        self._epochs[epoch] = _Epoch(complete=failed, batches=batches, earlier=failed)

    def foresee(self, epoch: int, errors: int) -> bool:
        """Hear of a complete batch's errors; return whether the epoch is certain to raise for them."""
        if errors:
            self._epochs[epoch].complete += errors
        return errors > 0 and self._epochs[epoch].complete > self._allowed

    def let_pass(self, epoch: int, errors: Iterable[SampleError]) -> None:
        """Count the errors of a batch that leaves.

        Raises:
            ErrorLimitExceeded: One of them was too many.
        """
        state = self._epochs[epoch]
        for error in errors:
            state.errors.append(error)
            if state.earlier + len(state.errors) > self._allowed:
                raise self._too_many(epoch, state) from error
            self._note(error)
        state.batches += 1
        if state.batches == self._steps:
            del self._epochs[epoch]

    def to_report(self) -> tuple[SampleError, ...]:
        """Return what was let pass since this was last called, for the batch that is delivered now."""
        riding, self._riding = self._riding, []
        return tuple(riding)

    def _note(self, error: SampleError) -> None:
        _without_tracebacks(error)
        skips = isinstance(self._on_error, Skip)
        self._riding.append(error)
        self._counters.let_pass(error)
        self._counters.skipped += skips
        _logger.warning(
            "%s %r (sample %d): %s (errno %s, attempts %d)",
            "skipped" if skips else "to be replaced:", error.key, error.index, error.reason, error.errno,
            error.attempts,
        )  # fmt: skip

    def _too_many(self, epoch: int, state: _Epoch) -> ErrorLimitExceeded:
        assert self._on_error != "raise"  # noqa: S101 - then no error comes here
        errors = state.errors
        return ErrorLimitExceeded(
            f"{state.earlier + len(errors)} failed samples in epoch {epoch}, which has {self._samples}, are more than "
            f"on_error={self._on_error!r} lets pass; the last was {errors[-1]}; "
            f"{self._on_error.remedy(self._samples, state.earlier + len(errors))}",
            errors,
        )


def _without_tracebacks(error: BaseException) -> None:
    """Let go of the frames that an error and what led to it came through: they hold pictures, and errors are kept."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            chain += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
