"""Statistics in words, and the one thing to change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncbatch.stats import Stats

__all__ = ["advice", "describe_stats"]

_ENOUGH_WAITING = 0.02  # of the time: less is nothing that anybody could win back
_TOO_EARLY, _TOO_SHORT = 8, 1.0  # batches and seconds: before, most of the waiting is the start
_BUSY = 0.8  # of the decode threads' time: the rest is the hand-over of their work
_FULL = 0.8  # of the read-ahead budget
_MUCH_AHEAD = 4  # batches: reads are not what is lacking then, but a late one
_SLOW_TAIL = 5.0  # how many times the median the 99th percentile is where single reads are the trouble
_FEW = 0.5  # of the reads that are allowed at once: if fewer are under way, it is not the storage that lacks them
_AT_ONCE = 0.5  # of the samples: where more were read directly, the storage is the page cache or as fast


def describe_stats(stats: Stats) -> str:
    """Return a paragraph: what was delivered, where the time went, and what to change."""
    if not stats.batches:
        return "Nothing was delivered yet."
    sentences = [_delivered(stats), _waited(stats), _read(stats), _decoded(stats), _trouble(stats), advice(stats)]
    return " ".join(filter(None, sentences))


def advice(stats: Stats) -> str:
    """Return the one thing to change, or that there is none, in a sentence or two."""
    waiting = stats.wait_seconds / stats.seconds if stats.seconds else 0.0
    if waiting < _ENOUGH_WAITING:
        return "Nothing to change: batches are there before they are asked for."
    if stats.batches < _TOO_EARLY or stats.seconds < _TOO_SHORT:
        return "Too early to say what to change: so far most of the waiting is the start."
    causes = {_for_reading: stats.wait_reading, _for_decoding: stats.wait_decoding, _for_handoff: stats.wait_handoff}
    return "To change: " + max(causes, key=lambda cause: causes[cause])(stats)


def _for_reading(stats: Stats) -> str:
    if not stats.concurrency:  # nothing was read; a source of items waits for them in the decode threads
        return (
            f"the source's items are slow to come on {stats.decode_threads} threads; if they wait for storage, write "
            f"decode_threads={max(16, 2 * stats.decode_threads)}; files are read further ahead by sources.folder or "
            "sources.manifest."
        )
    median, late = stats.read_latency.quantile(0.5), stats.read_latency.quantile(0.99)
    if late > _SLOW_TAIL * median and stats.bytes_ahead > _FULL * stats.read_ahead:
        return (
            f"single slow reads hold up whole batches, and the look-ahead is full; look further ahead, "
            f'read_ahead="{size(2 * stats.read_ahead)}", or take batches as they complete, in_order=False.'
        )
    if late > _SLOW_TAIL * median and stats.samples_ahead * stats.batches > _MUCH_AHEAD * stats.samples:
        return (
            "single slow reads hold up whole batches, while others lie ready behind them; more and more do, so give it "
            "some seconds, or take batches as they complete, in_order=False."
        )
    if max(stats.direct, stats.cache_hits) > _AT_ONCE * stats.samples:
        return "reading from a local disk or its cache is the limit; a faster disk or smaller files would help."
    if stats.reads_under_way < _FEW * stats.concurrency:
        return (
            f"only {stats.reads_under_way:.1f} of {stats.concurrency} reads that are allowed at once are under way, "
            f'for want of room or of samples; look further ahead, read_ahead="{size(2 * stats.read_ahead)}", and see '
            "that source[index] is quick."
        )
    return (
        f"the storage gives no more than {size(round(stats.bytes_read / stats.seconds))} a second at "
        f"{stats.concurrency} reads at once; `asyncbatch doctor PATH` says what limits it and which mount options help."
    )


def _for_decoding(stats: Stats) -> str:
    if stats.decoding_busy > _BUSY:
        return (
            f"decoding keeps all {stats.decode_threads} threads busy; give the process more cores, or let it do less: "
            "smaller files, fewer or faster transforms, draft=True if it was switched off."
        )
    return (
        "decoding is late though its threads are not always busy; raise prefetch=, which evens out batches that take "
        'long, and leave decode_threads="auto".'
    )


def _for_handoff(stats: Stats) -> str:
    return (
        "batches are there, but Python does not get round to handing them over; look for code that holds the "
        "interpreter for long, in a transform, a hook, or a thread of your own (py-spy dump shows it)."
    )


def _delivered(stats: Stats) -> str:
    return (
        f"{stats.samples:,} samples in {stats.batches:,} batches came in {duration(stats.seconds)}, "
        f"{stats.samples / max(stats.seconds, 1e-9):,.0f} a second."
    )


def _waited(stats: Stats) -> str:
    share = stats.wait_seconds / stats.seconds if stats.seconds else 0.0
    parts = f"{duration(stats.wait_reading)} for reading, {duration(stats.wait_decoding)} for decoding"
    return (
        f"The caller waited {share:.0%} of that ({parts}, {duration(stats.wait_handoff)} for the hand-off) "
        f"and computed {1 - share:.0%}."
    )


def _read(stats: Stats) -> str:
    latency = stats.read_latency
    if not latency.count:
        return _cached(stats)
    way = f"{stats.reads_under_way:.1f} reads were under way on average, of {stats.concurrency} allowed"
    if stats.direct > _AT_ONCE * stats.samples:
        way = "The storage answered at once"
    longest = stats.slowest_reads[0].seconds if stats.slowest_reads else math.inf  # a quantile knows its bucket alone
    half, most = (duration(min(longest, latency.quantile(share))) for share in (0.5, 0.99))
    slowest = "".join(f", {duration(read.seconds)} the longest ({read.key})" for read in stats.slowest_reads[:1])
    return (
        f"{size(stats.bytes_read)} were read, {size(round(stats.bytes_read / latency.count))} a sample. {way}: "
        f"{half} for half of them, {most} for 99 of 100{slowest}. {_cached(stats)}".rstrip()
    )


def _cached(stats: Stats) -> str:
    return f"{stats.cache_hits:,} samples came from the cache." if stats.cache_hits else ""


def _decoded(stats: Stats) -> str:
    if not stats.decode_seconds:
        return ""
    threads = "decode thread was" if stats.decode_threads == 1 else f"{stats.decode_threads} decode threads were"
    return f"The {threads} busy {stats.decoding_busy:.0%} of the time."


def _trouble(stats: Stats) -> str:
    """Tell what went wrong on the way."""
    found = {
        "reads tried again": stats.retries,
        "reads given up as hung": stats.timeouts,
        "threads stuck in reads": stats.lost_threads,
        "samples left out": stats.skipped,
        "samples replaced": stats.replaced,
        "damaged entries of the cache": stats.cache_corrupt,
    }
    told = ", ".join(f"{what}: {count:,}" for what, count in found.items() if count)
    return told and told[0].upper() + told[1:] + "."


def size(count: int) -> str:
    """Write a number of bytes, as the settings take it: "256MB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g}{unit}"
    return f"{count}B"


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if seconds >= 100:
        return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
