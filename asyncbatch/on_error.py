"""What a sample that fails does to the epoch: `Skip` leaves it out, `Replace` puts another in its place.

Both are for samples that cannot be read or decoded, `SampleError`s. What speaks of all samples is raised as it is: a
source that fails, storage that is gone, and rows of another shape than those before them. That last is a matter of all
rows, not of one, and `image_size=` mends it for good.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, SupportsIndex

from asyncbatch._errors import ConfigError

__all__ = ["OnError", "Replace", "Skip", "allowed_of", "require_on_error"]


@dataclass(frozen=True, slots=True)
class _UpTo:
    limit: int | float = 0.01

    def __post_init__(self) -> None:
        limit, name = self.limit, type(self).__name__
        if isinstance(limit, SupportsIndex) and not isinstance(limit, bool):
            limit = operator.index(limit)  # of NumPy, too
        elif isinstance(limit, float):
            limit = float(limit)
        whole = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
        share = isinstance(limit, float) and 0 < limit <= 1  # NaN is not
        object.__setattr__(self, "limit", limit)
        if not whole and not share:
            raise ConfigError(
                f"limit must be a whole number of at least 0, for so many samples an epoch, or a float above 0 and up "
                f"to 1.0, for a share of them, got {limit!r}; write on_error={name}(limit=0.01), or {name}(limit=5)"
            )

    def allowed(self, samples: int) -> int:
        """Return how many of an epoch's `samples` may fail."""
        if isinstance(self.limit, float):
            return math.ceil(Fraction(str(self.limit)) * samples)  # as written: 0.07 × 100 is 7, and not 8
        return self.limit

    def remedy(self, samples: int, failed: int) -> str:
        """Return what to do about so many failed samples of an epoch: a limit with a margin, unless they are too many.

        A limit that covers half of the data or more is none: the data are wrong, or what reads them is.
        """
        twice = 2 * failed
        if twice >= samples:
            return (
                "so many that something is wrong with the data or with the decoder: see the errors' `reason` before "
                "more are let pass"
            )
        limit = twice if isinstance(self.limit, int) else math.ceil(100 * twice / samples) / 100
        if limit == 1.0 and isinstance(limit, float):
            limit = twice
        return f"if so many may fail, write on_error={type(self).__name__}(limit={limit})"


class Skip(_UpTo):
    """Leaves out samples that cannot be read or decoded: their batch is shorter, and its `errors` name them.

    A batch of which nothing is left is not delivered; its errors come with the next batch, before that one's own, and
    where none follows they are in `stats().errors` alone.

    Args:
        limit: How many samples of an epoch may fail, as a count (an int), or as a share of the epoch's samples, rounded
            up (a float up to 1.0). One more raises `ErrorLimitExceeded`, in its turn. The default is finite, since
            a training that quietly lost half of its data is worse than one that stopped: one in a hundred.

    Raises:
        ConfigError: `limit` is neither.
    """

    __slots__ = ()


class Replace(_UpTo):
    """Puts another sample of the source in the place of one that cannot be read or decoded: batches keep their shape.

    The stand-in is drawn from the seed, the epoch and the index of the sample that failed, so it does not depend on
    timing. It is none of the samples that its batch was planned with, unless the batch holds the whole source; two
    samples of one batch may get the same stand-in. It brings its own label, index and key; `batch.errors` names what
    failed. A stand-in that fails is named and counted too, and another is drawn; after eight the sample's own error is
    raised.

    Args:
        limit: How many samples of an epoch may fail, failed stand-ins included, as for `Skip`.

    Raises:
        ConfigError: `limit` is neither a count nor a share.
    """

    __slots__ = ()


OnError = Literal["raise"] | Skip | Replace


def allowed_of(on_error: OnError, samples: int) -> int:
    """Return how many of an epoch's `samples` may fail."""
    return 0 if on_error == "raise" else on_error.allowed(samples)


def require_on_error(on_error: Any) -> OnError:
    """Return `on_error` if it is one.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(on_error, Skip | Replace):
        return on_error
    if isinstance(on_error, str) and on_error == "raise":
        return "raise"
    raise ConfigError(
        f'on_error must be "raise", Skip(limit) or Replace(limit), got {on_error!r}; write on_error=Skip(limit=0.01)'
    )
