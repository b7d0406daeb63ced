"""`cache=`: what was read once need not be read again."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from caches import Counted, assert_same, make_loader, small_disk, start_filling
from coloured import write_coloured
from tars import write_tars

import asyncbatch as ab
from asyncbatch.cli import main
from asyncbatch.readers._store import Store

COUNT = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), COUNT)


# -- what comes of it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_each_sample_is_fetched_once(folder, tmp_path, where):
    """Batches are those without a cache; from the second epoch on the storage is not asked any more."""
    reader = Counted()
    cache = ab.Cache("memory" if where == "memory" else tmp_path / "cache")
    with make_loader(folder, cache, reader=reader) as loader:
        batches = list(loader.epochs(3))
        stats = loader.stats()
    with make_loader(folder, None) as plain:
        assert_same(batches, list(plain.epochs(3)))
    assert len(reader.keys) == len(set(reader.keys)) == COUNT
    assert (stats.cache_misses, stats.cache_hits, stats.cache_corrupt) == (COUNT, 2 * COUNT, 0)
    assert (stats.bytes_read, stats.cache_bytes) == (reader.size, 2 * reader.size)
    assert stats.read_latency.count == COUNT  # what the cache had was not read
    assert "80 samples came from the cache" in str(stats)
    with make_loader(folder, cache, reader=reader) as loader:  # and in the next run
        list(loader)
    assert len(reader.keys) == COUNT


@pytest.mark.parametrize("what", ["folder", "tar"])
def test_with_the_reader_that_files_have(folder, tmp_path, what):
    """A path is a cache; members of archives are known by where they begin."""
    source = folder if what == "folder" else ab.sources.tar(write_tars(folder, tmp_path))
    with (
        make_loader(source, tmp_path / "cache", shuffle=False) as loader,
        make_loader(folder, None, shuffle=False) as plain,
    ):
        assert_same(list(loader.epochs(2)), list(plain.epochs(2)))
        assert loader.stats().cache_hits == COUNT


def test_a_sample_that_is_drawn_twice_is_fetched_once(folder, tmp_path):
    """While it is under way."""
    reader = Counted()
    sampler = np.zeros(64, np.int64)
    with make_loader(folder, tmp_path / "cache", reader=reader, shuffle=False, sampler=sampler) as loader:
        list(loader)
    assert len(reader.keys) == 1


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_full_cache_keeps_what_came_first(folder, tmp_path, where, caplog):
    """Half the set held: half as many bytes from the second epoch on, whatever the order."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*.png")}
    overhead = 0 if where == "memory" else 16
    limit = sum(size + overhead for size in sizes.values()) // 2
    reader = Counted()
    with (
        caplog.at_level(logging.INFO, "asyncbatch"),
        make_loader(
            folder, ab.Cache("memory" if where == "memory" else tmp_path / "cache", limit=limit), reader=reader
        ) as loader,
    ):
        list(loader)
        first = reader.size
        list(loader)
        second = reader.size - first
        list(loader)
        third = reader.size - first - second
    assert first == sum(sizes.values())
    assert second == third
    assert second == pytest.approx(first / 2, rel=0.06)  # a sample of forty does not fit in the middle
    if where == "folder":
        assert "is full: it keeps the" in caplog.text


def test_failures_are_not_kept(folder, tmp_path):
    """What cannot be read is its sample's error, and is asked for again."""
    reader = Counted()
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"{path} 0\n" for path in [*sorted(folder.rglob("*.png"))[:3], tmp_path / "late.png"]))
    with make_loader(manifest, tmp_path / "cache", reader=reader, on_error=ab.Skip(1), batch_size=4) as loader:
        assert [len(batch.images) for batch in loader] == [3]
        assert "No such file" in str(loader.stats().errors[0])
        (tmp_path / "late.png").write_bytes(next(folder.rglob("*.png")).read_bytes())
        assert [len(batch.images) for batch in loader] == [4]
    assert len(reader.keys) == 5


def test_breaking_off(folder, tmp_path):
    """While samples are fetched: nothing is left behind, and nothing is half there."""
    for _ in range(5):
        with make_loader(folder, tmp_path / "cache") as loader:
            next(iter(loader))
    with make_loader(folder, tmp_path / "cache") as loader, make_loader(folder, None) as plain:
        assert_same(list(loader), list(plain))
        assert loader.stats().cache_hits >= 8
    assert not list((tmp_path / "cache" / "partial").iterdir())


# -- what may happen to it ---------------------------------------------------------------------------------------------


def entries(cache):
    return sorted(path for path in Path(cache).glob("??/*") if path.is_file())


@pytest.mark.parametrize("damage", [b"", b"abc1", b"x" * 2000, None])
def test_a_damaged_entry_is_fetched_again(folder, tmp_path, damage, caplog):
    """Cut, overwritten, or with one bit turned: noticed, counted, and mended."""
    with make_loader(folder, tmp_path / "cache") as loader:
        expected = list(loader)
    victim = entries(tmp_path / "cache")[7]
    whole = victim.read_bytes()
    victim.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]) if damage is None else damage)
    reader = Counted()
    with make_loader(folder, tmp_path / "cache", reader=reader) as loader:
        assert_same(list(loader), expected)
        assert loader.stats().cache_corrupt == 1
    assert len(reader.keys) == 1
    assert f"{victim} is damaged, and is fetched again" in caplog.text
    assert victim.read_bytes() == whole


def test_a_full_disk(folder, tmp_path, caplog):
    """One warning, and training goes on; nothing half written is left."""
    with small_disk(tmp_path / "disk", "64k") as mount:
        rng = np.random.default_rng(0)
        big = tmp_path / "big"
        big.mkdir()
        for place in range(30):
            (big / f"{place:02}.bin").write_bytes(rng.bytes(5000))
        manifest = tmp_path / "list.txt"
        manifest.write_text("".join(f"{path}\n" for path in sorted(big.iterdir())))
        with ab.Loader(
            manifest, batch_size=4, decoder=lambda data: np.frombuffer(data, np.uint8), cache=mount / "cache"
        ) as loader:
            first, second = list(loader), list(loader)
            hits = loader.stats().cache_hits
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.images, other.images)
        assert 0 < hits < 30
        assert caplog.text.count("has no disk left: it keeps the") == 2  # one an iteration
        assert not list((mount / "cache" / "partial").iterdir())


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "files").mkdir()
    for place in range(200):
        (tmp_path / "files" / f"{place:03}.bin").write_bytes(rng.bytes(3000))
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{file}\n" for file in sorted((tmp_path / "files").iterdir())))
    return path


def test_half_the_set_held_is_half_as_many_bytes_fetched(manifest, tmp_path):
    """Within two in a hundred, from the second epoch on."""
    reader, fetched = Counted(), []
    cache = ab.Cache(tmp_path / "cache", limit=100 * (3000 + 16) + 99)
    with make_loader(manifest, cache, reader=reader, image_size=None, decoder=first_bytes) as loader:
        for _ in range(3):
            list(loader)
            fetched.append(reader.size - sum(fetched))
    assert fetched[0] == 200 * 3000
    assert fetched[1] == pytest.approx(fetched[0] / 2, rel=0.02)
    assert fetched[2] == fetched[1]


def first_bytes(data):
    return np.frombuffer(data[:16], np.uint8)


def test_two_processes_fetch_every_sample_once(manifest, tmp_path):
    """In orders of their own, at the same time, on one folder."""
    running = [start_filling(manifest, tmp_path / "cache", tmp_path / "log") for _ in range(2)]
    answers = [process.communicate(timeout=100)[0].splitlines()[-1].split() for process in running]
    fetched = (tmp_path / "log").read_text().split()
    assert len(fetched) == len(set(fetched)) == 200
    for done, wrong, hits, misses, corrupt in answers:
        assert (done, wrong, corrupt) == ("done", "0", "0")
        assert int(hits) + int(misses) == 400
    assert sum(int(answer[3]) for answer in answers) == 200


def test_processes_that_are_killed(manifest, tmp_path):
    """At whatever moment: no wrong byte is served, and what they leave stops no later run, nor one beside them."""
    rng = np.random.default_rng(5)
    killed = 0
    for _ in range(50):
        process = start_filling(manifest, tmp_path / "cache", tmp_path / "log", "400kB")
        assert process.stdout is not None
        first = process.stdout.readline()
        if first.startswith("batch"):
            time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=60)[0]
        assert all(line.split()[1] == "0" for line in [first, *rest.splitlines()] if line.endswith("\n"))
        killed += process.returncode == -signal.SIGKILL
        if len(entries(tmp_path / "cache")) > 100:  # it fills up: begin anew, so that each is killed while it fills
            store = Store(str(tmp_path / "cache"), 10**9)
            store.clear()
            store.close()
    assert killed > 40
    process = start_filling(manifest, tmp_path / "cache", tmp_path / "log")
    done, wrong, *_, corrupt = process.communicate(timeout=100)[0].splitlines()[-1].split()
    assert (done, wrong, corrupt) == ("done", "0", "0")
    store = Store(str(tmp_path / "cache"), 10**9)
    held = store.held(verify=True)
    assert (held.entries, held.corrupt) == (200, ())
    assert store.size == pytest.approx(held.size, abs=2 * 3016)  # one that was counted and not begun when it was killed
    assert not list((tmp_path / "cache" / "partial").iterdir())
    store.close()


# -- arguments, and the command ----------------------------------------------------------------------------------------


def test_what_is_no_cache(folder, tmp_path):
    """By its name, with the line to write."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ab.ConfigError, match=r"write cache='/tmp/cache'"):
        make_loader(folder, 3)
    with pytest.raises(ab.ConfigError, match="nothing is read; leave out cache="):
        ab.Loader(ab.sources.arrays(np.zeros((4, 2))), batch_size=2, cache=tmp_path / "cache")
    with pytest.raises(ab.ConfigError, match=r"cannot be used.*name a folder on a local disk"):
        next(iter(make_loader(folder, tmp_path / "file")))
    with pytest.raises(ab.ConfigError, match="limit"):
        ab.Cache(tmp_path / "cache", limit="many")
    assert repr(ab.Cache("memory", limit="1GB")) == "Cache('memory', limit=1000000000)"


def test_the_command(folder, tmp_path, capsys):
    """What there is, whether it is whole, and none of it any more."""
    cache = tmp_path / "cache"
    with make_loader(folder, cache) as loader:
        list(loader)
    assert main(["cache", "stats", str(cache)]) == 0
    assert f"{cache}: 40 samples" in capsys.readouterr().out
    assert main(["cache", "verify", str(cache)]) == 0
    assert "all 40 samples are whole" in capsys.readouterr().out
    victim = entries(cache)[3]
    victim.write_bytes(b"damaged")
    assert main(["cache", "verify", str(cache)]) == 1
    assert f"{victim} is damaged" in capsys.readouterr().out
    assert main(["cache", "clear", str(cache)]) == 0
    assert "40 samples thrown away" in capsys.readouterr().out
    assert not entries(cache)
    assert main(["cache", "stats", str(folder)]) == 1
    assert "is no cache of asyncbatch" in capsys.readouterr().err
    assert sorted(folder.rglob("*.png"))  # which is no folder to clear
