"""Runs: while the storage answers at once, a thread reads and decodes the samples of a batch one after the other."""

from __future__ import annotations

import errno
import gc
import itertools
import math
import os
import random
import threading
import time
import weakref
from functools import partial

import numpy as np
import pytest
from conftest import Footprint

import asyncbatch as ab
from asyncbatch._credits import Credits
from asyncbatch._mailbox import Mailbox
from asyncbatch._pipeline import Pipeline
from asyncbatch._runs import Runs
from asyncbatch._useful_threads import UsefulThreads
from asyncbatch._window import ReadAheadWindow
from asyncbatch.readers import _direct, _gate, _run, _whole
from asyncbatch.readers._direct import DirectQueue
from asyncbatch.readers._gate import Gate
from asyncbatch.readers._run import Run

COUNT, BATCH = 100, 8


def number(data):
    return np.frombuffer(data[:8], np.int64)


@pytest.fixture
def files(tmp_path):
    """A manifest of files that hold their number."""
    for index in range(COUNT):
        (tmp_path / f"{index:03d}").write_bytes(index.to_bytes(8, "little"))
    (tmp_path / "list.txt").write_text("".join(f"{index:03d},{index}\n" for index in range(COUNT)))
    return tmp_path / "list.txt"


@pytest.fixture
def runs(monkeypatch):
    """How many samples each run read."""
    carry_out, read = Run.carry_out, []

    def counted(run, lock):
        try:
            carry_out(run, lock)
        finally:
            read.append(run.count)

    monkeypatch.setattr(Run, "carry_out", counted)
    return read


@pytest.fixture
def at_once(monkeypatch, runs):
    """The same, and every storage is taken for one that answers at once, however busy the machine is."""
    monkeypatch.setattr(Gate, "is_open", property(lambda gate: True, lambda gate, is_open: None), raising=False)
    monkeypatch.setattr(_run, "_SLOW", 1e9)
    return runs


@pytest.fixture
def at_first(monkeypatch, runs):
    """The same, but only until something shows that it does not."""
    make = Gate.__init__

    def open_from_the_start(gate):
        make(gate)
        gate.is_open = True

    monkeypatch.setattr(Gate, "__init__", open_from_the_start)
    return runs


def loader(files, **options):
    reader, decoder = ab.FileReader(**options.pop("reader", {})), options.pop("decoder", number)
    return ab.Loader(files, batch_size=BATCH, decoder=decoder, reader=reader, **options)


def take_all(batches):
    """Return the numbers, as they came, and the errors."""
    numbers, errors = [], []
    for batch in batches:
        assert batch.images[:, 0].tolist() == batch.indices.tolist()
        numbers += batch.images[:, 0].tolist()
        errors += batch.errors
    return numbers, errors


def other_than(path, answer):
    """Return an `os.open` that asks `answer` for one path."""
    whole_open = os.open

    def opened(name, flags, *rest, **options):
        return answer(lambda: whole_open(name, flags)) if name == path else whole_open(name, flags, *rest, **options)

    return opened


def path_of(files, index):
    return str(files.parent / f"{index:03d}")


# -- what they deliver -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("in_order", [True, False])
def test_everything_is_delivered(files, at_once, threads, in_order):
    """Each sample once, in the plan's order, whatever the number of threads; and all by runs."""
    before = Footprint()
    with loader(files, shuffle=True, seed=3, decode_threads=threads, in_order=in_order) as batches:
        numbers, errors = take_all(batches.epochs(2))
        stats = batches.stats()
    assert (sorted(numbers), errors, sum(at_once)) == (sorted([*range(COUNT)] * 2), [], 2 * COUNT)
    if in_order:
        whole = ab.Loader(files, batch_size=COUNT, decoder=number, shuffle=True, seed=3)
        assert numbers == [number for batch in whole.epochs(2) for number in batch.indices.tolist()]
    assert stats.bytes_read == 2 * 8 * COUNT
    before.assert_same_soon(5.0)


class Dawdler:
    """A hook that keeps the thread of the last sample but one until its batch was taken and the iteration could end.

    As a decoder it keeps the last sample until then.

    Attributes:
        decoding: Seconds of each sample's decoding.
        kept: Set once a thread is.
        taken: To be set when the batch was.
        asked: To be set when the iteration would end if no thread were kept.
    """

    def __init__(self):
        self.decoding = []
        self.kept, self.taken, self.asked = threading.Event(), threading.Event(), threading.Event()

    def record(self, span):
        if span.stage == "decode":
            self.decoding.append(span.stop - span.start)
            if span.step == COUNT // 2 - 1 and not self.kept.is_set():
                self.kept.set()
                assert self.taken.wait(30)
                assert self.asked.wait(30)

    def number(self, data):
        row = number(data)
        if row[0] == COUNT - 1:
            assert self.kept.wait(30)
        return row


@pytest.mark.parametrize("direct", [True, False])
def test_nothing_is_counted_too_late(files, at_once, monkeypatch, direct):
    """What a thread counts only after the last batch was taken is in the figures at the end."""
    monkeypatch.setattr(Gate, "is_open", property(lambda gate: direct, lambda gate, is_open: None))
    dawdler, answers, is_quiet = Dawdler(), [], Pipeline._is_quiet

    def noted(self):
        answers.append(is_quiet(self))
        dawdler.asked.set()
        return answers[-1]

    monkeypatch.setattr(Pipeline, "_is_quiet", noted)
    with ab.Loader(files, batch_size=2, decoder=dawdler.number, decode_threads=2, hooks=[dawdler]) as batches:
        for batch in batches:
            if batch.step == COUNT // 2 - 1:
                dawdler.taken.set()
        stats = batches.stats()
    assert (answers[0], answers[-1], sum(at_once)) == (False, True, COUNT * direct)
    assert stats.bytes_read == 8 * COUNT
    assert len(dawdler.decoding) == COUNT
    assert stats.decode_seconds >= sum(dawdler.decoding) - 1e-9  # rounding


def test_they_begin_by_themselves(files, runs):
    """On a local disk, files that were read before are read in runs after the first few."""
    with loader(files) as batches:
        for _ in range(20):  # a busy machine may be slow at first
            list(batches.epochs(10))
            if runs:
                break
    assert runs


def test_what_is_in_runs_depends_on_nothing_else(files, at_once):
    """The batches are those of ordinary reads, bit for bit."""
    with loader(files, shuffle=True) as batches:
        direct = [(batch.images.tolist(), batch.labels.tolist(), batch.keys) for batch in batches]
    assert sum(at_once) == COUNT
    with loader(files, shuffle=True, reader={"roots": [str(files.parent)]}) as batches:  # roots are never read in runs
        assert [(batch.images.tolist(), batch.labels.tolist(), batch.keys) for batch in batches] == direct
    assert sum(at_once) == COUNT


def test_a_caller_that_stops_stops_them(files, at_once):
    """No more is read than batches may be open."""
    with loader(files, prefetch=2, decode_threads=2) as batches:
        iterator = iter(batches)
        next(iterator)
        next(iterator)
    assert sum(at_once) <= 4 * BATCH


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", [ab.Skip(3), ab.Replace(3)])
def test_files_that_are_not_there(files, at_once, on_error):
    """They are reported as ever, the others are delivered, and later runs are made all the same."""
    for index in (5, 6, 77):
        (files.parent / f"{index:03d}").unlink()
    with loader(files, on_error=on_error) as batches:
        numbers, errors = take_all(batches)
    assert [(error.index, error.errno) for error in errors] == [(5, 2), (6, 2), (77, 2)]
    assert len(numbers) == (COUNT if isinstance(on_error, ab.Replace) else COUNT - 3)
    assert sum(at_once) == COUNT


def test_rows_that_cannot_be_made(files, at_once):
    """A decoder's error is its sample's, in its turn."""
    (files.parent / "042").write_bytes(b"short")
    with loader(files) as batches, pytest.raises(ab.DecodeError, match="042"):
        take_all(batches)


def test_an_error_that_passes_is_tried_again(files, at_first, monkeypatch):
    """A run leaves it to the ordinary way, which counts retries as ever."""
    fails = iter([errno.EIO, errno.ESTALE])

    def fail_twice(whole_open):
        code = next(fails, None)
        if code is not None:
            raise OSError(code, os.strerror(code))
        return whole_open()

    monkeypatch.setattr(os, "open", other_than(path_of(files, 13), fail_twice))
    with loader(files, reader={"backoff": 0.001}) as batches:
        numbers, errors = take_all(batches)
        assert (numbers, errors, batches.stats().retries) == ([*range(COUNT)], [], 2)


def test_a_slow_read_ends_its_run(files, at_once, monkeypatch):
    """The samples behind it are read by others meanwhile, and everything comes in order."""
    monkeypatch.setattr(_run, "_SLOW", 0.0)  # every read is slow
    with loader(files, decode_threads=2) as batches:
        numbers, _ = take_all(batches)
    assert numbers == [*range(COUNT)]
    assert 0 < sum(at_once) == len(at_once) < COUNT  # one of each run


def test_the_others_are_read_ahead_soon_where_reads_are_slow(files, at_first, monkeypatch):
    """Where each run ends after one read, there would be 26 of them."""
    monkeypatch.setattr(_run, "_SLOW", 0.0)
    with loader(files, decode_threads=2) as batches:
        numbers, _ = take_all(batches)
    assert numbers == [*range(COUNT)]
    assert 4 <= sum(at_first) < 20


@pytest.mark.parametrize("gate", ["at_once", "at_first"])
@pytest.mark.parametrize("index", [0, 13, COUNT - 1])
def test_a_read_that_hangs_is_given_up(files, monkeypatch, request, gate, index):
    """Only its own sample is lost, and the thread comes back when the storage lets it go."""
    request.getfixturevalue(gate)
    release = threading.Event()

    def hang(whole_open):
        release.wait()
        return whole_open()

    monkeypatch.setattr(os, "open", other_than(path_of(files, index), hang))
    before = Footprint()
    with loader(files, reader={"timeout": 0.3}, on_error=ab.Skip(1), decode_threads=2) as batches:
        numbers, errors = take_all(batches)
        stats = batches.stats()
    assert numbers == [other for other in range(COUNT) if other != index]
    assert [(error.index, error.errno) for error in errors] == [(index, errno.ETIMEDOUT)]
    assert (stats.timeouts, stats.lost_threads) == (1, 1)
    release.set()
    before.assert_same_soon(5.0)


@pytest.fixture
def landings(monkeypatch):
    """Whether the loop was woken up for each run that ended; the first one ends when two more wait."""
    post, put, loud, three = Mailbox.post, DirectQueue.put, [], threading.Event()
    count = itertools.count(1)

    def heard(mailbox, deliver, item, **how):
        if isinstance(item, Run):
            loud.append(not how.get("with_next"))
        post(mailbox, deliver, item, **how)

    def counted(queue, run):
        put(queue, run)
        if next(count) == 3:
            three.set()

    def first_of_three(data):
        row = number(data)
        assert row[0] or three.wait(30)
        return row

    monkeypatch.setattr(Mailbox, "post", heard)
    monkeypatch.setattr(DirectQueue, "put", counted)
    monkeypatch.setitem(globals(), "loader", partial(loader, decoder=first_of_three))
    return loud


@pytest.mark.parametrize(("short", "together"), [(math.inf, True), (0.0, False)])
def test_the_loop_hears_of_short_runs_together(files, at_once, landings, monkeypatch, short, together):
    """It is woken up for each run that is long, and not for the short ones that others wait behind."""
    monkeypatch.setattr(_direct, "_SHORT", short)
    with loader(files, decode_threads=1, prefetch=8) as batches:
        numbers, _ = take_all(batches.epochs(3))
    assert numbers == [*range(COUNT)] * 3
    assert len(landings) == 3 * -(-COUNT // BATCH)
    assert landings[0] != together
    assert together or all(landings)


def test_credits_are_looked_for_after_each_run(files, at_once, monkeypatch):
    """A run less under way may make them urgent, and its batch was complete, and looked after, before that."""
    look, left, seen, looks = Credits.look, Runs._left, [], []
    current = None

    def looked(own):
        looks.append(current and current.under_way)
        look(own)

    def ended(runs, run, rest):
        nonlocal current
        current, expected = runs, runs.under_way - 1
        looks.clear()
        left(runs, run, rest)
        seen.append(expected in looks)

    monkeypatch.setattr(Credits, "look", looked)
    monkeypatch.setattr(Runs, "_left", ended)
    with loader(files, decode_threads=2, prefetch=2) as batches:
        numbers, _ = take_all(batches)
    assert numbers == [*range(COUNT)]
    assert len(seen) >= -(-COUNT // BATCH)
    assert all(seen)


def test_what_is_complete_leaves_though_the_next_hangs(files, at_once, landings, monkeypatch):
    """The loop has not heard yet of a short run when the next one hangs, and hears of it soon."""
    monkeypatch.setattr(_direct, "_SHORT", math.inf)
    release = threading.Event()

    def hang(whole_open):
        release.wait()
        return whole_open()

    monkeypatch.setattr(os, "open", other_than(path_of(files, BATCH), hang))
    with loader(files, reader={"timeout": 60}, decode_threads=1) as batches:
        reading = iter(batches)
        began = time.monotonic()
        assert next(reading).indices.tolist() == [*range(BATCH)]  # while the other hangs: nobody else releases it
        assert time.monotonic() - began < 20  # a third of the time until it would be looked at
        assert landings == [False]
        release.set()
        assert sum(len(batch.indices) for batch in reading) == COUNT - BATCH


def test_a_decoder_that_takes_long_is_no_hang(files, at_once, monkeypatch):
    """The deadline is for the storage: what a thread does with the bytes may take as long as it takes."""
    release, decoding = threading.Event(), threading.Event()

    def slow(data):
        row = number(data)
        if row[0] == 20:
            decoding.set()
            release.wait()
        return row

    with ab.Loader(files, batch_size=BATCH, decoder=slow, reader=ab.FileReader(timeout=0.3)) as batches:
        iterator = iter(batches)
        assert decoding.wait(10)
        threading.Timer(3.0, release.set).start()  # ten deadlines
        numbers, _ = take_all(iterator)
        assert (numbers, batches.stats().timeouts) == ([*range(COUNT)], 0)


def test_a_storage_that_dies_in_a_run(files, at_first, monkeypatch):
    """When the mount is gone the error says so once; when it comes back within the grace period nothing is lost."""
    dead, whole_open = threading.Event(), os.open

    def opened(name, *rest, **options):
        if dead.is_set() and str(name).startswith(str(files.parent)):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return whole_open(name, *rest, **options)

    monkeypatch.setattr(os, "open", opened)
    with loader(files, reader={"grace": 30.0}) as batches:
        iterator = iter(batches)
        first, _ = take_all([next(iterator)])
        dead.set()
        threading.Timer(0.3, dead.clear).start()
        rest, errors = take_all(iterator)
    assert (first + rest, errors) == ([*range(COUNT)], [])
    with loader(files, reader={"grace": 0.2}) as batches:
        iterator = iter(batches)
        next(iterator)
        dead.set()
        with pytest.raises(ab.StorageUnresponsive, match="does not answer"):
            take_all(iterator)


def test_a_file_that_was_replaced_is_noticed(files, at_once):
    """A second epoch compares."""
    with loader(files) as batches:
        list(batches)
        batches_of_two = batches.epochs(2)
        next(batches_of_two)
    with loader(files) as batches, pytest.raises(ab.SampleChanged, match="007"):
        epochs = batches.epochs(2)
        for batch in epochs:
            if batch.step == 3 and batch.epoch == 0:
                (files.parent / "007").write_bytes((7).to_bytes(9, "little"))


def test_a_hooks_error_ends_the_iteration(files, at_once):
    """An error that is no sample's reaches the caller."""

    class Hook:
        def record(self, span):
            if span.stage == "decode" and span.step == 2:
                raise RuntimeError("the hook failed")

    with loader(files, hooks=[Hook()]) as batches, pytest.raises(RuntimeError, match="the hook failed"):
        take_all(batches)


def test_spans(files, at_once):
    """Every sample's reading and decoding is told, with the thread that did it."""
    spans = []

    class Hook:
        record = spans.append

    with loader(files, hooks=[Hook()], decode_threads=2) as batches:
        take_all(batches)
    for stage in ("read", "decode"):
        told = [span for span in spans if span.stage == stage]
        assert len(told) == COUNT
        assert all(span.start <= span.stop for span in told)
        assert {span.lane for span in told} <= {0, 1}
    assert sum(at_once) == COUNT


def test_closing_in_a_run(files, at_once, monkeypatch):
    """Nothing is read after `close`."""
    opened, whole_open = [], os.open

    def noted(name, *rest, **options):
        opened.append(name)
        return whole_open(name, *rest, **options)

    monkeypatch.setattr(os, "open", noted)
    before = Footprint()
    for seed in range(20):
        batches = loader(files, shuffle=True, seed=seed, decode_threads=2)
        iterator = iter(batches)
        for _ in range(random.Random(seed).randrange(4)):  # noqa: S311 - a moment, not a secret
            next(iterator)
        batches.close()
        opened.clear()
    assert not opened
    before.assert_same_soon(5.0)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_large_files_need_room(tmp_path, at_once, monkeypatch):
    """A large file that does not fit the budget is put off to the ordinary way, which has it wait."""
    monkeypatch.setattr(_run, "_SMALL", 1000)
    for index in range(40):
        (tmp_path / f"{index:02d}").write_bytes(index.to_bytes(8, "little") + bytes(1500 if index % 3 else 10))
    (tmp_path / "list.txt").write_text("".join(f"{index:02d},{index}\n" for index in range(40)))
    borrowed, borrow, give_back = [], ReadAheadWindow.borrow, ReadAheadWindow.give_back

    def counted(window, size):
        borrowed.append(size if (may := borrow(window, size)) else 0)
        return may

    def back(window, size):
        borrowed.append(-size)
        give_back(window, size)

    monkeypatch.setattr(ReadAheadWindow, "borrow", counted)
    monkeypatch.setattr(ReadAheadWindow, "give_back", back)
    whole_read, fails = os.read, []

    def fail_once(descriptor, count):
        if count > 1000 and fails:
            fails.pop()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return whole_read(descriptor, count)

    monkeypatch.setattr(os, "read", fail_once)
    for budget in (2000, 100_000):
        borrowed.clear()
        fails.append("once")
        reader = {"backoff": 0.001}
        with loader(tmp_path / "list.txt", read_ahead=budget, decode_threads=3, reader=reader) as batches:
            numbers, _ = take_all(batches)
        assert numbers == [*range(40)]
        assert sum(borrowed) == 0
        assert max(np.cumsum(borrowed)) <= max(budget, 1508)


def test_errors_that_are_kept_keep_no_batch(files, at_once):
    """Whoever keeps an error does not keep the rows of its batch with it."""
    (files.parent / "003").write_bytes(b"short")
    with loader(files, on_error=ab.Skip(1)) as batches:
        iterator = iter(batches)
        batch = next(iterator)
        kept, images = batch.errors, weakref.ref(batch.images)
        del batch
        rest = take_all(iterator)
    gc.collect()
    assert (len(kept), len(rest[0]), images()) == (1, COUNT - BATCH, None)


# -- when they are used ------------------------------------------------------------------------------------------------


def reads(gate, seconds, count):
    for _ in range(count):
        gate.landed([seconds], directly=gate.is_open)


def test_the_gate_opens_after_enough_fast_reads():
    """Page cache opens it, a disk does not, and a few that had to wait for a core do not matter."""
    gate = Gate()
    reads(gate, 30e-6, 63)
    assert not gate.is_open
    reads(gate, 30e-6, 1)
    assert gate.is_open
    disk = Gate()
    reads(disk, 200e-6, 1000)
    assert not disk.is_open
    busy = Gate()
    for _ in range(16):
        busy.landed([30e-6, 30e-6, 5e-3, 200e-6], directly=False)
    assert busy.is_open


@pytest.mark.parametrize("seconds", [0.0005, 0.03])
def test_the_gate_shuts_when_reads_become_slow(seconds):
    """A mount that becomes slow shuts it soon; when it is fast again that takes twice as many reads as before."""
    gate = Gate()
    reads(gate, 30e-6, 128)
    reads(gate, seconds, 128)
    assert not gate.is_open
    reads(gate, 30e-6, 96)
    assert not gate.is_open
    reads(gate, 30e-6, 64)
    assert gate.is_open


def test_the_gate_shuts_where_only_some_files_are_cached():
    """One in five over the network is enough."""
    gate = Gate()
    reads(gate, 30e-6, 128)
    for _ in range(32):
        if gate.is_open:
            gate.landed([30e-6] * 4 + [0.03], directly=True)
    assert not gate.is_open
    reads(gate, 30e-6, 10 * _gate._MOST)
    assert gate.is_open


def test_the_gate_shuts_soon_where_runs_break_off():
    """After four of them, short as they are and though others are read ahead; one now and then is chance."""
    gate = Gate()
    reads(gate, 30e-6, 64)
    for _ in range(3):
        gate.landed([30e-6, 0.03], directly=True, alone=False, broken_off=True)
        assert gate.is_open
    gate.landed([30e-6, 0.03], directly=True, alone=False, broken_off=True)
    assert not gate.is_open
    gate = Gate()
    reads(gate, 30e-6, 64)
    for run in range(100):
        gate.landed([30e-6] * 16, directly=True, broken_off=run % 3 == 0)
    assert gate.is_open


def test_an_open_gate_ignores_what_was_read_ahead():
    """Those reads had begun before it opened, sixteen at once, and took so long for that alone."""
    gate = Gate()
    reads(gate, 30e-6, 128)
    for _ in range(16):
        gate.landed([0.03] * 32, directly=False)
    assert gate.is_open
    gate.landed([0.03] * 128, directly=True)
    assert not gate.is_open


def test_an_open_gate_does_not_judge_reads_that_waited_for_those_read_ahead():
    """Not for long: a storage may become slow just then."""
    gate = Gate()
    reads(gate, 30e-6, 64)
    gate.landed([5e-3] * 224, directly=True, alone=False)
    assert gate.is_open
    gate.landed([5e-3] * 32, directly=True, alone=False)
    gate.landed([5e-3] * 32, directly=True, alone=False)
    assert not gate.is_open


def test_a_few_slow_reads_of_few_are_chance():
    """A neighbour took the cores for a moment; if a tenth of many are slow, it is the storage."""
    gate = Gate()
    reads(gate, 30e-6, 64)
    gate.landed([30e-6] * 27 + [5e-3] * 5, directly=True)
    assert gate.is_open
    for _ in range(3):
        gate.landed([30e-6] * 27 + [5e-3] * 5, directly=True)
    assert not gate.is_open


@pytest.mark.parametrize("wait", [1e-3, 1.5e-3])
def test_an_open_gate_bears_waits_for_the_interpreter(wait):
    """Most reads of busy threads wait for it; where the fastest tenth are fast, that is not the storage's doing."""
    gate = Gate()
    reads(gate, 30e-6, 128)
    for _ in range(64):
        gate.landed([30e-6, *[wait] * 7], directly=True)
    assert gate.is_open


# -- how many threads --------------------------------------------------------------------------------------------------


def run_for(threads, samples, seconds_of, computing=100e-6):
    """Report runs of 16 samples that take what `seconds_of(threads)` says all of them together need for one."""
    counts = []
    for _ in range(samples // 16):
        count = threads.count
        threads.ran(16, 16 * computing, 16 * count * seconds_of(count), count)
        counts.append(count)
    return counts


def test_photographs_get_every_thread_at_once():
    """Nothing is tried out on them: a trial of half the threads would cost half the speed meanwhile."""
    assert set(run_for(UsefulThreads(8), 50_000, lambda count: 2e-3 / count, computing=2e-3)) == {8}


@pytest.mark.parametrize("most", [2, 3, 8])
def test_nothing_is_tried_at_once_where_there_is_enough_for_twice_the_threads(most):
    """On two cores that is a sixth of a millisecond of computing, which most pictures take."""
    threads, computing = UsefulThreads(most), most * 85e-6
    counts = run_for(threads, 400_000, lambda count: computing / count, computing=computing)
    assert set(counts[: 4096 // 16]) == {most}
    assert 0 < sum(count < most for count in counts) < 0.02 * len(counts)
    assert counts[-1] == most


def test_a_decoder_that_holds_the_interpreter_gets_one_thread():
    """However much it computes, up to a millisecond; it is found within some ten thousand samples."""
    threads = UsefulThreads(2)
    run_for(threads, 16_000, lambda count: 500e-6 * (1 + count / 4), computing=500e-6)
    assert threads.count == 1


def test_the_interpreter_bounds_the_threads():
    """A millisecond of computing a sample feeds 25 threads; the 26th would only wait for the interpreter."""
    threads = UsefulThreads(64)
    run_for(threads, 64, lambda count: 1e-3 / count, computing=1e-3)
    assert threads.count == 25


@pytest.mark.parametrize("most", [2, 3, 8, 16])
def test_tiny_pictures_get_one_thread_where_more_are_slower(most):
    """It is found within some ten thousand samples, and further trials become rare."""
    threads = UsefulThreads(most)
    run_for(threads, 16_000, lambda count: 60e-6 * (1 + count / 4))
    assert threads.count == 1
    later = run_for(threads, 400_000, lambda count: 60e-6 * (1 + count / 4))
    assert 0 < sum(count > 1 for count in later) < 0.05 * len(later)  # it goes on looking


@pytest.mark.parametrize("most", [2, 3, 8, 16])
def test_small_pictures_keep_all_threads_where_they_are_faster(most):
    """Fewer are tried, and given up."""
    threads = UsefulThreads(most)
    computing = most * 60e-6
    counts = run_for(threads, 400_000, lambda count: computing / count, computing=computing)
    assert counts[-1] == most
    assert 0 < sum(count < most for count in counts) < 0.05 * len(counts)


def test_other_data_changes_its_mind():
    """Tiny pictures, then photographs, then tiny pictures again, all in one epoch."""
    threads = UsefulThreads(8)
    run_for(threads, 30_000, lambda count: 60e-6 * (1 + count / 4))
    assert threads.count == 1
    run_for(threads, 160, lambda count: 2e-3 / count, computing=2e-3)
    assert threads.count == 8
    run_for(threads, 30_000, lambda count: 60e-6 * (1 + count / 4))
    assert threads.count == 1
    # Somewhat larger ones, still too small for every thread to be worth while without a trial.
    run_for(threads, 8_000, lambda count: 500e-6 / count, computing=500e-6)
    assert threads.count == 8


def test_what_began_before_a_change_is_not_measured():
    """Runs of the number of threads before would make the trial look like it."""
    threads = UsefulThreads(2)
    while threads.count == 2:
        threads.ran(16, 16 * 100e-6, 16 * 2 * 100e-6, 2)
    for _ in range(1000):
        threads.ran(16, 16 * 100e-6, 16 * 1e-3, 2)
    assert threads.count == 1


@pytest.mark.parametrize("in_runs", [True, False])
def test_time_of_reading_is_that_of_the_threads(files, monkeypatch, in_runs):
    """It is what they spent in reading: waiting for a turn is none, and two threads cannot read for twice the time."""
    monkeypatch.setattr(Gate, "is_open", property(lambda gate: in_runs, lambda gate, is_open: None), raising=False)
    whole_read, spent, spans = _whole.read_file, [], []

    def timed(*arguments):
        start = time.perf_counter()
        try:
            return whole_read(*arguments)
        finally:
            spent.append(time.perf_counter() - start)

    class Hook:
        record = spans.append

    monkeypatch.setattr(_whole, "read_file", timed)
    start = time.perf_counter()
    with loader(files, reader={"concurrency": 2}, hooks=[Hook()], decode_threads=2) as batches:
        take_all(batches)
        seconds = batches.stats().read_seconds
    passed = time.perf_counter() - start
    assert len(spent) == COUNT
    assert sum(spent) <= seconds <= 2 * passed
    reads = [span for span in spans if span.stage == "read"]
    assert sum(span.stop - span.start for span in reads) == pytest.approx(seconds)
