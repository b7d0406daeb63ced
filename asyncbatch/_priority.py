"""Lets the caller go first where there are fewer cores than threads that want one.

While a model trains on the processor, or its framework prepares a step there, each decode thread takes a core from it;
the step takes longer, and nothing is won, for batches lie ready. Keras's `fit` on two cores, with steps as long as
loading, took 1.13 times as long as either alone, and 1.25 times with threads of equal rank (`python -m bench fit`).
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

__all__ = ["work_in_the_background"]

# Steps of the Unix "nice" value, each 1.25 times less of a core that others want too: about a tenth of the caller's.
_LOWER = 10
_LOWEST = 19


def work_in_the_background() -> None:
    """Give this thread a lower rank than the process has; nothing where threads have none of their own."""
    if sys.platform == "linux":  # elsewhere it would be the whole process's
        with suppress(OSError):  # a sandbox may forbid it
            rank = os.getpriority(os.PRIO_PROCESS, os.getpid()) + _LOWER
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(rank, _LOWEST))
