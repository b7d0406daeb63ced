"""OpenCV's own threads, switched off while decode threads do the work."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

__all__ = ["single_threaded_opencv"]


class _Users:
    """How many `with` blocks are open in the process, and what the last of them restores."""

    lock = threading.Lock()
    count = 0
    before = 0

    @classmethod
    def forget(cls) -> None:
        """Put things right in a forked child, which has none of the threads that would close their blocks."""
        cls.lock = threading.Lock()  # the parent's may be held by a thread that is not here
        if cls.count:
            cls.count = 0
            cv2.setNumThreads(cls.before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Users.forget)


@contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Keep OpenCV to the calling thread for as long as any such block is open.

    The setting is the process's: the first block to open notes it and sets 1, the last to close puts it back, unless
    somebody changed it meanwhile.

    Nothing is lost by it while decode threads keep the cores busy. Measured on 2 cores with two Python threads, in ms a
    picture with OpenCV's threads on and off: 500×375 to 224×224 linear 0.11 and 0.11; 4000×3000 to 224×224 linear 0.08
    and 0.08, area 19 and 20; 2000×1500 to 1024×1024 linear 1.0 and 1.1. OpenCV splits only the last of these. What is
    gained is that its threads do not compete with the caller's own work for the cores, and that a fork meets none.
    """
    with _Users.lock:
        if _Users.count == 0:
            _Users.before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _Users.count += 1
    try:
        yield
    finally:
        with _Users.lock:
            _Users.count -= 1
            if _Users.count == 0 and cv2.getNumThreads() == 1:
                cv2.setNumThreads(_Users.before)
