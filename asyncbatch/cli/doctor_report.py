"""What the doctor found, in words, in tables and for programs."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from asyncbatch.cli.doctor_curve import NEAR, TAIL, Diagnosis, times
from asyncbatch.cli.doctor_files import Listing
from asyncbatch.cli.doctor_mounts import SLOTS
from asyncbatch.cli.doctor_probe import FILE_BYTES, LEVELS, Level, Reading
from asyncbatch.cli.doctor_table import Mount
from asyncbatch.cli.terminal import percent, table

__all__ = ["Report"]

READ_AHEAD = 256_000_000  # Loader's default, in bytes
FLOOR = 10.0  # seconds: FileReader's own deadline for a read is never shorter
SHORTEST = 5.0  # seconds: a guess at what even a mount that is being made anew takes to answer
LINES = (0.1, 1, 2.5, 10, 25, 100)  # Gb/s, of which headers take a few percent
WORSE = 0.8  # of the greatest rate: a last level that has less is worth a word
NEARBY = 0.0002  # seconds to read and close an open file: a copy from memory takes less, a network more
WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured of a path.

    Attributes:
        path: What was asked about.
        mount: Where it is; None where the system does not say.
        listing: How its files were found.
        levels: As measured; the first one has readings.
        again: Files read a second time.
        ended: Why the measurement ended, see `Probe.ended`.
        found: What all that means.
        advice: What to change at the mount.
    """

    path: str
    mount: Mount | None
    listing: Listing
    levels: list[Level]
    again: list[Reading]
    ended: str
    found: Diagnosis
    advice: list[str]

    def text(self) -> str:
        """Return the report for people."""
        parts = [self._facts(), self._alone(), self._curve(), f"What limits it\n{_filled(self.verdict())}"]
        if self.advice:
            parts.append("What to change at the mount\n" + "\n".join(_filled(line, "- ") for line in self.advice))
        why, lines = self.settings()
        parts.append("What to write\n" + "\n".join([_filled(why), *(f"    {line}" for line in lines)]))
        return "\n\n".join(parts)

    def json(self) -> dict[str, Any]:
        """Return the figures for programs: seconds, bytes, counts."""
        alone = self.levels[0].readings
        return {
            "path": self.path,
            "mount": None if self.mount is None else asdict(self.mount),
            "listing": {
                "entries": self.listing.entries,
                "folders": self.listing.folders,
                "entries_per_second": round(self.listing.rate, 1),
                "files": len(self.listing.files),
            },
            "open_seconds": asdict(times([r.opened - r.start for r in alone])),
            "read_seconds": asdict(times([r.stop - r.opened for r in alone])),
            "again_seconds": asdict(times([r.seconds for r in self.again])) if self.again else None,
            "levels": [_level(level) for level in self.levels],
            "ended": self.ended,
            "diagnosis": asdict(self.found),
            "hung": [{"path": path, "seconds": round(s, 1)} for level in self.levels for path, s in level.hung],
            "errors": [error for level in self.levels for error in level.errors],
            "verdict": self.verdict(),
            "advice": self.advice,
            "settings": self.settings()[1],
        }

    def verdict(self) -> str:
        """Say what limits the storage."""
        found, most = self.found, self.levels[-1].readers
        best = f"{found.files_per_second:,.0f} files/s and {found.bytes_per_second / 1e6:,.1f} MB/s"
        enough = "reader is" if found.readers == 1 else "readers are"
        good = f"{found.readers} {enough} enough for {percent(NEAR)} of that."
        if found.limit == "hung":
            path, seconds = next(level for level in self.levels if level.hung).hung[0]
            count = sum(len(level.hung) for level in self.levels)
            text = (
                f"{count} {'read has' if count == 1 else 'reads have'} not returned: {path} is under way for "
                f"{seconds:.0f} s. A read that hangs cannot be cancelled; this is for the storage to mend. Before that "
                f"it gave {best}."
            )
        elif found.limit == "memory":
            text = (
                f"Nothing outside this machine: a file takes {self._alone_median() * 1e3:.2f} ms, as from memory or "
                f"a disk of its own. With {found.most_readers} at once it gives {best}."
            )
            if self.mount is not None and self.mount.remote:
                text += " The storage behind this mount was hardly asked: give a folder that was not read lately."
        elif found.limit == "processor":
            text = f"This process, not the storage: it keeps a core busy. The storage gives {best} or more. {good}"
        elif found.limit == "bandwidth":
            text = (
                f"Bytes a second: it gives {best}, and in company reading slows down while opening does not. {good}"
                f"{self._line()} Only a faster line, or smaller files, would gain more."
            )
        elif found.limit == "slots":
            text = f"Requests at once: it runs about {found.at_once:.0f} and gives {best}. {good}"
            text += self._whose_slots() + self._line()
        elif found.limit == "latency":
            text = (
                f"The time of each answer alone: {most} readers get {found.at_once:.0f} times as much as one, {best}, "
                f"and more would get more still. {self._why_ended()}"
            )
        else:
            text = f"Too little was read to tell. It gave {best}. {self._why_ended()}"
        return text + self._remarks()

    def settings(self) -> tuple[str, list[str]]:
        """Return why, and the lines to paste; none when the defaults are right."""
        lines = []
        wanted = 2 * self.found.rest  # half of the window may be behind the file that is late
        if wanted > READ_AHEAD:
            lines.append(f'ab.Loader(…, read_ahead="{-(-wanted // 1e8) / 10:.1f}GB")')
        if self.found.limit == "hung":
            late = max(times([r.seconds for r in level.readings]).p99 for level in self.levels if level.readings)
            limit = max(SHORTEST, round(20 * late, 1))
            if limit < FLOOR:
                lines.append(f"ab.Loader(…, reader=ab.FileReader(timeout={limit:g}))")
        if not lines:
            covered = READ_AHEAD / max(self.found.bytes_per_second, 1)
            span = f"{covered:,.{1 if covered < 10 else 0}f} s" if covered < 600 else "many minutes"
            why = "The defaults are right: FileReader finds by itself how many reads at once are of use, and"
            return f"{why} read_ahead, 256 MB, bridges {span} of this storage.", []
        return "How many reads at once are of use, FileReader finds by itself; beyond the defaults write", lines

    def _facts(self) -> str:
        mount, listing = self.mount, self.listing
        rows = []
        if mount is None:
            rows.append(("file system", "unknown: this system does not say"))
        else:
            rows.append(("file system", f"{mount.kind}: {mount.source} on {mount.point}"))
            rows.append(("options", ",".join(mount.options)))
        if listing.manifest:
            rows.append(("files", f"{len(listing.files):,} of those that the manifest names"))
        else:
            skipped = f", {listing.unreadable:,} could not be listed" if listing.unreadable else ""
            folders = f"{listing.folders:,} {'folder' if listing.folders == 1 else 'folders'}{skipped}"
            rows.append(("listing", f"{listing.entries:,} entries of {folders}: {listing.rate:,.0f} entries/s"))
        size = times([float(r.size) for level in self.levels for r in level.readings]).median
        count = sum(len(level.readings) for level in self.levels)
        files = len(self.listing.files)
        read = f"{count:,} files" if count <= files else f"{files:,} files, {count / files:.1f} times each"
        # Beyond that nothing was read, and how large they are was not asked.
        half = f"half of them over {size / 1e3:,.0f} KB" if size < FILE_BYTES else "the first MB of most"
        rows.append(("read", f"{read}, {half}"))
        return "\n".join(
            textwrap.fill(text, WIDTH, initial_indent=f"{name:13}", subsequent_indent=" " * 13) for name, text in rows
        )

    def _alone(self) -> str:
        readings = self.levels[0].readings
        rows: list[tuple[str, ...]] = [("one at a time, ms", "median", "p95", "p99")]
        for name, values in (
            ("open", [r.opened - r.start for r in readings]),
            ("read and close", [r.stop - r.opened for r in readings]),
            ("both", [r.seconds for r in readings]),
            ("both, once more", [r.seconds for r in self.again]),
        ):
            if values:
                t = times(values)
                rows.append((name, *(f"{1e3 * x:,.2f}" for x in (t.median, t.p95, t.p99))))
        return table(rows)

    def _curve(self) -> str:
        rows: list[tuple[str, ...]] = [("at once", "files/s", "MB/s", "median ms", "p95", "p99")]
        for level in self.levels:
            if level.readings:
                t = times([reading.seconds for reading in level.readings])
                rate = (f"{level.files_per_second:,.0f}", f"{level.bytes_per_second / 1e6:,.1f}")
                rows.append((f"{level.readers}", *rate, *(f"{1e3 * x:,.1f}" for x in (t.median, t.p95, t.p99))))
        return table(rows)

    def _whose_slots(self) -> str:
        if self.found.at_once < 1.5:
            return " It answers one after the other, as a FUSE program with the option -s does."
        on_fuse = self.mount is not None and self.mount.kind.startswith("fuse")
        if on_fuse and SLOTS[0] <= self.found.at_once <= SLOTS[1]:
            return (
                " That is where FUSE programs stop unless told otherwise: libfuse answers on 10 threads, and the "
                "kernel has at most 12 reads ahead under way."
            )
        return ""

    def _line(self) -> str:
        for gigabits in LINES:
            if 0.8 < self.found.bytes_per_second / (gigabits * 1e9 / 8) < 1:
                return f" It may be the line: one of {gigabits:g} Gb/s carries no more bytes."
        return ""

    def _why_ended(self) -> str:
        most = self.levels[-1].readers
        reasons = {
            "files": f"There were only {len(self.listing.files):,} files, too few for more than {most} readers.",
            "bytes": "512 MB were read, and more would be a burden.",
            "time": "The time was over; --seconds 30 takes longer.",
            "errors": "All the files of the last level failed.",
        }
        return reasons.get(self.ended, f"More than {LEVELS[-1]} were not tried.")

    def _remarks(self) -> str:
        text = ""
        last = self.levels[-1]
        if last.files_per_second < WORSE * self.found.files_per_second and self.found.limit in ("slots", "bandwidth"):
            text += f" More make it slower: {last.readers} get {last.files_per_second:,.0f} files/s."
        errors = [*dict.fromkeys(error for level in self.levels for error in level.errors)]  # each file is read often
        if errors:
            count = "1 file could" if len(errors) == 1 else f"{len(errors):,} files could"
            text += f" {count} not be read: {errors[0]}."
        if self.found.limit not in ("hung", "memory") and self.found.tail > TAIL:
            text += f" Answers are uneven: the latest took {self.found.tail:.0f} times the median."
        cached = [r.cached for level in self.levels for r in level.readings if r.cached is not None]
        if cached and sum(cached) > len(cached) / 2 and self.found.limit != "hung":
            text += (
                " The system had most of these files in memory and did not let go of them, so that this says little."
            )
        elif self._from_near():
            text += (
                " Once open, files are read in no time: their bytes come from memory or a cache on this machine, so "
                "that the bytes a second say little. Give a folder that was not read lately."
            )
        elif any(level.reused for level in self.levels):
            text += " There were few files, and some were read more than once, perhaps from a cache further away."
        return text

    def _from_near(self) -> bool:
        readings = self.levels[0].readings
        took = times([reading.stop - reading.opened for reading in readings]).median
        return self.found.limit not in ("hung", "memory") and took < NEARBY and any(r.size for r in readings)

    def _alone_median(self) -> float:
        return times([reading.seconds for reading in self.levels[0].readings]).median


def _level(level: Level) -> dict[str, Any]:
    return {
        "readers": level.readers,
        "files": len(level.readings),
        "files_per_second": round(level.files_per_second, 2),
        "bytes_per_second": round(level.bytes_per_second),
        "seconds": asdict(times([r.seconds for r in level.readings])) if level.readings else None,
        "processor": round(level.processor, 3),
        "reused": level.reused,
    }


def _filled(text: str, mark: str = "") -> str:
    whole = text.replace(" %", "\0%")  # a figure and its sign stay together
    return textwrap.fill(  # a path or an option in two pieces could not be pasted
        whole, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False,
        break_on_hyphens=False,
    ).replace("\0", " ")  # fmt: skip
