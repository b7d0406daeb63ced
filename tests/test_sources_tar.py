"""`sources.tar`: the members of archives, read in place; neighbours by one read."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tarfile
import tempfile

import numpy as np
import pytest
from coloured import write_coloured
from hypothesis import given
from hypothesis import strategies as st
from tars import add, write_tars

import asyncbatch as ab
from asyncbatch.readers import _together, _waiting
from asyncbatch.readers._flight import Ask, Flight
from asyncbatch.readers._together import neighbours
from asyncbatch.readers._waiting import WaitingReads
from asyncbatch.readers._whole import Content, Part
from asyncbatch.sampling import BlockShuffle

COUNT = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), COUNT)


@pytest.fixture
def shards(folder, tmp_path):
    return write_tars(folder, tmp_path)


def load(source, **options):
    with ab.Loader(source, **{"batch_size": 8, "image_size": 24, **options}) as loader:
        return list(loader)


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for one, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.indices, other.indices)


# -- what is listed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["cls", "txt"])
def test_the_same_batches_as_of_the_folder(folder, tmp_path, label):
    """In order and shuffled, with labels as numbers or as words."""
    write_tars(folder, tmp_path, label=label)
    source = ab.sources.tar(tmp_path / "train-{000..002}.tar")
    assert len(source) == COUNT
    assert source.class_names == (() if label == "cls" else ab.sources.folder(folder).class_names)
    assert_same(load(source), load(folder))
    shuffled = {"sampler": BlockShuffle(4, window=3), "seed": 5}
    assert_same(load(source, **shuffled), load(folder, **shuffled))


@pytest.mark.parametrize("reader", [ab.FileReader(concurrency=3), ab.FileReader()], ids=["queue", "directly"])
def test_however_it_is_read(folder, shards, reader):
    assert_same(load(ab.sources.tar(shards), reader=reader), load(folder))


def test_patterns_and_paths(shards, tmp_path, monkeypatch):
    """A path, a list, ranges and globs; a loader takes them by their ending."""
    monkeypatch.chdir(tmp_path)
    for given_shards in ("train-{000..002}.tar", "train-*.tar", [str(shards[0]), shards[1], "train-002.tar"]):
        assert len(ab.sources.tar(given_shards)) == COUNT
    assert len(ab.sources.tar("train-00{1..2}.tar").shards) == 2
    with ab.Loader("train-{000..002}.tar", batch_size=8, image_size=24) as loader:
        assert len(loader) == 5
    with pytest.raises(ab.SourceError, match=r"no archive 'train-003\.tar'; the working folder is"):
        ab.sources.tar("train-{000..003}.tar")
    with pytest.raises(ab.ConfigError, match="is named twice"):
        ab.sources.tar(["train-000.tar", "train-000.tar"])
    for nothing in ([], 3, [3]):
        with pytest.raises(ab.ConfigError, match="shards must be"):
            ab.sources.tar(nothing)


def test_shuffling_keeps_neighbours_together(shards):
    """`shuffle=True` is a `BlockShuffle` whose blocks one read brings."""
    source = ab.sources.tar(shards)
    assert source.shuffle_block == 64
    with ab.Loader(source, batch_size=8, image_size=24, shuffle=True) as loader:
        assert "BlockShuffle(block=64" in repr(loader)


def test_json_labels(tmp_path, folder):
    """The file itself, its entry "label", or the one that `label_key` names."""
    picture = next(folder.rglob("*.png")).read_bytes()
    for document, key in ((3, None), ({"label": 3}, None), ({"age": 3, "label": 4}, "age")):
        with tarfile.open(tmp_path / "j.tar", "w") as archive:
            add(archive, "a/1.PNG", picture)
            add(archive, "a/1.json", json.dumps(document).encode())
        source = ab.sources.tar(tmp_path / "j.tar", label_key=key)
        assert (source[0].label, source[0].key) == (3, f"{tmp_path}/j.tar/a/1.png")
    with pytest.raises(ab.SourceError, match=r"a/1\.json has no 'sex', only \['age', 'label'\]; write label_key="):
        ab.sources.tar(tmp_path / "j.tar", label_key="sex")


def test_samples_that_are_not_whole(tmp_path, folder):
    """No picture, several, or no label: by the sample's name, with the line to write."""
    picture = next(folder.rglob("*.png")).read_bytes()

    def write(*names):
        with tarfile.open(tmp_path / "s.tar", "w") as archive:
            for name in names:
                add(archive, name, picture if "g" in name.partition(".")[2] else b"1")
        return tmp_path / "s.tar"

    with pytest.raises(ab.SourceError, match=r"sample '2' has no picture among \.cls; say which by image='jpg'"):
        ab.sources.tar(write("1.png", "1.cls", "2.cls"))
    several = write("1.png", "1.seg.png", "1.jpg")
    with pytest.raises(ab.SourceError, match=r"has several pictures, \.png, \.seg\.png, \.jpg"):
        ab.sources.tar(several)
    assert ab.sources.tar(several, image="seg.png").names == ("1.seg.png",)
    with pytest.raises(ab.SourceError, match=r"sample '2' has no \.cls, only \.png; for no labels write labels=None"):
        ab.sources.tar(write("1.png", "1.cls", "2.png"))
    assert ab.sources.tar(tmp_path / "s.tar", labels=None).labels is None
    with pytest.raises(ab.ConfigError, match="labels must be"):
        ab.sources.tar(tmp_path / "s.tar", labels="class")


def test_resuming_and_fingerprints(shards, folder, tmp_path):
    """A state is that of these members; another archive is another source."""
    options = {"batch_size": 8, "image_size": 24, "shuffle": True, "seed": 2}
    with ab.Loader(ab.sources.tar(shards), **options) as loader:
        batches = iter(loader)
        next(batches)
        state, rest = loader.state_dict(), list(batches)
    with ab.Loader(ab.sources.tar(shards), **options) as loader:
        loader.load_state_dict(json.loads(json.dumps(state)))
        assert_same(list(loader), rest)
    with ab.Loader(ab.sources.tar(shards[:2]), **options) as loader, pytest.raises(ab.StateMismatch):
        loader.load_state_dict(state)


# -- the index ---------------------------------------------------------------------------------------------------------


def test_an_archive_is_indexed_once(shards, tmp_path, monkeypatch):
    """The second time the small file beside it is read, until the archive changes."""
    first = ab.sources.tar(shards)
    assert sorted(path.name for path in tmp_path.iterdir() if "json" in path.name) == [
        f"train-00{shard}.tar.index.json" for shard in range(3)
    ]

    def refuse(*args, **kwargs):
        raise AssertionError("the headers were read again")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", refuse)
        again = ab.sources.tar(shards)
        assert (again.fingerprint, again[7]) == (first.fingerprint, first[7])
        os.utime(shards[1], ns=(1, 1))
        with pytest.raises(AssertionError, match="again"):
            ab.sources.tar(shards)
    assert ab.sources.tar(shards).fingerprint == first.fingerprint


def test_where_the_index_is_kept(shards, tmp_path):
    """In a folder that was named, or nowhere."""
    ab.sources.tar(shards, index=False)
    assert not list(tmp_path.glob("*.json"))
    (tmp_path / "indices").mkdir()
    ab.sources.tar(shards, index=tmp_path / "indices")
    assert len(list((tmp_path / "indices").iterdir())) == 3
    assert not list(tmp_path.glob("*.json"))
    assert len(ab.sources.tar(shards, index=tmp_path / "nowhere")) == COUNT  # found anew each time
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: [], "is no index of an archive"),
        (lambda document: {**document, "samples": {"1": 3}}, "is no index of an archive"),
        (lambda document: {**document, "samples": {"1": [{"png": [-1, 5]}, {}]}}, r"member '1\.png' lies outside"),
        (lambda document: {**document, "samples": {"1": [{"png": [0, 10**12]}, {}]}}, r"member '1\.png' lies outside"),
        (lambda document: {**document, "samples": {"1": [{"png": [True, 5]}, {}]}}, r"member '1\.png' lies outside"),
        (lambda document: {**document, "samples": {"1": [{"png": [0, 5]}, {"cls": 3}]}}, "a label of '1' is no text"),
    ],
)
def test_hostile_indices(shards, change, words):
    """An index that is none, or leads out of the archive, is refused by its name."""
    ab.sources.tar(shards)
    path = shards[0].with_name("train-000.tar.index.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ab.SourceError, match=words) as caught:
        ab.sources.tar(shards)
    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)


# -- hostile archives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "attributes", "words"),
    [
        ("1.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
        ("1.png", {"type": tarfile.LNKTYPE, "linkname": "0.png"}, "is a link"),
        ("1.png", {"type": tarfile.FIFOTYPE}, "is no regular file"),
        ("1.png", {"type": tarfile.CHRTYPE}, "is no regular file"),
        ("../1.png", {}, "leads out of the archive"),
        ("a/../../1.png", {}, "leads out of the archive"),
        ("/etc/1.png", {}, "leads out of the archive"),
        ("0.png", {}, "is there twice"),
    ],
)
def test_members_that_no_sample_may_be(tmp_path, name, attributes, words):
    """Refused by name, with nothing written."""
    with tarfile.open(tmp_path / "h.tar", "w") as archive:
        add(archive, "0.png", b"12345")
        member = tarfile.TarInfo(name)
        for attribute, value in attributes.items():
            setattr(member, attribute, value)
        archive.addfile(member, io.BytesIO())
    with pytest.raises(ab.SourceError, match=words) as caught:
        ab.sources.tar(tmp_path / "h.tar")
    assert repr(name) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["h.tar"]


def test_a_size_that_lies(tmp_path):
    """A header that promises more than the archive has."""
    with tarfile.open(tmp_path / "h.tar", "w") as archive:
        add(archive, "0.png", b"12345")
        member = tarfile.TarInfo("1.png")
        member.size = 10**9
        archive.fileobj.write(member.tobuf())
        archive.offset += 512
    with pytest.raises(ab.SourceError, match=r"member '1\.png' should have 1,000,000,000 bytes, and the archive ends"):
        ab.sources.tar(tmp_path / "h.tar")


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 5000, 10240])
def test_an_archive_that_was_cut_off(tmp_path, cut):
    """Wherever: in a header, in a member, or between two."""
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        for place in range(30):
            add(archive, f"{place}.png", b"12345" * 100)
    whole = (tmp_path / "whole.tar").read_bytes()
    assert len(ab.sources.tar(tmp_path / "whole.tar", index=False)) == 30
    (tmp_path / "cut.tar").write_bytes(whole[:cut])
    with pytest.raises(ab.SourceError, match=r"cut off|damaged|is no tar archive"):
        ab.sources.tar(tmp_path / "cut.tar")


def test_an_archive_that_is_damaged_in_its_middle(tmp_path):
    """What follows is not left out in silence."""
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        for place in range(5):
            add(archive, f"{place}.png", b"12345")
    data = bytearray((tmp_path / "d.tar").read_bytes())
    data[2048:2560] = os.urandom(512)
    (tmp_path / "d.tar").write_bytes(data)
    with pytest.raises(ab.SourceError, match=r"is damaged after '1': at byte 2,048 there is no end mark"):
        ab.sources.tar(tmp_path / "d.tar")


@pytest.mark.parametrize(("mode", "kind"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_archives_are_refused(tmp_path, mode, kind):
    with tarfile.open(tmp_path / "c.tar", mode) as archive:
        add(archive, "0.png", b"12345")
    with pytest.raises(ab.SourceError, match=rf"is compressed \({kind}\), and cannot be read from the middle"):
        ab.sources.tar(tmp_path / "c.tar")


@given(st.binary(max_size=3000))
def test_whatever_is_in_a_file(data):
    """An archive is read or refused; nothing else comes of it."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(data)
        file.flush()
        with pytest.raises(ab.SourceError):
            ab.sources.tar(file.name, index=False)


def test_an_archive_that_is_replaced_by_a_shorter_one(shards, tmp_path):
    """Its samples are reported as changed, not read from what is there now."""
    source = ab.sources.tar(shards[:1])
    shards[0].write_bytes(shards[0].read_bytes()[:2000])
    with (
        ab.Loader(source, batch_size=8, image_size=24) as loader,
        pytest.raises(ab.SampleChanged, match="it was replaced or cut since its length was taken"),
    ):
        list(loader)


# -- neighbours --------------------------------------------------------------------------------------------------------


class Waiting:
    """Who asked."""

    def __init__(self, done=False):
        self.is_done = done

    def done(self):
        return self.is_done


def ask(path, offset, length):
    return Ask(Part(path, offset, length), Waiting())


def waiting_reads(asks):
    waiting = WaitingReads()
    for one in asks:
        waiting.append(one)
    return waiting


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(_together, "_GAP", 10)
    for module in (_together, _waiting):
        monkeypatch.setattr(module, "LONGEST", 100)


def test_one_read_brings_what_lies_beside(small):
    """Forwards and backwards, over small gaps, not over large ones, and no more than a few megabytes."""
    first = ask("a", 50, 10)
    others = [ask("a", 60, 10), ask("b", 70, 10), ask("a", 80, 10), ask("a", 105, 5), ask("a", 30, 15), ask("a", 5, 9)]
    waiting = waiting_reads([first, *others])
    assert [one.part.offset for one in waiting.take()] == [30, 50, 60, 80]
    assert list(waiting) == [others[1], others[3], others[5]]
    assert len(waiting) == 3
    long = waiting_reads(ask("a", start, 20) for start in range(0, 400, 20))
    assert [one.part.offset for one in long.take()] == [0, 20, 40, 60, 80]
    whole = Ask(Part("a"), Waiting())
    long.put_back([whole])
    assert long.take() == [whole]
    assert [one.part.offset for one in long.take()] == [100, 120, 140, 160, 180]


def test_what_is_no_number_is_left_to_itself():
    """A user's source may have anything for an offset, which is that sample's error alone."""
    strange = Ask(Part("a", "0", 5), Waiting())
    waiting = waiting_reads([strange, ask("a", 5, 5), ask("a", 0, 5)])
    assert waiting.take() == [strange]
    assert len(waiting.take()) == 2
    assert list(waiting) == waiting.take() == []
    assert list(neighbours([Part("a", 0, 5), Part("a", None, 5), Part("a", 5, 5)])) == [(0, 1), (1, 2), (2, 3)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.booleans()), max_size=60), st.data())
def test_every_read_is_taken_once(places, data):
    """Whatever waits, whatever is put back, and whoever gave up; in the order of the file within one read."""
    asks = [Ask(Part(path, 10**5 * place, 50_000), Waiting(done)) for path, place, done in places]
    waiting, taken = waiting_reads(asks), []
    while asks_now := waiting.take():
        assert len({one.part.path for one in asks_now}) == 1
        assert [one.part.offset for one in asks_now] == sorted(one.part.offset for one in asks_now)
        back = data.draw(st.integers(0, len(asks_now) - 1)) if data.draw(st.booleans()) else 0
        waiting.put_back(asks_now[len(asks_now) - back :])
        taken += asks_now[: len(asks_now) - back]
    assert sorted(map(id, taken)) == sorted(id(one) for one in asks if not one.answer.done())
    assert (len(waiting), list(waiting), waiting._beside) == (0, [], {})


def test_what_is_put_back_is_next():
    """Though it was taken out of turn: its hop was given up, and others were asked for after it."""
    waiting = waiting_reads([ask("a", 0, 5), ask("b", 0, 5), ask("a", 5, 5)])
    first, out_of_turn = waiting.take()
    waiting.put_back([out_of_turn])
    assert first.part.offset == 0
    assert waiting.take() == [out_of_turn]
    assert [one.part.path for one in waiting.take()] == ["b"]
    assert waiting.take() == []


def fly(parts, **options):
    flight = Flight([Ask(part, Waiting()) for part in parts], 0, 10**9, {}, in_stint=False)
    flight.read()
    return flight


def test_neighbours_are_opened_once(tmp_path, monkeypatch):
    """Each has its own bytes, and its share of the time."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *args: opened.append(args[0]) or real(*args))
    flight = fly([Part(str(path), start, 10) for start in (0, 10, 25, 180)])
    assert opened == [str(path)]
    assert [content.data for content in flight.results] == [
        bytes(range(start, start + 10)) for start in (0, 10, 25, 180)
    ]
    times = [(content.began, content.ended) for content in flight.results]
    assert times == sorted(times)
    assert len(set(flight.times)) == 1  # for whoever tunes it is one read


def test_what_is_wrong_with_one_is_its_own(tmp_path):
    """The others are read all the same."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    good, beyond, other = fly([Part(str(path), 0, 50), Part(str(path), 50, 60), Part(str(path), 90, 10)]).results
    assert isinstance(good, Content)
    assert isinstance(other, Content)
    assert "the sample ends at 110" in str(beyond)
    missing = fly([Part(str(tmp_path / "none"), 0, 5), Part(str(tmp_path / "none"), 5, 5)]).results
    assert [error.errno for error in missing] == [errno.ENOENT] * 2


def test_a_large_read_is_cut_up_rightly(tmp_path):
    """Pieces of more than a megabyte, in pages of their own."""
    path = tmp_path / "file"
    data = os.urandom(3 * 2**20)
    path.write_bytes(data)
    parts = [Part(str(path), start, 2**18) for start in range(0, 3 * 2**20, 2**18)]
    assert b"".join(bytes(content.data) for content in fly(parts).results) == data


def test_archives_and_files_may_be_mixed(folder, shards, tmp_path):
    """Whatever order they are asked for in."""
    copies = [shutil.copy(shard, tmp_path / f"copy-{shard.name}") for shard in shards]
    both = ab.sources.tar([*shards, *copies])
    order = np.random.default_rng(1).permutation(2 * COUNT)
    expected = load(ab.sources.tar(shards), batch_size=1)
    for batch, index in zip(load(both, batch_size=1, sampler=order), order, strict=True):
        np.testing.assert_array_equal(batch.images, expected[index % COUNT].images)
