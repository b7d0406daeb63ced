"""`loader.stats()`: where the time went by its causes, how long reads took, and what to change."""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
import time
from dataclasses import replace

import aiofiles
import numpy as np
import pytest
from coloured import write_coloured

import asyncbatch as ab
from asyncbatch import _iterator
from asyncbatch._advice import advice, duration, size
from asyncbatch._made import Times
from asyncbatch._read_times import ReadTimes
from asyncbatch.readers import _whole
from asyncbatch.readers._gate import Gate


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), 40)


def sample(index):
    return ab.Sample(key=f"{index}.jpg", path=f"/photos/{index}.jpg", label=0)


class Numbered:
    fingerprint = "numbered"

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return sample(index)


class Slow:
    """A reader that takes long, and a decoder too."""

    concurrency = 4

    def __init__(self, reading=0.0, decoding=0.0):
        self.reading, self.decoding = reading, decoding

    async def read(self, sample):
        await asyncio.sleep(self.reading)
        return b"12345"

    def decode(self, data):
        time.sleep(self.decoding)
        return np.zeros(4, np.uint8)


def run(slow, compute=0.0, count=40, **options):
    with ab.Loader(Numbered(count), batch_size=4, reader=slow, decoder=slow.decode, **options) as loader:
        for _ in loader:
            time.sleep(compute)
        return loader.stats()


# -- the causes of waiting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "complete", "reading", "causes"),
    [
        (12.0, 15.0, 0.0, (2.0, 3.0, 1.0)),  # read, decoded and handed over while the caller waited
        (5.0, 15.0, 0.0, (0.0, 5.0, 1.0)),  # read before it asked
        (5.0, 7.0, 0.0, (0.0, 0.0, 6.0)),  # complete before it asked
        (0.0, 14.0, 0.25, (1.0, 3.0, 2.0)),  # a thread read and decoded in one go
        (12.0, 14.0, 0.5, (3.0, 1.0, 2.0)),  # it left one sample to be read otherwise
        (0.0, 0.0, 0.0, (0.0, 0.0, 6.0)),
        (99.0, 99.0, 0.0, (6.0, 0.0, 0.0)),  # clocks of threads: never more than what was waited
    ],
)
def test_a_wait_is_split_by_what_the_batch_lacked(read, complete, reading, causes):
    assert Times(read, complete, reading).causes(10.0, 16.0) == pytest.approx(causes)


def test_waiting_for_storage():
    stats = run(Slow(reading=0.02), count=400)
    assert stats.wait_reading > 0.8 * stats.wait_seconds
    assert "To change: the storage gives no more than" in str(stats)
    assert "asyncbatch doctor" in str(stats)


def test_waiting_for_decoding():
    stats = run(Slow(decoding=0.01), decode_threads=2, count=250)
    assert stats.wait_decoding > 0.8 * stats.wait_seconds
    assert stats.decoding_busy > 0.8
    assert "decoding keeps all 2 threads busy" in str(stats)


def test_not_waiting(monkeypatch):
    """By a clock that goes on only while the caller computes, it computed all of the time, to the millisecond."""
    now = [100.0]
    monkeypatch.setattr(_iterator, "perf_counter", lambda: now[0])
    with ab.Loader(Numbered(40), batch_size=4, reader=Slow(), decoder=Slow().decode) as loader:
        for _ in loader:
            now[0] += 0.03
        stats = loader.stats()
    assert stats.compute_seconds == pytest.approx(9 * 0.03)  # between ten batches
    assert (stats.wait_seconds, stats.utilisation) == (0.0, 1.0)
    assert "Nothing to change" in str(stats)


def test_the_causes_add_up(pictures):
    """Whichever way the batches were made: read directly, through the queue, or from memory."""
    for loader in (
        ab.Loader(pictures, batch_size=8, image_size=24),
        ab.Loader(pictures, batch_size=8, image_size=24, reader=Plain()),
        ab.Loader(ab.sources.arrays(np.zeros((64, 3))), batch_size=8),
    ):
        with loader:
            list(loader)
            stats = loader.stats()
        causes = stats.wait_reading, stats.wait_decoding, stats.wait_handoff
        assert min(causes) >= 0
        assert sum(causes) == pytest.approx(stats.wait_seconds)
        assert stats.seconds == stats.wait_seconds + stats.compute_seconds


class Plain:
    """A reader of one's own."""

    concurrency = 2

    async def read(self, sample):
        async with aiofiles.open(sample.path, "rb") as file:
            return await file.read()


# -- reads -------------------------------------------------------------------------------------------------------------


def test_quantiles_are_known_to_a_bucket():
    times = ReadTimes()
    rng = np.random.default_rng(0)
    seconds = 10 ** rng.uniform(-4, 0, 10_000)
    for start in range(0, 10_000, 100):
        times.add(list(seconds[start : start + 100]), [sample(start + k) for k in range(100)])
    latency = times.latency()
    assert latency.count == 10_000
    for share in (0.01, 0.5, 0.9, 0.99):
        assert latency.quantile(share) == pytest.approx(np.quantile(seconds, share), rel=0.19)
    assert [bound for bound, _ in latency.buckets] == sorted({bound for bound, _ in latency.buckets})
    worst = np.argsort(seconds)[::-1][:10]
    assert [read.key for read in times.slowest()] == [f"{index}.jpg" for index in worst]
    assert [read.seconds for read in times.slowest()] == list(seconds[worst])


def test_reads_without_a_clock():
    times = ReadTimes()
    assert (times.latency().count, times.latency().quantile(0.5), times.slowest()) == (0, 0.0, ())
    times.add([0.0, -1e-9], [sample(0), sample(1)])
    assert times.latency().count == 2
    assert times.latency().quantile(1.0) == pytest.approx(1e-6, rel=0.2)


def test_reads_of_days():
    """What took longer than the last bound counts as that."""
    times = ReadTimes()
    times.add([1e9, 1.2e5, 8e4], [sample(0), sample(1), sample(2)])
    assert times.latency().buckets == ((pytest.approx(2**16.5), 1), (2**17, 2))


def test_every_read_is_counted(pictures):
    """Directly read or through the queue; the slowest by name."""
    for reader in (None, ab.FileReader(concurrency=2), Plain()):
        with ab.Loader(pictures, batch_size=8, image_size=24, reader=reader) as loader:
            list(loader)
            stats = loader.stats()
        assert stats.read_latency.count == len(loader.source)
        assert len(stats.slowest_reads) == 10
        assert {read.key for read in stats.slowest_reads} <= {
            one.key for one in map(loader.source.__getitem__, range(40))
        }
        assert stats.bytes_ahead == 0
        assert stats.read_ahead == 256_000_000


def test_pauses_are_not_the_storages_time(pictures, monkeypatch):
    """A read that was tried again took as long as the try that brought it."""
    failed, real = [], _whole.read_file

    def fail_once(part, *rest):
        if not failed:
            failed.append(part.path)
            raise OSError(errno.EIO, "once")
        return real(part, *rest)

    monkeypatch.setattr(_whole, "read_file", fail_once)
    reader = ab.FileReader(concurrency=2, backoff=0.5)
    with ab.Loader(pictures, batch_size=8, image_size=24, reader=reader) as loader:
        list(loader)
        stats = loader.stats()
    assert (len(failed), stats.retries, stats.read_latency.count) == (1, 1, 40)
    assert stats.slowest_reads[0].seconds < 0.2
    assert stats.wait_seconds > 0.2


@pytest.mark.parametrize("directly", [False, True])
def test_only_what_was_used_counts_as_read(monkeypatch, pictures, tmp_path, directly):
    """Files that are not there are no fast reads, however they are missed."""
    monkeypatch.setattr(Gate, "is_open", property(lambda gate: directly, lambda gate, is_open: None), raising=False)
    paths = [*sorted(pictures.rglob("*.png")), *(tmp_path / f"{place}.png" for place in range(10))]
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"{path} 0\n" for path in paths))
    with ab.Loader(manifest, batch_size=10, image_size=24, shuffle=True, on_error=ab.Skip(1.0)) as loader:
        samples = sum(len(batch.images) for batch in loader.epochs(10))
        stats = loader.stats()
    assert samples == stats.samples == stats.read_latency.count == 400
    assert 0 < stats.direct <= 400 if directly else stats.direct == 0


def test_bytes_ahead_are_those_that_wait():
    """While decoding stands still, what was read waits; afterwards nothing does."""
    gate = threading.Event()

    def decode(data):
        gate.wait(10)
        return np.zeros(1, np.uint8)

    reader = Slow()
    with ab.Loader(Numbered(40), batch_size=4, reader=reader, decoder=decode) as loader:
        batches = iter(loader)
        deadline = time.monotonic() + 10
        while loader.stats().read_latency.count < 40 and time.monotonic() < deadline:
            time.sleep(0.001)
        stats = loader.stats()
        assert stats.bytes_ahead == 40 * 4096  # what a small sample costs at least
        assert 36 <= stats.samples_ahead <= 40  # those that threads are at are counted until they are done
        gate.set()
        assert len(list(batches)) == 10
        assert (loader.stats().bytes_ahead, loader.stats().samples_ahead) == (0, 0)


# -- words -------------------------------------------------------------------------------------------------------------

BUSY = ab.Stats(
    batches=100, samples=3200, bytes_read=10**8, wait_seconds=5.0, wait_reading=4.0, wait_decoding=1.0,
    compute_seconds=5.0, concurrency=64, decode_threads=2, decode_seconds=4.0, read_seconds=600.0,
    read_ahead=256 * 10**6,
    read_latency=ab.ReadLatency(((0.03, 3000), (0.04, 200))),
)  # fmt: skip


def test_nothing_was_delivered_yet(pictures):
    with ab.Loader(pictures, batch_size=8, image_size=24) as loader:
        assert str(loader.stats()) == "Nothing was delivered yet."
        assert loader.stats().utilisation == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the storage gives no more than 10MB a second at 64 reads at once; `asyncbatch doctor PATH`"),
        ({"wait_seconds": 0.05, "wait_reading": 0.05, "wait_decoding": 0.0}, "Nothing to change"),
        ({"batches": 3}, "Too early to say"),
        ({"wait_seconds": 0.4, "compute_seconds": 0.4}, "Too early to say"),
        ({"read_seconds": 20.0}, "only 2.0 of 64 reads that are allowed at once are under way"),
        ({"cache_hits": 3000}, "a local disk or its cache is the limit"),
        ({"concurrency": 0}, "items are slow to come on 2 threads; if they wait for storage, write decode_threads=16"),
        ({"direct": 3000}, "a local disk or its cache is the limit"),
        (
            {"bytes_ahead": 250 * 10**6, "read_latency": ab.ReadLatency(((0.03, 3000), (2.0, 200)))},
            'look further ahead, read_ahead="512MB", or take batches as they complete, in_order=False',
        ),
        (
            {
                "samples_ahead": 5 * 32,
                "read_latency": ab.ReadLatency(((0.03, 3000), (2.0, 200))),
                "read_seconds": 20.0,
            },
            "while others lie ready behind them; more and more do, so give it some seconds, or take batches as they",
        ),
        (
            {
                "samples_ahead": 3 * 32,
                "bytes_ahead": 99 * 10**6,
                "read_latency": ab.ReadLatency(((0.03, 3000), (2.0, 200))),
            },
            "the storage gives no more than 10MB a second",
        ),
        ({"wait_reading": 0.0, "wait_decoding": 5.0, "decode_seconds": 19.0}, "decoding keeps all 2 threads busy"),
        ({"wait_reading": 0.0, "wait_decoding": 5.0}, "raise prefetch="),
        ({"wait_reading": 0.0, "wait_handoff": 4.0}, "code that holds the interpreter"),
    ],
)
def test_the_one_thing_to_change(changes, words):
    """Each cause has its own remedy, which ends the paragraph."""
    stats = replace(BUSY, **changes)
    assert words in advice(stats)
    assert str(stats).endswith(advice(stats))
    assert "\n" not in str(stats)


def test_a_paragraph_tells_what_went_wrong():
    text = str(replace(BUSY, retries=3, skipped=1, slowest_reads=(ab.SlowRead(0.9, "cat/7.jpg"),)))
    assert "3,200 samples in 100 batches came in 10 s, 320 a second." in text
    assert "waited 50% of that (4 s for reading, 1 s for decoding, 0 µs for the hand-off)" in text
    assert "60.0 reads were under way on average, of 64 allowed" in text
    assert "900 ms the longest (cat/7.jpg)" in text
    assert "Reads tried again: 3, samples left out: 1." in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0000025, "2.5 µs"), (0.031, "31 ms"), (2.5, "2.5 s"), (150, "2.5 min"), (9000, "2.5 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(5, "5B"), (61_000, "61kB"), (256 * 10**6, "256MB"), (3 * 10**9, "3GB")])
def test_sizes(count, text):
    assert size(count) == text


# -- for a log, and for a picture --------------------------------------------------------------------------------------


def test_statistics_of_an_epoch(pictures):
    """What came since an earlier snapshot, while what is of now stays."""
    with ab.Loader(pictures, batch_size=8, image_size=24) as loader:
        list(loader)
        first = loader.stats()
        list(loader)
        both = loader.stats()
    second = both.since(first)
    assert (first.samples, both.samples, second.samples) == (40, 80, 40)
    assert second.wait_seconds == pytest.approx(both.wait_seconds - first.wait_seconds)
    assert second.read_latency.count == 40
    assert (second.concurrency, second.decode_threads) == (both.concurrency, both.decode_threads)
    assert both.since(both).batches == 0
    assert both.since(both).read_latency == ab.ReadLatency()


def test_errors_since(tmp_path, pictures):
    """Those that the earlier snapshot did not have."""
    bad = tmp_path / "bad.txt"
    bad.write_text("missing.jpg 0\nmissing2.jpg 1\n")
    with ab.Loader(str(bad), batch_size=2, image_size=24, on_error=ab.Skip(1.0)) as loader:
        list(loader)
        first = loader.stats()
        list(loader)
    assert len(first.errors) == 2
    assert loader.stats().since(first).errors == loader.stats().errors[2:]


def test_scalars_are_numbers_by_name():
    """As TensorBoard's `add_scalar` and every other log takes them."""
    scalars = BUSY.scalars()
    assert scalars["loader/samples_per_second"] == 320.0
    assert scalars["loader/waiting"] == 0.5
    assert scalars["loader/waiting_for_reading"] == 0.4
    assert all(type(value) is float for value in scalars.values())
    assert {name.partition("/")[0] for name in BUSY.scalars("valid/")} == {"valid"}
    assert np.isnan(ab.Stats().scalars()["loader/waiting"])


@pytest.mark.parametrize("stats", [ab.Stats(), BUSY], ids=["nothing", "busy"])
def test_a_plot(stats, tmp_path):
    """Both parts are drawn, into a file if one is named."""
    pytest.importorskip("matplotlib", reason="pip install 'asyncbatch[plot]'")
    figure = stats.plot(tmp_path / "stats.png")
    assert (tmp_path / "stats.png").stat().st_size > 8000
    assert stats.plot().axes[0].get_title("left") == "where the caller's time went"
    reads = figure.axes[1]
    assert reads.get_title("left") == f"how long {stats.read_latency.count:,} reads took"
    assert sum(bar.get_height() for bar in reads.patches) == stats.read_latency.count


def test_a_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'asyncbatch\[plot\]'"):
        BUSY.plot()
