"""Pictures in an object store: a real S3 of moto's, behind a proxy that misbehaves as each test says."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import sys
import time

import cv2
import numpy as np
import pytest
from objectserver import SECRETS, options, served

import asyncbatch as ab
from asyncbatch._buckets import Bucket, WholeObject, failure, split_url
from asyncbatch.readers._tuning import Tuner
from asyncbatch.readers._turns import Turns

obstore = pytest.importorskip("obstore", reason="pip install 'asyncbatch[objects]'")
pytest.importorskip("moto.server", reason="pip install 'moto[server]'")

URL = "s3://bucket/train"
COUNT = 72


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder of pictures of three classes, with names that sort differently as keys and as paths."""
    root = tmp_path_factory.mktemp("objects") / "train"
    pixels = np.random.default_rng(3)
    for number in range(COUNT):
        path = root / ("cat", "cat-2", "Dög #1")[number % 3] / f"{'sub/' if number % 5 == 0 else ''}my {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels.integers(0, 255, (24, 24, 3), np.uint8))[1].tobytes())
    (root / "cat" / "notes.txt").write_text("no picture")
    return root


@pytest.fixture(scope="module")
def bucket(tree):
    """The server, with the tree in it."""
    with served(tree) as server:
        yield server


@pytest.fixture
def server(bucket):
    """The server, well behaved until it is told otherwise."""
    bucket.rules()
    return bucket


def source(server, url=URL, **settings):
    return ab.sources.objects(url, options=options(server), **settings)


def loader(server, *, reader=None, on=None, **settings):
    return ab.Loader(on or source(server), reader=reader, **{"batch_size": 8, **settings})


def quick(**settings):
    """Return a reader that loses no time between tries."""
    return ab.ObjectReader(**{"backoff": 0.001, "hedge": 0, **settings})


def contents(batches):
    return [(batch.images.tobytes(), batch.labels.tolist(), batch.indices.tolist()) for batch in batches]


# -- what there is ----------------------------------------------------------------------------------------------------


def test_batches_are_those_of_the_folder(server, tree):
    """The same tree, sampler and seed give the same batches from a folder and from a bucket."""
    settings = {"batch_size": 7, "shuffle": True, "seed": 5}
    with ab.Loader(tree, **settings) as folder, loader(server, **settings) as objects:
        assert contents(folder.epochs(2)) == contents(objects.epochs(2))
        assert objects.source.class_names == folder.source.class_names
    assert 2 * COUNT <= len(server.gets()) <= 2.2 * COUNT  # some were asked twice


def test_samples_know_url_and_size(server, tree):
    """Key and path are the URL, and the length is the size that was listed."""
    listed = source(server)
    folder = ab.sources.folder(tree)
    assert [listed[i].path for i in range(COUNT)] == [f"{URL}/{path}" for path in folder.paths]
    assert [listed[i].length for i in range(COUNT)] == [(tree / path).stat().st_size for path in folder.paths]
    assert listed[0].key == listed[0].path
    assert listed.paths == folder.paths


def test_labels_are_those_of_a_folder(server):
    """`labels=None` and a list do what they do for a folder, and other extensions are looked for as said."""
    assert source(server, labels=None).labels is None
    assert source(server, labels=list(range(COUNT))).labels.tolist() == list(range(COUNT))
    assert source(server, labels=None, extensions=["txt"]).paths == ("cat/notes.txt",)
    with pytest.raises(ab.ConfigError, match=r"labels has 2 labels for 72 pictures"):
        source(server, labels=[1, 2])


def test_fingerprint_changes_with_what_is_there(server):
    """It is that of keys, sizes and labels, not of the address."""
    whole = source(server)
    assert whole.fingerprint == source(server, url=f"{URL}/").fingerprint
    assert whole.fingerprint != source(server, labels=None).fingerprint
    moved = ab.sources.objects("s3://bucket", options=options(server))
    assert moved.class_names == ("train",)
    assert moved.fingerprint != whole.fingerprint


def test_manifest_is_written_once_and_used_from_then_on(server, tmp_path):
    """The first time it is listed and kept, whole or not at all; after that the store is not asked."""
    file = tmp_path / "train.txt"
    first = source(server, manifest=file)
    assert server.seen()["requests"]
    server.rules()
    second = source(server, manifest=file)
    assert not server.seen()["requests"]
    assert (second.paths, second.fingerprint) == (first.paths, first.fingerprint)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat/1.png\t7\n", "is no list of 's3://bucket/train'"),
        (f"# asyncbatch objects 1: {URL}\ncat/1.png\t7\ncat/2.png 7\n", "line 3: 'cat/2.png 7' is not a key, a tab"),
    ],
)
def test_a_manifest_of_something_else_is_refused(server, tmp_path, text, said):
    """A file that is of another URL, or damaged, is a SourceError that says where and what to do."""
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(ab.SourceError, match=said):
        source(server, manifest=tmp_path / "train.txt")


def test_url_is_a_source_by_itself(server, monkeypatch):
    """`Loader("s3://…")` lists and reads with what the environment says."""
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT", server.endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with ab.Loader(URL, batch_size=36) as objects:
        assert [len(batch.indices) for batch in objects] == [36, 36]


def test_what_cannot_be_listed_says_why(server):
    """A missing bucket, nothing below a prefix, and options that mean nothing are errors of their own."""
    with pytest.raises(ab.SourceError, match=r"'s3://other/x' cannot be listed: does not exist \(404 NoSuchBucket\)"):
        source(server, url="s3://other/x")
    with pytest.raises(ab.SourceError, match=r"'s3://bucket/valid' holds no pictures: .* found no files"):
        source(server, url="s3://bucket/valid")
    with pytest.raises(ab.ConfigError, match=r"options=\['colour'\] do not open 's3://bucket'"):
        ab.sources.objects(URL, options={"colour": "blue"})
    with pytest.raises(ab.ConfigError, match=r"options=\['timeout'\] do not open"):  # at which obstore panics
        ab.sources.objects(URL, options={"timeout": "7s"})


def test_progress_shows_on_a_terminal_after_a_second(server, monkeypatch):
    """A listing that takes long counts on standard error, and leaves nothing there; a quick one says nothing."""
    written = []
    terminal = type("Terminal", (), {"isatty": lambda self: True, "write": lambda self, text: written.append(text)})
    terminal.flush = lambda self: None
    monkeypatch.setattr(sys, "stderr", terminal())
    source(server)
    assert written == []
    monkeypatch.setattr("asyncbatch.sources._listing._UNTOLD", 0.0)
    source(server)
    assert written[0] == f"\rlisting {URL}: 73 objects"
    assert written[-1].strip(" \r") == ""


@pytest.mark.parametrize(
    ("url", "base", "key"),
    [
        ("s3://bucket", "s3://bucket", ""),
        ("s3://bucket/a b/c?.jpg", "s3://bucket", "a b/c?.jpg"),
        ("GS://bucket/a/", "gs://bucket", "a"),
        ("az://container/a", "az://container", "a"),
        ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net", "a"),
        ("https://example.com/a/b", "https://example.com", "a/b"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/a", "https://s3.eu-west-1.amazonaws.com/bucket", "a"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/a", "https://bucket.s3.eu-west-1.amazonaws.com", "a"),
        ("https://account.blob.core.windows.net/box/a", "https://account.blob.core.windows.net/box", "a"),
    ],
)
def test_urls_are_split_where_the_bucket_ends(url, base, key):
    """The bucket is what obstore opens, and the key is below it."""
    assert split_url(url) == (base, key)
    if not url.startswith(("az", "abfss")):  # which want an account
        assert Bucket(base).open(retries=0) is not None


@pytest.mark.parametrize("url", ["train", "ftp://host/x", "s3:///x", 3, None])
def test_what_is_no_url_is_refused(url):
    """The message says what a URL of an object store looks like."""
    with pytest.raises(ab.ConfigError, match=r"url must be the URL of an object store, such as 's3://bucket/prefix'"):
        ab.sources.objects(url)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hedge": 2}, "hedge must be a share"),
        ({"timeout": 0}, "timeout must be a number of seconds"),
        ({"options": ["region"]}, "options must be a dict"),
        ({"options": {"retry_config": {}}}, "ObjectReader\\(retries=8\\)"),
        ({"options": {"region": "x"}, "store": object()}, "give one of both"),
    ],
)
def test_settings_are_checked(settings, said):
    """What cannot be used is a ConfigError when the reader is made."""
    with pytest.raises(ab.ConfigError, match=said):
        ab.ObjectReader(**settings)


def test_files_are_not_read_for_objects(server):
    """A `FileReader` for objects is refused with the line to write."""
    with pytest.raises(ab.ConfigError, match=r"write reader=ObjectReader\(\)"):
        loader(server, reader=ab.FileReader())


def test_a_source_can_be_sent_to_another_process(server):
    """Pickled, it is the same source, with the means to read it."""
    sent = pickle.loads(pickle.dumps(source(server)))  # noqa: S301 - our own
    with loader(server, on=sent, batch_size=COUNT) as objects:
        assert len(next(iter(objects)).indices) == COUNT


# -- reading ----------------------------------------------------------------------------------------------------------


async def read(server, sample, **settings):
    async with quick(options=options(server), **settings).open() as reader:
        return await reader.read(sample), reader.counters


async def test_a_part_is_read_by_its_range(server, tree):
    """A sample with an offset and a length is that part, and no more is asked for."""
    path = sorted(tree.glob("cat/my*"))[0]
    url = f"{URL}/cat/{path.name}"
    assert await read(server, ab.Sample("a", path=url, offset=10, length=90)) == (path.read_bytes()[10:100], ANY)
    assert await read(server, ab.Sample("a", path=url, offset=10)) == (path.read_bytes()[10:], ANY)
    assert await read(server, ab.Sample("a", path=url)) == (path.read_bytes(), ANY)
    assert [request["range"] for request in server.gets()] == ["bytes=10-99", "bytes=10-", ""]


class Anything:
    def __eq__(self, other):
        return True

    __hash__ = None


ANY = Anything()


async def test_an_object_that_was_replaced_is_noticed(server, tree):
    """A whole object of another size than was listed, and a part that is not there, are no data but an error."""
    url = f"{URL}/cat/{sorted(tree.glob('cat/my*'))[0].name}"
    for sample in (WholeObject("a", path=url, length=9), ab.Sample("a", path=url, offset=10, length=10**6)):
        with pytest.raises(OSError, match="list it again"):
            await read(server, sample, retries=1)
    with pytest.raises(OSError, match=r"more than max_size=100; if that is right, write reader=ObjectReader\(max_size"):
        await read(server, ab.Sample("a", path=url), max_size=100)
    with pytest.raises(OSError, match="must be the URL of an object store"):
        await read(server, ab.Sample("a", path="cat/1.jpg"))


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "status", "value": 503},
        {"kind": "status", "value": 500},
        {"kind": "status", "value": 429},
        {"kind": "reset"},
        {"kind": "cut"},
        {"kind": "short"},
    ],
    ids=lambda rule: f"{rule['kind']}{rule.get('value', '')}",
)
def test_what_may_pass_is_tried_again_and_counted(server, rule):
    """Each fault really happens five times, is counted as often, and changes no batch."""
    with loader(server) as objects:
        expected = contents(objects)
        server.rules({**rule, "times": 5})
    with loader(server, reader=quick()) as objects:
        assert contents(objects) == expected
        stats = objects.stats()
    requests = server.gets()
    assert [request["kind"] for request in requests].count(rule["kind"]) == 5
    assert stats.retries == 5
    assert len(requests) == COUNT + 5  # obstore made no tries of its own


@pytest.mark.parametrize("status", [403, 404])
def test_what_does_not_pass_is_the_samples_error_at_once(server, status):
    """A missing or forbidden object is a ReadError with its URL after one try, and `Skip` lets it pass."""
    server.rules({"kind": "status", "value": status, "match": "cat/my 3.png"})
    with loader(server, reader=quick()) as objects, pytest.raises(ab.ReadError) as caught:
        contents(objects)
    assert caught.value.key == f"{URL}/cat/my 3.png"
    assert caught.value.attempts == 1
    assert str(status) in str(caught.value)
    with loader(server, reader=quick(), on_error=ab.Skip(1)) as objects:
        assert sum(len(batch.indices) for batch in objects) == COUNT - 1
        assert [error.key for error in objects.stats().errors] == [caught.value.key]
        assert objects.stats().retries == 0
    assert [request["kind"] for request in server.gets()].count("status") == 2


def test_a_sample_that_always_fails_is_its_own_error(server):
    """While the store answers others, it is the sample's fault, with the number of tries."""
    server.rules({"kind": "status", "value": 503, "match": "my 70.png"})  # of the last: nobody is read meanwhile
    with loader(server, reader=quick(retries=2), on_error=ab.Skip(1)) as objects:
        contents(objects)
        (error,) = objects.stats().errors
    assert error.key.endswith("my 70.png")
    assert error.attempts == 3
    assert "(503 SlowDown)" in str(error)


@pytest.mark.parametrize("kind", ["stall", "stall_body"])
def test_a_stall_is_given_up_at_the_deadline(server, kind):
    """A try that takes longer than `timeout` is given up, counted and made again."""
    server.rules({"kind": kind, "match": "cat/my 9.png", "times": 1})
    start = time.monotonic()
    with loader(server, reader=quick(timeout=1)) as objects:
        assert sum(len(batch.indices) for batch in objects) == COUNT
        assert (objects.stats().timeouts, objects.stats().retries) == (1, 1)
    assert 1 <= time.monotonic() - start < 10
    assert [request.get("left") for request in server.gets() if request["kind"] == kind] == [True]


def test_a_store_that_is_away_is_waited_for(server, caplog):
    """When nothing is answered, all is held back but a probe, and goes on when the store is back."""
    faults = {"kind": "status", "value": 503, "times": 40}
    server.rules(faults, {**faults, "method": "HEAD", "times": 3})
    with caplog.at_level(logging.INFO, "asyncbatch"), loader(server, reader=quick(retries=1)) as objects:
        assert sum(len(batch.indices) for batch in objects) == COUNT
    assert [request["kind"] for request in server.seen()["requests"]].count("status") > 10
    assert "s3://bucket does not answer: the store could not answer (503); waiting" in caplog.text
    assert "s3://bucket answers again" in caplog.text


@pytest.mark.parametrize("fault", [{"kind": "status", "value": 503}, {"kind": "reset"}, {"kind": "stall"}])
def test_a_store_that_stays_away_is_unresponsive(server, fault):
    """After `grace` seconds it is one error for all, that says what happened and how to go on."""
    server.rules(fault, {**fault, "method": "HEAD"})
    start = time.monotonic()
    with (
        loader(server, reader=quick(retries=1, grace=1.5, timeout=0.5), on_error=ab.Skip(9)) as objects,
        pytest.raises(ab.StorageUnresponsive, match=r"s3://bucket does not answer: .*, for 1.5 s; .*grace=4.5"),
    ):
        contents(objects)
    assert 1.5 <= time.monotonic() - start < 8


def test_hedging_takes_the_tail_off_and_is_capped(server):
    """One read in thirty is 4 s late: asked again, the epoch does not wait for it, and at most a tenth are."""
    late = {"kind": "delay", "value": 4, "every": 30}
    times = {}
    for hedge in (0, 0.1):
        reader = ab.ObjectReader(hedge=hedge, concurrency=4)
        with loader(server, reader=reader) as objects:
            server.rules()
            contents(objects)  # what is usual is known by now
            server.rules(late)
            start = time.monotonic()
            expected = contents(objects.epochs(1))
            times[hedge] = time.monotonic() - start
            stats = objects.stats()
        assert len(expected) == len(objects)
    requests = server.gets()
    assert [request["kind"] for request in requests].count("delay") >= 2
    assert any(request.get("left") for request in requests)  # the loser was called off
    assert 2 <= stats.hedges <= 0.1 * 2 * COUNT
    assert len(requests) <= 1.1 * COUNT
    assert times[0] > 4 > times[0.1]


def test_hedging_does_not_double_the_load_of_a_slow_store(server):
    """When every read becomes slower, no more than the share is asked twice."""
    with loader(server, reader=ab.ObjectReader(concurrency=8)) as objects:
        contents(objects)
        server.rules({"kind": "delay", "value": 0.2})
        contents(objects)
        assert 1 <= objects.stats().hedges <= 0.1 * 2 * COUNT
    assert len(server.gets()) <= 1.2 * COUNT


@pytest.mark.parametrize("concurrency", [3, "auto"])
def test_concurrency_is_kept_to(server, concurrency):
    """No more are under way than is said; "auto" finds more than it begins with where that helps."""
    server.rules({"kind": "delay", "value": 0.05})
    with loader(server, reader=quick(concurrency=concurrency)) as objects:
        contents(objects.epochs(3))
        found = objects.stats().concurrency
    assert server.seen()["most"] == 3 if concurrency == 3 else server.seen()["most"] > 8
    assert found == 3 if concurrency == 3 else found >= 8


def test_waiting_for_a_turn_is_no_reading(server):
    """A read's time, in stats and spans, begins with its turn: many wait for few turns, and each read is short."""
    server.rules({"kind": "delay", "value": 0.05})
    with loader(server, reader=quick(concurrency=4)) as objects:
        start = time.monotonic()
        contents(objects)
        seconds = time.monotonic() - start
        assert COUNT * 0.05 <= objects.stats().read_seconds <= 4.5 * seconds


# -- ends and secrets -------------------------------------------------------------------------------------------------


def test_nothing_is_left_after_break(server, footprint):
    """`break` ends promptly amid slow reads: no task, thread or connection stays, and nothing is read afterwards."""
    server.rules({"kind": "delay", "value": 0.05})
    objects = loader(server)
    for _ in objects:
        break
    server.rules({"kind": "stall"})
    for _ in range(20):
        iterator = iter(objects)
        start = time.monotonic()
        iterator.close()
        assert time.monotonic() - start < 1
    footprint.assert_same_soon()
    server.rules()
    time.sleep(0.2)
    assert server.gets() == []
    objects.close()


async def test_no_task_is_left_when_a_read_is_cancelled(server):
    """Whoever stops waiting for a read leaves no task on the loop, though it was asked twice."""
    server.rules({"kind": "stall"})
    reader = ab.ObjectReader(options=options(server), hedge=1)
    async with reader.open() as opened:
        for _ in range(40):
            opened._latencies.add(0.01)
        reading = asyncio.create_task(opened.read(ab.Sample("a", path=f"{URL}/cat/my 3.png")))
        while len(await asyncio.to_thread(server.gets)) < 2:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.wait([reading])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert opened._turns.under_way == 0


def test_resumes_bit_for_bit(server):
    """A state that was taken in the middle, as JSON, gives the rest as it would have been, over a fault."""
    settings = {"shuffle": True, "seed": 11}
    with loader(server, **settings) as objects:
        whole = contents(objects.epochs(2))
    with loader(server, **settings) as objects:
        iterator = objects.epochs(2)
        begun = [next(iterator) for _ in range(4)]
        state = json.loads(json.dumps(objects.state_dict()))
    server.rules({"kind": "cut", "times": 3})
    with loader(server, reader=quick(), **settings) as objects:
        objects.load_state_dict(state)
        assert contents(begun) + contents(objects.epochs(2)) == whole


def test_secrets_show_nowhere(server, tmp_path, caplog, monkeypatch):
    """Keys and tokens are in no repr, log, error, state or trace, though the server sends them back."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "marked-secret-4")
    shown = []
    with caplog.at_level(logging.DEBUG):
        for status in (400, 403, 503):
            echo = {"kind": "status", "value": status, "text": "<Code>Bad</Code>" + " ".join(SECRETS.values())}
            server.rules({**echo, "match": "my 6"}, {**echo, "method": "HEAD", "times": 2})
            with (
                loader(server, reader=quick(retries=0, options=options(server))) as objects,
                objects.trace(tmp_path / "trace"),
            ):
                with pytest.raises(ab.ReadError) as caught:
                    contents(objects)
                shown += [repr(objects), repr(objects.source), repr(objects._stages), str(objects.stats())]
                shown += [repr(objects.stats()), json.dumps(objects.state_dict()), objects.source.fingerprint]
            shown += everything_of(caught.value)
            shown.append((tmp_path / "trace").read_text())
    for bad in ({"skip_signature": "marked-secret-5"}, {"client_options": {"timeout": "marked-secret-6"}}):
        with pytest.raises(ab.ConfigError) as caught:
            ab.sources.objects(URL, options={**options(server), **bad})
        shown += everything_of(caught.value)
    for url in ("s3://key:marked-secret-7@bucket/x", "https://host/x?sig=marked-secret-8"):
        with pytest.raises(ab.ConfigError, match="holds credentials") as caught:
            ab.Loader(url, batch_size=2)
        shown += everything_of(caught.value)
    shown.append(caplog.text)
    assert "Bad" in "".join(shown)  # the server's words were looked at
    for secret in (*SECRETS.values(), "marked-secret"):
        assert not [text for text in shown if secret in text]


def everything_of(error):
    """Return what an error, and all that led to it, says."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error)), *getattr(error, "__notes__", ())]
        error = error.__cause__ or error.__context__
    return texts


def test_errors_without_a_status_are_told_apart():
    """What obstore says of a connection becomes a number that says whether it may pass."""
    inner = "x\n\nDebug source:\nHttpError {\n    kind: %s,\n source: code: %d"
    assert failure(Exception(inner % ("Timeout", 110)), {}).errno == 110
    assert failure(Exception(inner % ("Connect", 24)), {}).errno == 24
    assert failure(Exception(inner % ("Connect", 111)), {}).errno == 111
    assert failure(Exception("Error performing PUT http://169.254.169.254/latest/api/token"), {}).errno == 11
    assert failure(MemoryError(), {}).errno == 12
    assert failure(Exception("odd: abcdefgh"), {"key": "abcdefgh"}).strerror == "odd: …"


# -- turns ------------------------------------------------------------------------------------------------------------


async def test_turns_are_taken_in_order_and_urgent_ones_first():
    """Those who wait get their turn in order, before them who is urgent, in order as well, and who gave up none."""
    turns = Turns(Tuner(1))
    await turns.take()
    order = []

    async def take(name):
        await turns.take(urgent=name in "xyz")
        order.append(name)

    tasks = [asyncio.create_task(take(name)) for name in "abcxyz"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    for _ in range(5):
        turns.give_back()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert order == ["x", "y", "z", "a", "c"]
    turns.give_back()
    assert turns.under_way == 0
    assert not turns.others_wait


def test_a_fast_store_is_not_read_in_groups():
    """Where a read takes under a millisecond a file's threads become few; reads without threads need not."""
    few, many = Tuner(None), Tuner(None, in_groups=False)
    for tuner in (few, many):
        for _ in range(50):
            tuner.landed(0.0002, tuner.generation, is_the_limit=True)
    assert (few.limit, few.group) == (2, 8)
    assert many.limit >= 8
    assert many.group == 1


def test_missing_obstore_says_what_to_install(monkeypatch):
    """Without the extra a URL is an ImportError with the line to write."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ImportError, match=r"pip install 'asyncbatch\[objects\]'"):
        ab.Loader(URL, batch_size=2)
