"""Two runs side by side in a table, and where their time went in words."""

from __future__ import annotations

from asyncbatch.cli.race import Run
from asyncbatch.cli.terminal import percent, table

__all__ = ["HAND", "OURS", "comparison", "explain_hand", "explain_ours"]

HAND, OURS = "loop by hand", "asyncbatch"

_LITTLE_WAITING = 0.1  # of the caller's time, when it is the step that the others wait for
_BUSY = 0.6  # of the decode threads' time; far from 1, for reads and the training step need the processor too
_HARDLY_READING = 0.5  # reads at once: where fewer are under way on average, it is not storage that they wait for


def comparison(hand: Run, ours: Run, *, stepped: bool) -> str:
    """Return the table of both runs.

    Args:
        hand: The loop by hand.
        ours: asyncbatch.
        stepped: Whether the batches were used for anything, so that waiting has a share.
    """
    rows = [
        ("", HAND, OURS),
        ("pictures a second", f"{hand.rate:,.1f}", f"{ours.rate:,.1f}"),
        ("ratio", "1.0 ×", f"{ours.rate / hand.rate:,.1f} ×"),
        ("first batch after", f"{hand.first:.2f} s", f"{ours.first:.2f} s"),
        ("pictures delivered", f"{hand.pictures:,}", f"{ours.pictures:,}"),
        ("in", f"{hand.seconds:.1f} s", f"{ours.seconds:.1f} s"),
    ]
    if stepped:
        rows.append(("training step waits", percent(hand.waiting), percent(ours.waiting)))
    return table(rows)


def explain_hand(run: Run) -> str:
    """Say where the time of the loop by hand went."""
    reading, decoding = (run.busy(stage) / run.pictures * 1e3 for stage in ("read", "decode"))
    return (
        f"The loop by hand takes one picture after another, each {reading:.1f} ms of waiting for storage\n"
        f"and {decoding:.1f} ms of decoding."
    )


def explain_ours(run: Run, *, stepped: bool) -> str:
    """Say where asyncbatch's time went, and what limits it."""
    reads, decodes = ([s for s in run.spans if s.stage == stage] for stage in ("read", "decode"))
    if not (reads and decodes):
        return "asyncbatch recorded no reads."
    reading, decoding = run.busy("read"), run.busy("decode")
    threads = 1 + max(span.lane for span in decodes)
    busy = decoding / run.seconds / threads
    text = (
        f"asyncbatch reads {reading / run.seconds:.1f} pictures at once, {reading / len(reads) * 1e3:.1f} ms each,\n"
        f"and decodes on {threads} threads, {decoding / len(decodes) * 1e3:.1f} ms each, "
        f"which are busy {percent(busy)} of the time.\n"
    )
    if stepped and run.waiting < _LITTLE_WAITING:
        return text + "The training step sets the pace: a faster loader would gain nothing."
    if busy > _BUSY:
        return text + "Decoding sets the pace: only more or faster cores would gain more."
    if reading / run.seconds < _HARDLY_READING:
        return text + "Neither sets the pace: the start is much of so short a run; take more pictures, or --seconds 30."
    return text + "Storage sets the pace: decoding threads are idle much of the time."
