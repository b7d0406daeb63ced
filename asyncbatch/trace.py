"""What a loader did and when, as a file that https://ui.perfetto.dev and `chrome://tracing` open.

The format is Chrome's Trace Event Format, by its complete events ("X") for pieces of work and its nestable
asynchronous ones ("b" and "e") for batches, of which several are under way at once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asyncbatch._errors import ConfigError
from asyncbatch._types import Span

__all__ = ["Trace", "trace_events"]

_log = logging.getLogger("asyncbatch")

_MOST = 1_000_000  # spans, some 200 MB of file; what comes after them is left out, and the file says so

_TRACKS = {"compute": 0, "wait": 0, "decode": 1, "read": 2}  # the caller is on top: it is who waits
_NAMES = ("the caller", "decoding", "reading")
_CALLER = ("compute", "wait")


class Trace:
    """Records from its making until it is closed, and then writes the file. Made by `Loader.trace`.

    Attributes:
        spans: What was recorded.
        left_out: How many spans were too many.

    Raises:
        ConfigError: There is no such folder.
    """

    def __init__(self, path: str | os.PathLike[str], on_close: Callable[[Trace], None]) -> None:
        self._path = Path(path)
        if not self._path.parent.is_dir():  # now, and not when the run is over
            raise ConfigError(
                f"there is no folder {str(self._path.parent)!r} to write {self._path.name!r} into; make it"
            )
        self._on_close = on_close
        self.spans: list[Span] = []
        self.left_out = 0
        self._closed = False

    def record(self, span: Span, /) -> None:
        """Take note of a span, as a `Hook`."""
        if len(self.spans) < _MOST:
            self.spans.append(span)
        else:
            self.left_out += 1

    def close(self) -> None:
        """Stop recording, and write the file. Closing again does nothing.

        Raises:
            OSError: It cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        whole = self._path.with_name(self._path.name + ".part")
        try:
            self._write(whole)
            os.replace(whole, self._path)  # noqa: PTH105 - whoever looks never finds half a file
        except OSError:
            whole.unlink(missing_ok=True)
            raise

    def _write(self, path: Path) -> None:
        # An event at a time: as one text, a million of them would be a gigabyte.
        about = json.dumps({"left out": self.left_out} if self.left_out else {})
        with path.open("w", encoding="utf-8") as file:
            file.write('{"traceEvents":[')
            for place, event in enumerate(trace_events(self.spans)):
                file.write(("," if place else "") + json.dumps(event, separators=(",", ":")))
            file.write(f'],"displayTimeUnit":"ms","otherData":{about}}}')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.close()
        except OSError:
            if error is None:
                raise
            _log.exception("the trace could not be written")  # the caller's own error says more


def trace_events(spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """Yield the events of a trace: names for the tracks, the spans, and a batch from its first read to its delivery.

    Times are microseconds since the first span began.
    """
    begin = min((span.start for span in spans), default=0.0)
    process = os.getpid()
    for track, name in enumerate(_NAMES):
        yield {"ph": "M", "name": "process_name", "pid": process + track, "args": {"name": f"asyncbatch: {name}"}}
        yield {"ph": "M", "name": "process_sort_index", "pid": process + track, "args": {"sort_index": track}}
    for span in spans:
        yield {
            "ph": "X",
            "name": span.stage,
            "cat": span.stage,
            "pid": process + _TRACKS[span.stage],
            "tid": span.lane,
            "ts": round(1e6 * (span.start - begin), 3),
            "dur": round(1e6 * (span.stop - span.start), 3),
            "args": {"epoch": span.epoch, "step": span.step},
        }
    for (epoch, step), (start, stop) in _batches(spans).items():
        event = {"name": f"batch {epoch}:{step}", "cat": "batch", "id": f"{epoch}:{step}", "pid": process, "tid": 0}
        yield {**event, "ph": "b", "ts": round(1e6 * (start - begin), 3)}
        yield {**event, "ph": "e", "ts": round(1e6 * (stop - begin), 3)}


def _batches(spans: Sequence[Span]) -> dict[tuple[int, int], tuple[float, float]]:
    """Return when each delivered batch was begun, and when the caller had it."""
    begun: dict[tuple[int, int], float] = {}
    for span in spans:
        if span.stage not in _CALLER:
            batch = span.epoch, span.step
            begun[batch] = min(span.start, begun.get(batch, span.start))
    delivered = {(span.epoch, span.step): span.stop for span in spans if span.stage == "wait"}
    return {batch: (begun[batch], stop) for batch, stop in delivered.items() if batch in begun}
