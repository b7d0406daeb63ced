"""`cache=Cache(…, what="decoded")`: what was decoded once need not be decoded again."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from caches import Counted, assert_same, make_loader, small_disk, start_filling
from coloured import write_coloured

import asyncbatch as ab
from asyncbatch.cli import main

COUNT = 40
ROW = 24 * 24 * 3

DECODERS = {
    "plain": ab.ImageDecoder(24),
    "smaller": ab.ImageDecoder((20, 16), interpolation="area", channels="bgr"),
    "gray": ab.ImageDecoder(24, channels="gray"),
    "float": ab.ImageDecoder(24, dtype="float32", scale=1 / 255, mean=0.4, std=(0.2, 0.3, 0.4), layout="nchw"),
    "augmented": ab.ImageDecoder(
        16, transform=[ab.Resize((24, 28), "cubic"), ab.RandomResizedCrop(16), ab.RandomHorizontalFlip()]
    ),
    "of no size of its own": ab.ImageDecoder(transform=[ab.Resize((24, 28)), ab.RandomHorizontalFlip()]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """PNGs, and among them JPEGs: some that are drafted, and one that is turned."""
    root = write_coloured(tmp_path_factory.mktemp("coloured"), COUNT - 4)
    rng = np.random.default_rng(0)
    for number in range(4):
        small = rng.integers(0, 255, (8, 6, 3), np.uint8)
        image = cv2.resize(small, (60 + 90 * number, 80 + 50 * number), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "class_1" / f"photo{number}.jpg"), image)
    return root


def cache_of(tmp_path, where="folder", **settings):
    return ab.Cache("memory" if where == "memory" else tmp_path / "cache", what="decoded", **settings)


# -- what comes of it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["folder", "memory"])
@pytest.mark.parametrize("name", DECODERS)
def test_batches_are_those_without_a_cache(folder, tmp_path, where, name):
    """To the bit, augmentation included, in this run and the next; nothing is read after the first epoch."""
    settings = {"decoder": DECODERS[name], "image_size": None}
    cache, reader = cache_of(tmp_path, where), Counted()
    with make_loader(folder, None, **settings) as plain:
        expected = [list(plain) for _ in range(4)]
    with make_loader(folder, cache, reader=reader, **settings) as loader:
        for epoch in expected[:3]:
            assert_same(list(loader), epoch)
        stats = loader.stats()
    assert len(reader.keys) == COUNT
    assert (stats.cache_misses, stats.cache_hits, stats.cache_corrupt) == (COUNT, 2 * COUNT, 0)
    size = cache.held().size
    assert (stats.bytes_read, stats.cache_bytes) == (reader.size, 2 * size)
    assert "80 samples came from the cache" in str(stats)
    with make_loader(folder, cache, reader=reader, **settings) as loader:
        loader.set_epoch(3)
        assert_same(list(loader), expected[3])
    assert len(reader.keys) == COUNT


def test_with_the_reader_that_files_have(folder, tmp_path):
    """Where a thread reads and decodes in one go, and where files are read ahead."""
    with make_loader(folder, None) as plain:
        expected = list(plain.epochs(2))
    for reader in (None, ab.FileReader(concurrency=4, roots=[folder])):
        cache = ab.Cache("memory", what="decoded")
        with make_loader(folder, cache, reader=reader) as loader:
            batches = [*loader, *loader]
            assert (loader.stats().cache_misses, loader.stats().cache_hits) == (COUNT, COUNT)
        assert_same(batches, expected)


def test_reading_ahead_into_the_next_epoch_reads_nothing_twice(folder, tmp_path):
    """What is on its way already will be kept by the time that it is needed again."""
    reader = Counted()
    with (
        make_loader(folder, cache_of(tmp_path), reader=reader, prefetch=1) as loader,
        make_loader(folder, None) as plain,
    ):
        assert_same(list(loader.epochs(3)), list(plain.epochs(3)))
        stats = loader.stats()
    assert len(reader.keys) == COUNT
    assert (stats.cache_misses, stats.cache_hits) == (COUNT, 2 * COUNT)


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_full_cache_keeps_what_came_first(folder, tmp_path, where, caplog):
    """Half the set held: half as many samples read from the second epoch on."""
    reader = Counted()
    with (
        caplog.at_level(logging.INFO, "asyncbatch"),
        make_loader(folder, cache_of(tmp_path, where, limit=COUNT // 2 * ROW + 99), reader=reader) as loader,
        make_loader(folder, None) as plain,
    ):
        read = []
        for _ in range(3):
            assert_same(list(loader), list(plain))
            read.append(len(reader.keys) - sum(read))
    assert read == [COUNT, COUNT // 2, COUNT // 2]
    assert where == "memory" or "is full: it keeps the" in caplog.text


def test_another_size_is_another_cache(folder, tmp_path):
    """Settings that change the pixels that are kept; those of what comes after them share what is kept."""
    others = [
        {"image_size": 16},
        {"image_size": None, "decoder": ab.ImageDecoder(24, channels="bgr")},
        {"image_size": None, "decoder": ab.ImageDecoder(24, interpolation="area")},
        {"image_size": None, "decoder": ab.ImageDecoder(24, draft=False)},
    ]
    same = [{"image_size": None, "decoder": DECODERS["float"]}]
    with make_loader(folder, cache_of(tmp_path)) as loader:
        list(loader)
    for settings in (*others, *same):
        with (
            make_loader(folder, cache_of(tmp_path), **settings) as loader,
            make_loader(folder, None, **settings) as plain,
        ):
            assert_same(list(loader), list(plain))
            assert loader.stats().cache_hits == (COUNT if settings in same else 0)
    assert cache_of(tmp_path).held().entries == COUNT * (1 + len(others))


def test_another_source_is_another_cache(folder, tmp_path):
    """A row is known by its place in a source of these very samples."""
    files = sorted(folder.rglob("*.png"))
    for order in (files, files[::-1]):
        (tmp_path / "list.txt").write_text("".join(f"{path} 0\n" for path in order))
        with make_loader(tmp_path / "list.txt", cache_of(tmp_path)) as loader:
            batches = list(loader)
            assert loader.stats().cache_hits == 0
        with make_loader(tmp_path / "list.txt", None) as plain:
            assert_same(batches, list(plain))


def test_another_folder_of_the_same_names_is_another_cache(tmp_path):
    """As train/ and val/ may be."""
    for name, level in (("train", 10), ("val", 240)):
        (tmp_path / name / "a").mkdir(parents=True)
        for number in range(4):
            cv2.imwrite(str(tmp_path / name / "a" / f"{number}.png"), np.full((24, 24, 3), level, np.uint8))
    for name, level in (("train", 10), ("val", 240)):
        with make_loader(tmp_path / name, cache_of(tmp_path)) as loader:
            assert {int(batch.images.max()) for batch in loader} == {level}


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_what_is_cleared_under_a_loader_is_gone(folder, tmp_path, where):
    """It reads again, and counts nothing that nobody could find."""
    cache, reader = cache_of(tmp_path, where), Counted()
    with make_loader(folder, cache, reader=reader) as loader:
        list(loader)
        assert cache.clear().entries == COUNT
        assert len(list(loader)) == len(loader)
        assert len(reader.keys) == 2 * COUNT
    if where == "folder":
        assert int.from_bytes((tmp_path / "cache" / "total").read_bytes(), "little") == cache.held().size == 0


def test_a_memory_cache_is_freed(folder, tmp_path):
    """With the last reference to it and to its loaders."""
    cache = cache_of(tmp_path, "memory")
    with make_loader(folder, cache) as loader:
        list(loader)
    store = weakref.ref(cache._memory)
    del cache, loader
    gc.collect()
    assert store() is None


def test_a_fork_does_not_wait_for_threads_that_it_has_not(folder, tmp_path):
    """Whatever was held when it came: it opens the rows by itself, and counts under a lock of its own."""
    script = f"""
import os, sys
import asyncbatch as ab
cache = ab.Cache("memory", what="decoded")
loader = ab.Loader({str(folder)!r}, batch_size=8, image_size=24, cache=cache)
cache._memory._guard.acquire()  # as a decode thread has it
child = os.fork()
if child == 0:
    print(sum(len(images) for _ in range(2) for images, labels in loader), loader.stats().cache_hits, flush=True)
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{2 * COUNT} {COUNT}\n"


def test_odd_pictures_are_counted(tmp_path):
    """By the decoder that the user has."""
    jpeg = cv2.imencode(".jpg", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "odd.jpg").write_bytes(jpeg.replace(b"JFIF\0\1\1", b"JFIF\0\3\1"))
    with make_loader(tmp_path, None) as plain, make_loader(tmp_path, cache_of(tmp_path.parent / "odd")) as loader:
        list(plain)
        list(loader)
    assert loader.decoder.oddities == plain.decoder.oddities == 1


def test_rows_that_vanished_are_made_again(folder, tmp_path):
    """Also where nothing is verified: what is not there is not black."""
    with make_loader(folder, cache_of(tmp_path)) as loader:
        expected = list(loader)
    rows_file(tmp_path / "cache").unlink()
    (tmp_path / "cache" / "decoded" / "stray").write_text("")
    with make_loader(folder, cache_of(tmp_path, verify=False)) as loader:
        assert_same(list(loader), expected)


def test_a_cache_that_cannot_be_opened_leaves_no_thread(folder, tmp_path):
    """However often it is tried."""
    (tmp_path / "cache").write_text("")
    for _ in range(3):
        with make_loader(folder, cache_of(tmp_path)) as loader, pytest.raises(ab.ConfigError, match="cannot be used"):
            list(loader)


def test_a_sample_that_fails_is_not_kept(folder, tmp_path):
    """And its stand-in is, as itself."""
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    files = [*sorted(folder.rglob("*.png"))[:7], tmp_path / "broken.png"]
    (tmp_path / "list.txt").write_text("".join(f"{path} 0\n" for path in files))
    settings = {"on_error": ab.Replace(9), "batch_size": 4}
    with (
        make_loader(tmp_path / "list.txt", cache_of(tmp_path), **settings) as loader,
        make_loader(tmp_path / "list.txt", None, **settings) as plain,
    ):
        for _ in range(3):
            assert_same(list(loader), list(plain))
        assert loader.stats().skipped + loader.stats().replaced == 3
    assert cache_of(tmp_path).held().entries == 7


def test_going_on_in_mid_epoch(folder, tmp_path):
    """From a state, with a cache that was filled half way."""
    with make_loader(folder, None) as plain:
        expected = list(plain.epochs(2))
    with make_loader(folder, cache_of(tmp_path)) as loader:
        batches = iter(loader)
        begun = [next(batches), next(batches)]
        state = loader.state_dict()
    with make_loader(folder, cache_of(tmp_path)) as loader:
        loader.load_state_dict(state)
        assert_same([*begun, *loader, *loader], expected)
        assert loader.stats().cache_hits >= 16


# -- what may happen to it ---------------------------------------------------------------------------------------------


def rows_file(cache):
    (path,) = Path(cache).glob("decoded/*/rows")
    return path


def turn_a_bit(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("name", ["plain", "float"])
def test_a_damaged_row_is_made_again(folder, tmp_path, name):
    """Noticed, counted, and mended; unless that is not asked for."""
    settings = {"decoder": DECODERS[name], "image_size": None}
    with make_loader(folder, cache_of(tmp_path), **settings) as loader:
        list(loader)
    turn_a_bit(rows_file(tmp_path / "cache"), 7 * ROW + 100)
    with make_loader(folder, None, **settings) as plain:
        expected = list(plain)
    with make_loader(folder, cache_of(tmp_path, verify=False), **settings) as loader:
        differ = [not np.array_equal(one.images, other.images) for one, other in zip(loader, expected, strict=True)]
    assert sum(differ) == 1
    reader = Counted()
    with make_loader(folder, cache_of(tmp_path), reader=reader, **settings) as loader:
        assert_same(list(loader), expected)
        stats = loader.stats()
    assert (len(reader.keys), stats.cache_corrupt, stats.cache_hits, stats.cache_misses) == (1, 1, COUNT - 1, 1)
    assert cache_of(tmp_path).held(verify=True) == (COUNT, COUNT * ROW, ())


def test_a_full_disk(folder, tmp_path, caplog):
    """One warning, and training goes on."""
    with (
        small_disk(tmp_path / "disk", "64k") as mount,
        make_loader(folder, ab.Cache(mount / "cache", what="decoded")) as loader,
        make_loader(folder, None) as plain,
    ):
        assert_same(list(loader), list(plain))
        assert_same(list(loader), list(plain))
        assert 0 < loader.stats().cache_hits < COUNT
        loader.close()
    assert caplog.text.count("has no disk left: it keeps the") == 1


@pytest.fixture
def manifest(folder, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{file}\n" for file in sorted(folder.rglob("*.png"))))
    return path


def test_processes_that_are_killed(manifest, tmp_path):
    """At whatever moment, one beside another: no wrong pixel is served, and what they leave stops no later run."""
    rng = np.random.default_rng(5)
    count = len(manifest.read_text().splitlines())
    for _ in range(10):
        running = [start_filling(manifest, tmp_path / "cache", tmp_path / "log", what="decoded") for _ in range(2)]
        first = running[0].stdout.readline()
        assert first == "batch 0\n"
        time.sleep(rng.uniform(0, 0.02))
        running[0].send_signal(signal.SIGKILL)
        for process in running:
            lines = process.communicate(timeout=60)[0].splitlines()
            assert all(line.split()[1] == "0" for line in lines if len(line.split()) > 1)
        assert running[1].returncode == 0  # the other one went on, without what the first was writing just then
        last = start_filling(manifest, tmp_path / "cache", tmp_path / "log", what="decoded")
        assert last.communicate(timeout=60)[0].splitlines()[-1].startswith("done 0 ")
        held = cache_of(tmp_path).held(verify=True)
        assert held == (count, count * ROW, ())
        cache_of(tmp_path).clear()
    assert int.from_bytes((tmp_path / "cache" / "total").read_bytes(), "little") == 0


def test_rows_that_were_begun_when_their_writer_was_killed(folder, tmp_path):
    """They are taken for absent, counted no longer once nobody is there, and written by the next run."""
    with make_loader(folder, cache_of(tmp_path)) as loader:
        list(loader)
    table = rows_file(tmp_path / "cache").with_name("table")
    words = np.fromfile(table, np.uint64)
    words[3] = 1 << 32
    words.tofile(table)
    with make_loader(folder, cache_of(tmp_path)) as loader:
        list(loader)
        assert (loader.stats().cache_misses, loader.stats().cache_corrupt) == (1, 0)
    assert cache_of(tmp_path).held(verify=True) == (COUNT, COUNT * ROW, ())
    assert int.from_bytes((tmp_path / "cache" / "total").read_bytes(), "little") == COUNT * ROW


# -- arguments, and the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decoder", "said"),
    [
        (lambda data: np.zeros(3, np.uint8), r"for an ImageDecoder.*write decoder=ImageDecoder\(224\)"),
        (ab.ImageDecoder(), r"write ImageDecoder\(image_size=224\)"),
        (ab.ImageDecoder(24, transform=ab.RandomResizedCrop(24)), r"write ImageDecoder\(transform=\[Resize\(\(256"),
        (ab.ImageDecoder(24, transform=[ab.Resize(24), ab.RandomHorizontalFlip()]), r"transform=\[Resize\(\(256"),
    ],
)
def test_what_cannot_be_kept(folder, tmp_path, decoder, said):
    """Before anything is read, with the line to write."""
    with pytest.raises(ab.ConfigError, match=said):
        make_loader(folder, cache_of(tmp_path), image_size=None, decoder=decoder)
    with pytest.raises(ab.ConfigError, match="write what='decoded'"):
        ab.Cache(tmp_path, what="decode")


def test_the_command(folder, tmp_path, capsys):
    """Rows count as samples do, are looked at, and go with the rest."""
    path = tmp_path / "cache"
    for cache in (path, cache_of(tmp_path)):
        with make_loader(folder, cache) as loader:
            list(loader)
    assert main(["cache", "stats", str(path)]) == 0
    assert f"{path}: {2 * COUNT} samples" in capsys.readouterr().out
    assert main(["cache", "verify", str(path)]) == 0
    rows = rows_file(path)
    turn_a_bit(rows, 5 * ROW)
    capsys.readouterr()
    assert main(["cache", "verify", str(path)]) == 1
    assert f"the row of sample 5 in {rows} is damaged" in capsys.readouterr().out
    assert main(["cache", "clear", str(path)]) == 0
    assert not rows.exists()
    assert int.from_bytes((path / "total").read_bytes(), "little") == 0
