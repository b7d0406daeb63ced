"""What the reader knows of storage: how late is too late, whether a file is still the same, which error means what."""

from __future__ import annotations

import errno
import random

import pytest

from asyncbatch._errors import FileChanged
from asyncbatch.readers._fates import ChangedWhileRead, Fate, ReadTimeout, delays, fate_of
from asyncbatch.readers._identity import Identities
from asyncbatch.readers._latency import Latencies
from asyncbatch.readers._whole import Content


def content(size=10, mtime=1):
    return Content(b"x" * size, size, mtime, device=1)


def latencies(seconds):
    seen = Latencies()
    for each in seconds:
        seen.add(each)
    return seen


def test_deadline_has_a_floor():
    """Before anything is known, and where everything is quick, a read has ten seconds."""
    assert Latencies().deadline() == 10.0
    assert latencies([0.001] * 1000).deadline() == 10.0


def test_deadline_follows_what_was_seen():
    """Storage whose slow reads take 3 s gets more time; one whose reads take minutes not without end."""
    assert latencies([0.1] * 95 + [3.0] * 5).deadline() == 24.0
    assert latencies([300.0] * 100).deadline() == 120.0


def test_latencies_forget():
    """A mount that was slow once is judged by how it is now."""
    seen = latencies([60.0] * 600 + [0.01] * 600)
    assert seen.deadline() == 10.0
    assert seen.quantile(0.95) == 0.01


def test_quantile_is_unknown_at_first():
    """A few reads do not make a 95th percentile."""
    assert latencies([0.1] * 5).quantile(0.95) is None
    assert latencies([n / 100 for n in range(100)]).quantile(0.95) == pytest.approx(0.95, abs=0.05)


def test_mean_counts_what_is_late():
    """One read in a hundred that takes 2 s makes the others, of 100 ms, a fifth dearer."""
    assert latencies([0.1] * 5).mean() is None
    assert latencies(([0.1] * 99 + [2.1]) * 3).mean() == pytest.approx(0.12, rel=0.1)


@pytest.mark.parametrize("changed", [content(mtime=2), content(size=11)])
def test_a_file_that_was_replaced_is_noticed_once(changed):
    """Another size or time of change than when it was read before is reported; from then on that is the file."""
    known = Identities()
    known.check("file", content())
    known.check("other", changed)
    with pytest.raises(FileChanged, match="was replaced since it was read before"):
        known.check("file", changed)
    known.check("file", changed)


def test_made_up_times_are_not_compared():
    """Once three files had another time of change at each look and the same content, sizes alone tell."""
    known = Identities()
    known.check("file", content(mtime=1))
    for _ in range(2):
        known.only_the_time_changed()
    assert known.times_count
    known.only_the_time_changed()
    known.check("file", content(mtime=2))
    known.check("file", content(mtime=3))
    with pytest.raises(FileChanged):
        known.check("file", content(size=11, mtime=3))


def test_identities_take_no_more_memory_for_more_files():
    """Of a million files some are forgotten, and none is mistaken for another."""
    known = Identities()
    for number in range(300_000):
        known.check(f"{number}.jpg", content(size=number % 1000))
    assert known._table.nbytes == 4 * 2**20


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (OSError(errno.EIO, ""), Fate.RETRY),
        (OSError(errno.ESTALE, ""), Fate.RETRY),
        (OSError(errno.ECONNRESET, ""), Fate.RETRY),
        (OSError(errno.EPROTO, "what no table names may pass"), Fate.RETRY),
        (ChangedWhileRead("changed", 7), Fate.RETRY),
        (FileChanged("cut"), Fate.FINAL),
        (FileNotFoundError(errno.ENOENT, ""), Fate.FINAL),
        (OSError("without a number"), Fate.RETRY),
        (OSError(errno.EMFILE, ""), Fate.SCARCE),
        (RuntimeError("can't start new thread"), Fate.SCARCE),
        (MemoryError(), Fate.SCARCE),
        (OSError(errno.ENOTCONN, ""), Fate.DEAD),
        (ReadTimeout(1.0), Fate.LATE),
        (ValueError("embedded null byte"), Fate.FINAL),
    ],
)
def test_fates(error, fate):
    """Errors are told apart by what can be done about them."""
    assert fate_of(error) is fate


def test_pauses_grow_are_jittered_and_end_somewhere():
    """Each pause is about twice the one before, up to a limit, and no two readers pause alike."""
    random.seed(3)
    pauses = [pause for pause, _ in zip(delays(0.1, 5.0), range(12), strict=False)]
    assert all(0.5 <= pause / min(5.0, 0.1 * 2**number) <= 1.5 for number, pause in enumerate(pauses))
    assert len(set(pauses)) == len(pauses)
