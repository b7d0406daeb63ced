"""The loop by hand and asyncbatch as two ways to the same batches, and how a run of either is timed."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

import asyncbatch as ab
from asyncbatch.cli.terminal import progress

__all__ = ["Recorder", "Run", "by_hand", "like_by_hand", "quiet_opencv", "race"]

Pair = tuple[NDArray[Any], NDArray[Any] | None]
now = time.perf_counter


class Recorder:
    """A hook that keeps every span."""

    def __init__(self) -> None:
        self.spans: list[ab.Span] = []

    def record(self, span: ab.Span) -> None:
        self.spans.append(span)  # atomic, so the threads that record need no lock


@dataclass(frozen=True, slots=True)
class Run:
    """What one contender did.

    Attributes:
        pictures: How many pictures it delivered.
        seconds: How long that took, start-up and training steps included.
        first: How long the first batch took, in seconds.
        start: When it began, in seconds of `time.perf_counter()`.
        spans: What it did when.
    """

    pictures: int
    seconds: float
    first: float
    start: float
    spans: Sequence[ab.Span]

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.seconds

    @property
    def waiting(self) -> float:
        """The share of the caller's time in which it waited for a batch, 0 to 1."""
        wait, compute = self.busy("wait"), self.busy("compute")
        return wait / (wait + compute) if wait else 0.0

    def busy(self, stage: str) -> float:
        """Return the time spent in a stage, in seconds, all its lanes together."""
        return sum(span.stop - span.start for span in self.spans if span.stage == stage)

    @classmethod
    def joined(cls, runs: Sequence[Self]) -> Self:
        """Return several runs as one; `first` is their median."""
        return cls(
            pictures=sum(run.pictures for run in runs),
            seconds=sum(run.seconds for run in runs),
            first=statistics.median(run.first for run in runs),
            start=runs[0].start,
            spans=list(chain.from_iterable(run.spans for run in runs)),
        )


def by_hand(
    samples: Iterable[ab.Sample], batch_size: int, image_size: tuple[int, int], recorder: Recorder, latency: float = 0.0
) -> Iterator[Pair]:
    """Yield batches as the loop written by hand makes them: one picture after another, all else waiting.

    `cv2.imread` reads and decodes in one call, so the two cannot be timed apart. What the thread spends on a processor
    is recorded as decoding, the rest, in which it waits, as reading.

    Args:
        samples: The pictures' files and labels; a last incomplete batch is dropped.
        batch_size: Pictures a batch, B.
        image_size: (height, width).
        recorder: Told what happened when.
        latency: Seconds to wait before each file is opened, to stand in for slow storage.

    Yields:
        images: (B, H, W, 3) float32 BGR in [0, 1], and labels: (B,), or None without labels.

    Raises:
        DecodeError: OpenCV could not read a picture.
    """
    height, width = image_size
    samples = iter(samples)
    asked, step = now(), 0
    while len(chunk := list(islice(samples, batch_size))) == batch_size:
        images = []
        for place, sample in enumerate(chunk):
            start, idle = now(), time.thread_time()
            time.sleep(latency)
            picture = cv2.imread(sample.path)
            if picture is None:
                raise _unreadable(sample, step * batch_size + place)
            images.append(cv2.resize(picture, (width, height)) / np.float32(255))
            stop, worked = now(), time.thread_time() - idle
            turn = max(start, stop - worked)
            recorder.record(ab.Span("read", start, turn, 0, step))
            recorder.record(ab.Span("decode", turn, stop, 0, step))
        batch = np.array(images), None if chunk[0].label is None else np.array([sample.label for sample in chunk])
        ready = now()
        recorder.record(ab.Span("wait", asked, ready, 0, step))
        yield batch
        asked = now()
        recorder.record(ab.Span("compute", ready, asked, 0, step))
        step += 1


def _unreadable(sample: ab.Sample, place: int) -> ab.SampleError:
    """Say why `cv2.imread` gave nothing, which it does not say itself."""
    try:
        with open(sample.path or "", "rb"):  # noqa: PTH123 - a text throughout
            return ab.DecodeError(sample.key, place, "cv2.imread could not decode it")
    except FileNotFoundError as error:
        return ab.ReadError(sample.key, place, "does not exist", errno=error.errno)
    except OSError as error:
        return ab.ReadError(sample.key, place, error.strerror or os.strerror(error.errno or 0), errno=error.errno)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing to stderr of files that it cannot read, which are told in words of our own."""
    logging = getattr(getattr(cv2, "utils", None), "logging", None)  # not in every build
    if logging is None:
        yield
        return
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def like_by_hand(image_size: tuple[int, int]) -> ab.ImageDecoder:
    """Return the decoder that gives asyncbatch's batches the values that `by_hand` gives."""
    return ab.ImageDecoder(image_size, dtype="float32", channels="bgr", scale=1 / 255)


def race(
    name: str,
    batches: Iterable[Pair],
    recorder: Recorder,
    *,
    seconds: float,
    step: Callable[[Any, Any], object],
) -> Run:
    """Take batches from one contender until the time is up, at least one, and show how far it is.

    Args:
        name: The contender's name, for the bar.
        batches: Where the batches come from, one at least; the clock starts before it is asked for the first.
        recorder: Where the contender records its spans.
        seconds: When to stop; a batch under way is awaited.
        step: What is done with each batch's images and labels, in place of training.
    """
    pictures, first, elapsed = 0, 0.0, 0.0
    with progress(name, seconds, "s") as bar:
        start = now()
        for images, labels in batches:
            first = first or now() - start
            step(images, labels)
            pictures += len(images)
            last, elapsed = elapsed, now() - start
            bar.set_postfix_str(f"{pictures:,} pictures, {pictures / elapsed:,.0f} img/s", refresh=False)
            bar.update(min(elapsed, seconds) - min(last, seconds))
            if elapsed >= seconds:
                break
    return Run(pictures, elapsed, first, start, recorder.spans)
