"""`sources.items`: whatever is indexed, one item a sample."""

from __future__ import annotations

import asyncio
import io
import threading

import cv2
import numpy as np
import pytest
from fakes import wait_until
from PIL import Image

import asyncbatch as ab
from asyncbatch import sources

SIZE = 50


def picture(index, height=12, width=10):
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def png(index, **size):
    return cv2.imencode(".png", picture(index, **size)[..., ::-1])[1].tobytes()


class Things:
    """Items that `item` makes of their index; counts what is asked for, and in which threads."""

    def __init__(self, item=lambda index: (picture(index), index), size=SIZE):
        self.item = item
        self.size = size
        self.asked = []
        self.threads = set()

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        assert type(index) is int
        self.asked.append(index)
        self.threads.add(threading.current_thread().name)
        return self.item(index)


def drain(loader):
    batches, error = [], None
    try:
        batches.extend(loader)
    except ab.AsyncbatchError as caught:
        error = caught
    return batches, error


def assert_same(batches, others):
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert (one.images.dtype, one.labels.dtype) == (other.images.dtype, other.labels.dtype)
        np.testing.assert_array_equal(one.indices, other.indices)
        assert (one.epoch, one.step) == (other.epoch, other.step)


# -- what an item may be -----------------------------------------------------------------------------------------------


def test_a_source_of_items():
    """It lists samples by index, says no labels, and satisfies the protocol; nothing is asked of the object."""
    things = Things()
    source = sources.items(things)
    assert isinstance(source, ab.ItemSource)
    assert len(source) == SIZE
    assert (source[3].key, source[-1].key, source[3].label) == ("3", "49", None)
    assert things.asked == []
    with pytest.raises(IndexError):
        source[SIZE]


def test_pairs_in_memory_come_in_order_with_their_labels():
    """A list of pairs gives rows as they are and int64 labels, each item asked for once, in decode threads."""
    things = Things()
    batches = list(ab.Loader(sources.items(things), batch_size=8, shuffle=True))
    for batch in batches:
        np.testing.assert_array_equal(batch.images, np.stack([picture(index) for index in batch.indices]))
        assert batch.images.dtype == np.uint8
        assert batch.labels.dtype == np.int64
        np.testing.assert_array_equal(batch.labels, batch.indices)
        assert batch.keys == tuple(map(str, batch.indices))
    assert sorted(things.asked) == list(range(SIZE))
    assert all(name.startswith("asyncbatch-decode") for name in things.threads)


def to_pillow(index):
    return Image.fromarray(picture(index))


KINDS = {
    "pair of array": lambda i: (picture(i), i),
    "pair of pillow": lambda i: (to_pillow(i), i),
    "list of bytes": lambda i: [png(i), i],
    "mapping": lambda i: {"image": to_pillow(i), "label": i},
    "mapping of others": lambda i: {"label": np.uint8(i), "path": "x", "image": memoryview(png(i))},
    "hugging face undecoded": lambda i: {"image": {"bytes": png(i), "path": None}, "label": i},
    "opened by pillow": lambda i: (Image.open(io.BytesIO(png(i))), np.array([i])[0]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [None, (8, 9)])
def test_the_same_pictures_as_a_folder(tmp_path, kind, size):
    """Batches are those of the same pictures in a folder, whatever holds them, with and without a decoder."""
    for index in range(20):
        (tmp_path / f"{index:02}.png").write_bytes(png(index))
    folder = sources.folder(tmp_path, labels=list(range(20)))
    how = {"batch_size": 6, "image_size": size, "sampler": ab.sampling.BlockShuffle(5, window=2), "seed": 5}
    items = ab.Loader(sources.items(Things(KINDS[kind], 20)), **how)
    assert_same(list(items.epochs(2)), list(ab.Loader(folder, **how).epochs(2)))


def test_transforms_are_seeded_as_for_files(tmp_path):
    """What a transform draws depends on seed, epoch and index alone, so it is the same for a folder."""
    for index in range(12):
        (tmp_path / f"{index:02}.png").write_bytes(png(index))
    decoder = ab.ImageDecoder((8, 8), dtype="float32", scale=1 / 255, transform=[ab.RandomHorizontalFlip()])
    how = {"batch_size": 5, "decoder": decoder, "shuffle": True, "seed": 3}
    loader = ab.Loader(sources.items(Things(KINDS["pair of pillow"], 12)), **how)
    assert loader.decoder is decoder
    assert_same(list(loader.epochs(2)), list(ab.Loader(sources.folder(tmp_path, labels=range(12)), **how).epochs(2)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
def test_pillow_images_of_other_modes(mode, channels):
    """A Pillow image becomes what the decoder wants: three channels in its order, or one."""
    image = Image.fromarray(picture(1)[..., 0].astype(np.uint16) * 256) if mode == "I;16" else to_pillow(1)
    image = image if mode == "I;16" else image.convert(mode)
    decoder = ab.ImageDecoder((12, 10), channels=channels)
    batch = next(iter(ab.Loader(sources.items([(image, 0)]), batch_size=1, decoder=decoder)))
    expected = picture(1)[..., :1] if mode == "I;16" else np.array(image.convert("L" if channels == "gray" else "RGB"))
    expected = np.broadcast_to(expected.reshape(12, 10, -1), batch.images[0].shape)
    np.testing.assert_array_equal(batch.images[0], expected[..., ::-1] if channels == "bgr" else expected)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [("L", (12, 10), "uint8"), ("1", (12, 10), "uint8"), ("P", (12, 10, 3), "uint8"), ("RGBA", (12, 10, 3), "uint8"),
     ("I", (12, 10), "int32"), ("F", (12, 10), "float32")],
)  # fmt: skip
def test_pillow_images_as_they_are(mode, shape, dtype):
    """Without a decoder grey Pillow images stay grey, deep ones deep, and colours become RGB."""
    batch = next(iter(ab.Loader(sources.items([to_pillow(1).convert(mode)]), batch_size=1)))
    assert (batch.images.shape[1:], batch.images.dtype) == (shape, dtype)
    assert batch.labels is None


def test_a_function_as_decoder():
    """A user's own decoder gets bytes as they are, and a copy of an array that it may write to."""
    kept = np.zeros((2, 3))

    def decode(data):
        if isinstance(data, bytes):
            return np.full((2, 3), len(data), float)
        data += 5
        return data

    batch = next(iter(ab.Loader(sources.items([kept, b"ab"]), batch_size=2, decoder=decode)))
    assert batch.images[:, 0, 0].tolist() == [5, 2]
    assert not kept.any()


def test_torch_datasets(torch):
    """A torch dataset's tensors come as they are, (C, H, W) float32, and its labels as int64."""
    x = torch.rand(SIZE, 3, 6, 5)
    dataset = torch.utils.data.TensorDataset(x, torch.arange(SIZE, dtype=torch.int32))
    for batch in ab.Loader(sources.items(dataset), batch_size=16, shuffle=True):
        np.testing.assert_array_equal(batch.images, x.numpy()[batch.indices])
        assert batch.labels.dtype == np.int64
        np.testing.assert_array_equal(batch.labels, batch.indices)
    with pytest.raises(ab.ConfigError, match=r"Loader\(sources\.items\(dataset\), …\)"):
        ab.Loader(dataset, batch_size=2)


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "dtype", "shape"),
    [
        (lambda i: i, "int64", ()),
        (np.uint8, "int64", ()),
        (lambda i: np.array([i], np.int16), "int64", (1,)),
        (float, "float32", ()),
        (np.float64, "float64", ()),
        (lambda i: bool(i % 2), "bool", ()),
        (lambda i: [i, 0.5], "float32", (2,)),
        (lambda i: [i, 1], "int64", (2,)),
        (lambda i: np.array([i, 1], np.float64), "float64", (2,)),
        (str, "<U2", ()),
    ],
)
def test_label_dtypes(label, dtype, shape):
    """Labels have the dtypes that other sources give them, stacked in the order of the plan."""
    loader = ab.Loader(sources.items(Things(lambda i: (picture(i), label(i)))), batch_size=16, shuffle=True)
    for batch in loader:
        assert batch.labels.shape == (len(batch.indices), *shape)
        assert batch.labels.dtype.kind == np.dtype(dtype).kind
        assert dtype.startswith("<U") or batch.labels.dtype == dtype
        expected = np.array([label(index) for index in batch.indices.tolist()])
        np.testing.assert_array_equal(batch.labels, expected.astype(batch.labels.dtype))


@pytest.mark.parametrize(
    ("item", "keys"),
    [
        (lambda i: {"img": picture(i), "fine_label": i}, {"image": "img", "label": "fine_label"}),
        (lambda i: {"image": picture(i)}, {}),
        (lambda i: {"image": picture(i), "label": i}, {"label": None}),
        (lambda i: (picture(i), object()), {"label": None}),
        (lambda i: (picture(i), None), {}),
        (picture, {}),
    ],
)
def test_keys_and_no_labels(item, keys):
    """Keys are chosen by name; without labels the second element is None."""
    batch = next(iter(ab.Loader(sources.items(Things(item), **keys), batch_size=4)))
    assert batch.images.shape == (4, 12, 10, 3)
    assert (batch.labels is None) == (keys.get("label") != "fine_label")


def test_labels_of_several_kinds_are_the_sources_error():
    """Labels of one batch that fit into no array end the iteration in its turn, after the batches before."""
    things = Things(lambda i: (picture(i), i if i < 30 else None if i % 2 else i))
    batches, error = drain(ab.Loader(sources.items(things), batch_size=10))
    assert len(batches) == 3
    assert type(error) is ab.SourceError
    assert str(error).startswith("the labels of one batch failed: they do not fit into one array")


def test_class_names():
    """The names of the classes are those that torchvision's datasets and Hugging Face's features say."""
    things = Things()
    things.classes = ["cat", "dog"]
    assert sources.items(things).class_names == ("cat", "dog")
    assert sources.items(things, label=None).class_names == ()
    things.features = {"label": type("ClassLabel", (), {"names": ["ant", "bee"]})(), "image": object()}
    assert sources.items(things).class_names == ("ant", "bee")
    assert sources.items(Things()).class_names == ()


# -- errors ------------------------------------------------------------------------------------------------------------


class Torn(Exception):
    """What the items below fail with."""


def torn(index):
    if index % 10 == 7:
        raise Torn("the page is torn")
    return picture(index), index


def test_a_failing_item_is_a_read_error_in_its_turn():
    """What `__getitem__` raises is its sample's ReadError, with key, index and cause, after the good batches before."""
    batches, error = drain(ab.Loader(sources.items(Things(torn)), batch_size=5))
    assert len(batches) == 1
    assert type(error) is ab.ReadError
    assert (error.key, error.index, type(error.__cause__)) == ("7", 7, Torn)
    assert str(error) == "7 (sample 7): the page is torn"


@pytest.mark.parametrize("batch_size", [1, 4, 7])
@pytest.mark.parametrize("decode", [None, (6, 5)])
def test_failing_items_are_skipped(batch_size, decode):
    """Skip leaves out single samples, and labels stay with their pictures."""
    loader = ab.Loader(sources.items(Things(torn)), batch_size=batch_size, image_size=decode, on_error=ab.Skip(5))
    batches, error = drain(loader)
    assert error is None
    good = [index for index in range(SIZE) if index % 10 != 7]
    assert np.concatenate([batch.labels for batch in batches]).tolist() == good
    assert np.concatenate([batch.indices for batch in batches]).tolist() == good
    if decode is None:
        np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), [*map(picture, good)])
    assert [one.index for one in loader.stats().errors] == [7, 17, 27, 37, 47]


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_failing_items_are_replaced(batch_size):
    """A stand-in's picture and label are fetched, and are the same in every run."""

    def replaced():
        loader = ab.Loader(sources.items(Things(torn)), batch_size=batch_size, on_error=ab.Replace(1.0), shuffle=True)
        batches, error = drain(loader)
        assert error is None
        return batches

    batches = replaced()
    for batch in batches:
        np.testing.assert_array_equal(batch.labels, batch.indices)
        np.testing.assert_array_equal(batch.images, [picture(index) for index in batch.indices])
    assert sum(len(batch.indices) for batch in batches) == SIZE
    assert all(index % 10 != 7 for batch in batches for index in batch.indices)
    assert_same(replaced(), batches)


@pytest.mark.parametrize(
    ("item", "keys", "kind", "words"),
    [
        ({"img": 1, "y": 2}, {}, ab.ReadError, r"has no 'image', its keys are 'img', 'y'; write .*image='img'"),
        (
            {"image": 1, "y": 2},
            {},
            ab.ReadError,
            r"has no 'label', its keys .*label='y'\) or, for no labels, label=None",
        ),
        ((1, 2, 3), {}, ab.ReadError, r"the item is a tuple of 3, and must be a picture, a pair"),
        ((picture(0), {"boxes": []}), {}, ab.ReadError, r"its label is dict, and must be a number"),
        (("a.jpg", 3), {}, ab.DecodeError, r"its picture is the text 'a\.jpg'.*sources\.manifest"),
        ((object(), 3), {}, ab.DecodeError, r"its picture is object, and must be an array of numbers"),
        ((b"no picture", 3), {}, ab.DecodeError, r"."),
        ((picture(0, height=3), 3), {}, ab.DecodeError, r"all rows must be alike: for pictures write image_size="),
    ],
)
def test_items_that_cannot_be_used(item, keys, kind, words):
    """An item of another kind is its sample's error, which says what was given and what to write."""
    things = Things(lambda index: item if index == 3 else (picture(index), index))
    batches, error = drain(ab.Loader(sources.items(things, **keys), batch_size=2))
    assert len(batches) == 1
    assert type(error) is kind
    assert error.index == 3
    with pytest.raises(kind, match=words):
        raise error


@pytest.mark.parametrize(
    ("obj", "how", "words"),
    [
        (iter([]), {}, r"obj must have __len__ and __getitem__, got .*sources\.items\(list\(obj\)\)"),
        ({"train": []}, {}, r"indexed by numbers, got a dict; write sources\.items\(obj\['train'\]\)"),
        ("pictures", {}, r"obj must have"),
        ([1], {"image": 3}, r"image must be a key of the items, got 3"),
        ([1], {"label": 3}, r"label must be a key of the items, got 3"),
        ([1], {"fingerprint": 3}, r"fingerprint must be a text, got 3"),
    ],
)
def test_unusable_arguments(obj, how, words):
    """What cannot be served is a ConfigError that says what was given and what is wanted."""
    with pytest.raises(ab.ConfigError, match=words):
        sources.items(obj, **how)


def test_what_items_do_not_do():
    """A reader has nothing to read, classes cannot be balanced, an empty object has no batches: all said at once."""
    with pytest.raises(ab.ConfigError, match="leave out reader"):
        ab.Loader(sources.items(Things()), batch_size=2, reader=ab.FileReader())
    with pytest.raises(ab.ConfigError, match=r"labels not known beforehand.*none of these; write sampler=Weighted"):
        ab.Loader(sources.items(Things()), batch_size=2, sampler=ab.sampling.ClassBalanced())
    with pytest.raises(ab.SourceError, match="empty"):
        ab.Loader(sources.items([]), batch_size=2)


# -- what the loader promises ------------------------------------------------------------------------------------------


def make(**how):
    how = {"batch_size": 6, "shuffle": True, "seed": 4, "image_size": (8, 9)} | how
    return ab.Loader(sources.items(Things()), **how)


def test_resumed_bit_for_bit():
    """A state restored on another number of threads goes on with the same batches, across epochs."""
    whole = list(make().epochs(2))
    first = make(decode_threads=1)
    iterator = first.epochs(2)
    taken = [next(iterator) for _ in range(4)]
    state = first.state_dict()
    first.close()
    second = make(decode_threads=5, prefetch=1)
    second.load_state_dict(state)
    assert_same([*taken, *second.epochs(2)], whole)


def test_a_state_of_other_items_is_refused():
    """The fingerprint is made of type, length and the object's own, or is the one given."""
    things, marked = Things(), Things()
    marked._fingerprint = "abc"
    prints = {sources.items(one, **how).fingerprint for one, how in (
        (things, {}), (Things(size=3), {}), (marked, {}), ([0] * SIZE, {}), (things, {"fingerprint": "release 3"}),
    )}  # fmt: skip
    assert len(prints) == 5
    assert sources.items(Things()).fingerprint == sources.items(things).fingerprint
    with pytest.raises(ab.StateMismatch):
        ab.Loader(sources.items([0] * SIZE), batch_size=6, shuffle=True, seed=4).load_state_dict(make().state_dict())


def test_shards_share_the_items():
    """Two ranks see every item once between them."""
    seen = [batch.labels for rank in (0, 1) for batch in make(batch_size=5, shard=(rank, 2))]
    assert sorted(np.concatenate(seen).tolist()) == list(range(SIZE))


async def test_the_same_batches_by_async_for():
    """`async for` gives the batches of `for`, and the caller's loop is never blocked by an item."""
    batches = [batch async for batch in make()]
    assert_same(batches, await asyncio.to_thread(lambda: list(make())))


def test_several_items_at_once_and_in_order():
    """Items are fetched several at a time, and one that is late is waited for."""
    together = threading.Barrier(4)

    def item(index):
        together.wait(30)
        return np.array([index]), index

    loader = ab.Loader(sources.items(Things(item, 40)), batch_size=8, decode_threads=4)
    assert np.concatenate([batch.labels for batch in loader]).tolist() == list(range(40))


def test_nothing_is_fetched_once_the_loader_is_closed():
    """Closing ends the fetching after the items that are under way, those of the same group included."""
    begun, go_on = threading.Event(), threading.Event()

    def item(index):
        if index >= 8:
            begun.set()
            go_on.wait(30)
        return np.array([index]), index

    things = Things(item, 800)
    loader = ab.Loader(sources.items(things), batch_size=8, decode_threads=1, prefetch=2)
    iterator = iter(loader)
    assert next(iterator).labels.tolist() == list(range(8))
    begun.wait(30)
    loader.close()
    asked = len(things.asked)
    go_on.set()
    wait_until(lambda: not any(name.name.startswith("asyncbatch-decode") for name in threading.enumerate()))
    assert len(things.asked) == asked == 9


def test_fetching_is_bounded():
    """No more batches are fetched than `prefetch` allows, however slow the caller is."""
    things = Things()
    loader = ab.Loader(sources.items(things), batch_size=5, prefetch=2, decode_threads=2)
    iterator = iter(loader)
    next(iterator)
    wait_until(lambda: len(things.asked) == 15)
    loader.close()
    assert len(things.asked) == 15


@pytest.mark.parametrize("slow", ["item", "decoder"])
def test_waiting_is_put_down_to_what_was_slow(slow):
    """Where items are slow the caller waited for reading, and is told of `decode_threads`; else for decoding."""
    pauses = {"item": 0.0, "decoder": 0.0} | {slow: 12e-3}  # what is said of less than a second is that it is early

    def pause(what):
        threading.Event().wait(pauses[what])

    def item(index):
        pause("item")
        return np.array([index]), index

    def decode(row):
        pause("decoder")
        return row

    loader = ab.Loader(sources.items(Things(item, 200)), batch_size=10, decoder=decode, decode_threads=2)
    list(loader)
    stats = loader.stats()
    reading, decoding = stats.wait_reading, stats.wait_decoding
    assert reading > decoding if slow == "item" else decoding > reading
    assert ("write decode_threads=16" in str(stats)) == (slow == "item")


def test_hooks_are_told_of_both_parts():
    """Fetching an item is a read span, and making a row of it a decode span."""

    class Spans(list):
        def record(self, span):
            self.append(span)

    spans = Spans()
    list(ab.Loader(sources.items(Things()), batch_size=5, hooks=[spans], image_size=(8, 8)))
    for stage in ("read", "decode"):
        assert sum(span.stage == stage for span in spans) == SIZE
