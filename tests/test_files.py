"""Reading files: whole, regular, and refused in words where they are not."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import threading

import numpy as np
import psutil
import pytest

import asyncbatch as ab
from asyncbatch._errors import FileChanged
from asyncbatch.readers._flight import Flight
from asyncbatch.readers._whole import Part, read_file


async def read(path, *, offset=0, length=None, **settings):
    async with ab.FileReader(**settings).open() as reader:
        return await reader.read(ab.Sample(key="key", path=str(path), offset=offset, length=length))


@pytest.mark.parametrize("size", [0, 1, 4096, 3_000_000])
async def test_whole_file(tmp_path, size):
    """A file's bytes come whole, an empty one's too."""
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert await read(tmp_path / "file") == content


async def test_sample_without_a_path_says_so():
    """A source that forgets `path` is told, instead of that its key does not exist."""
    with pytest.raises(OSError, match=r"has no path; write Sample\(key=..., path=...\)"):
        await read("")


async def test_part_of_a_file(tmp_path):
    """`offset` and `length` choose the part of a file that is the sample."""
    (tmp_path / "file").write_bytes(b"0123456789")
    assert await read(tmp_path / "file", offset=3, length=4) == b"3456"
    assert await read(tmp_path / "file", offset=3) == b"3456789"


def fifo(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def nothing(path):
    pass


def link_to_nowhere(path):
    path.symlink_to("nowhere")


def link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX file types")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (fifo, "is a FIFO; samples must be regular files"),
        (folder, "is a directory; samples must be regular files"),
        (unix_socket, "No such device or address"),
        (nothing, "No such file or directory"),
        (link_to_nowhere, "No such file or directory"),
        (link_to_itself, "Too many levels of symbolic links"),
    ],
)
async def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, make, text):
    """A FIFO without a writer does not hang the read; every odd thing in a manifest gives an error in words."""
    make(tmp_path / "odd")
    with pytest.raises(OSError, match=text):
        await read(tmp_path / "odd")


async def test_device_is_refused():
    """A device, which might have no end, is not read."""
    with pytest.raises(OSError, match="is a device"):
        await read("/dev/zero")


async def test_file_over_the_limit_is_refused_before_reading(tmp_path):
    """A file larger than `max_size` costs no memory: a sparse one of 1 TB is refused, with the line that allows it."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(OSError, match=r"has 1,000,000,000,000 bytes, more than max_size=256,000,000.*FileReader\(max_"):
        await read(tmp_path / "huge")


async def test_file_too_short_for_its_sample_is_an_error(tmp_path):
    """Fewer bytes than the sample should have are an error, never a shorter sample."""
    (tmp_path / "file").write_bytes(b"0123456789")
    with pytest.raises(FileChanged, match="has 10 bytes and the sample ends at 14"):
        await read(tmp_path / "file", offset=6, length=8)


def test_short_reads_are_put_together(tmp_path, monkeypatch):
    """A file system may return less than was asked for; the parts make the whole."""
    (tmp_path / "file").write_bytes(content := os.urandom(100_000))
    whole_read, sizes = os.read, []

    def short_read(descriptor, size):
        data = whole_read(descriptor, min(size, 7_001))
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "read", short_read)
    assert read_file(Part(str(tmp_path / "file")), 10**6).data == content
    assert len(sizes) > 10


@pytest.mark.parametrize("size", [2**20, 2**20 + 1, 5 * 2**20, 5 * 2**20 + 7])
def test_a_large_file_is_read_in_pieces(tmp_path, size):
    """Beyond 1 MB the bytes come piece by piece, whole and with an offset."""
    (tmp_path / "file").write_bytes(content := os.urandom(size))
    assert bytes(read_file(Part(str(tmp_path / "file")), 10**8).data) == content
    assert bytes(read_file(Part(str(tmp_path / "file"), 3, size - 3), 10**8).data) == content[3:]


async def test_whoever_asks_the_reader_gets_bytes(tmp_path):
    """How large files are kept is the pipeline's affair."""
    (tmp_path / "file").write_bytes(content := os.urandom(3 * 2**20))
    data = await read(tmp_path / "file")
    assert isinstance(data, bytes)
    assert data == content


def test_decoders_get_bytes(tmp_path):
    """A decoder of one's own is given bytes, however large the file."""
    sizes = [100, 2**20, 3 * 2**20]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * size)
    lines = "".join(f"{number}.bin {number}\n" for number in range(len(sizes)))
    (tmp_path / "train.txt").write_text(lines)
    seen = []

    def decode(data):
        seen.append(type(data))
        return np.array([len(data), data[-1]])

    with ab.Loader(tmp_path / "train.txt", batch_size=3, decoder=decode) as loader:
        [batch] = list(loader)
    assert batch.images.tolist() == [[size, number] for number, size in enumerate(sizes)]
    assert set(seen) == {bytes}


def test_memory_of_a_large_file_goes_back_to_the_system(tmp_path):
    """What was read of large files, in threads of their own, is gone with the last reference to it."""
    (tmp_path / "file").write_bytes(bytes(64 * 2**20))
    process = psutil.Process()
    before = process.memory_info().rss
    contents = []

    def work():
        contents.append(read_file(Part(str(tmp_path / "file")), 10**9))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.memory_info().rss - before > 150 * 2**20
    contents.clear()
    assert process.memory_info().rss - before < 32 * 2**20


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0}, {"concurrency": "many"}, {"timeout": 0}, {"timeout": "none"}, {"timeout": float("inf")},
        {"retries": -1}, {"retries": 1.5}, {"backoff": -1}, {"max_lost": -1}, {"grace": 0}, {"grace": True},
        {"max_size": 0}, {"max_size": "big"}, {"roots": "/mnt/a"}, {"roots": ["/mnt/a", "/mnt/a/"]}, {"roots": [1, 2]},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    """A setting that cannot be used is refused when the reader is made."""
    with pytest.raises(ab.ConfigError, match=f"{next(iter(wrong))} must be"):
        ab.FileReader(**wrong)


@pytest.mark.parametrize(
    ("size", "number"),
    [(7, 7), ("7B", 7), ("256MB", 256_000_000), ("1.5 MiB", 1_572_864), ("2kb", 2000), ("1G", 10**9)],
)
def test_sizes_in_words(size, number):
    """Sizes may be numbers or texts, decimal as disks are sold or binary as memory is."""
    assert ab.FileReader(max_size=size).max_size == number


def test_a_size_without_a_unit_is_refused():
    """A text number may be of bytes or of megabytes, and a budget of 256 bytes would read file by file."""
    with pytest.raises(ab.ConfigError, match="max_size='256' has no unit; write max_size=\"256MB\", or a number"):
        ab.FileReader(max_size="256")


async def test_no_more_reads_at_once_than_asked_for(tmp_path):
    """`concurrency` bounds the threads that read, and a few quick reads do not start all of them."""
    for index in range(50):
        (tmp_path / str(index)).write_bytes(b"x")
    before = threading.active_count()
    async with ab.FileReader(concurrency=3).open() as reader:
        samples = [ab.Sample(key=str(index), path=str(tmp_path / str(index))) for index in range(50)]
        await asyncio.gather(*map(reader.read, samples))
        assert threading.active_count() - before <= 3
        assert reader.concurrency == 3


async def test_an_error_in_a_group_is_its_own_files_alone(tmp_path):
    """Files that share a hop succeed and fail each on its own, and come to whoever asked for them."""
    for index in range(0, 64, 2):
        (tmp_path / str(index)).write_bytes(bytes([index]))
    samples = [ab.Sample(key=str(index), path=str(tmp_path / str(index))) for index in range(64)]
    async with ab.FileReader(concurrency=64).open() as reader:
        for _ in range(3):
            results = await asyncio.gather(*map(reader.read, samples), return_exceptions=True)
            assert results[::2] == [bytes([index]) for index in range(0, 64, 2)]
            assert all(isinstance(result, FileNotFoundError) for result in results[1::2])


async def test_slow_files_share_no_hop(tmp_path, monkeypatch):
    """Once reading is slow every file has a hop of its own; while it is fast they are grouped."""
    (tmp_path / "file").write_bytes(b"x")
    sample, read_all = ab.Sample(key="k", path=str(tmp_path / "file")), Flight.read
    groups, seconds = [], [0.0]

    def counted(flight):
        groups.append(len(flight.parts))
        read_all(flight)
        flight.times = [seconds[0]] * len(flight.parts)

    monkeypatch.setattr(Flight, "read", counted)
    async with ab.FileReader(concurrency=64).open() as reader:
        for seconds[0] in (0.0, 1.0):
            for _ in range(2):
                groups.clear()
                await asyncio.gather(*(reader.read(sample) for _ in range(16)))
            assert groups == ([8, 8] if seconds[0] == 0.0 else [1] * 16)


async def test_a_read_that_is_cancelled_at_once_opens_no_file(tmp_path, monkeypatch):
    """What was asked for and given up in the same turn of the loop is not read."""
    (tmp_path / "file").write_bytes(b"x")
    sample, opened, whole_open = ab.Sample(key="k", path=str(tmp_path / "file")), [], os.open
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append(path) or whole_open(path, flags))
    async with ab.FileReader().open() as reader:
        given_up = asyncio.ensure_future(reader.read(sample))
        asyncio.get_running_loop().call_soon(given_up.cancel)  # after it has asked, before anything is sent
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert await reader.read(sample) == b"x"
    assert opened == [sample.path]


async def test_reads_that_hang_hold_up_no_other(tmp_path, monkeypatch):
    """More reads than there are eager threads hang, and one more is read all the same."""
    stuck, whole_open = threading.Event(), os.open

    def hanging_open(path, flags):
        if path.endswith("stuck"):
            stuck.wait()
        return whole_open(path, flags)

    (tmp_path / "stuck").write_bytes(b"late")
    (tmp_path / "file").write_bytes(b"here")
    monkeypatch.setattr(os, "open", hanging_open)
    async with ab.FileReader(concurrency=20).open() as reader:
        late = [asyncio.ensure_future(reader.read(ab.Sample("k", path=str(tmp_path / "stuck")))) for _ in range(19)]
        await asyncio.sleep(0)
        assert await reader.read(ab.Sample("k", path=str(tmp_path / "file"))) == b"here"
        assert not any(task.done() for task in late)
        stuck.set()
        assert await asyncio.gather(*late) == [b"late"] * 19


async def test_an_iteration_begins_with_what_the_one_before_it_found(tmp_path, monkeypatch):
    """The number of reads at once is found once for a storage; two iterations at a time share nothing."""
    (tmp_path / "file").write_bytes(b"x")
    sample, read_all = ab.Sample(key="k", path=str(tmp_path / "file")), Flight.read

    def slow(flight):
        read_all(flight)
        flight.times = [0.03] * len(flight.parts)

    monkeypatch.setattr(Flight, "read", slow)
    files = ab.FileReader()
    async with files.open() as reader:
        assert reader.counters.concurrency == 8
        while (found := reader.counters.concurrency) <= 30:  # on a busy machine it takes longer to be sure
            await asyncio.gather(*(reader.read(sample) for _ in range(1000)))
    for _ in range(2):
        async with files.open() as reader, files.open() as other:
            assert (reader.counters.concurrency, other.counters.concurrency) == (found, 8)
            await asyncio.gather(*(reader.read(sample) for _ in range(20)))
            assert reader.counters.concurrency == found
            other._replicas.preferred.found = reader._replicas.preferred.found  # the last to end is remembered
    async with pickle.loads(pickle.dumps(files)).open() as reader:  # noqa: S301 - our own
        assert reader.counters.concurrency == 8
