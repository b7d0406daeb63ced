"""`adapters.torch`: tensors without a copy, ahead on a device, and a state that counts what the caller has."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from coloured import COLOURS, write_coloured
from conftest import load_torchvision

import asyncbatch as ab

torch = pytest.importorskip("torch", reason="pip install torch")
from asyncbatch.adapters.torch import TorchLoader, to_tensors  # noqa: E402 - it needs torch

COUNT, BATCH, STEPS = 60, 8, 8

pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("default::DeprecationWarning")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), COUNT)


def make_loader(pictures, **options):
    return ab.Loader(pictures, **{"batch_size": BATCH, "image_size": 24, "shuffle": True, "seed": 3, **options})


def indices(batches):
    return [batch.indices.tolist() for batch in batches]


@pytest.fixture
def expected(pictures):
    with make_loader(pictures) as loader:
        return indices(loader.epochs(3))


@pytest.fixture(params=[None, "meta"], ids=["memory", "ahead"])
def device(request):
    """In memory; and the meta device, which every build has: what goes there goes by the thread, as to a GPU."""
    return request.param


# -- what a batch is ---------------------------------------------------------------------------------------------------


def test_tensors_share_the_memory_of_the_arrays(pictures):
    """Nothing is copied, not even to have the channels first."""
    with make_loader(pictures) as loader:
        batch = next(iter(loader))
    tensors = to_tensors(batch, channels_first=True)
    assert tensors.images.data_ptr() == batch.images.ctypes.data
    assert tensors.labels.data_ptr() == batch.labels.ctypes.data
    assert tensors.images.shape == (BATCH, 3, 24, 24)
    assert tensors.images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(tensors.images.numpy().transpose(0, 2, 3, 1), batch.images)
    assert to_tensors(batch).images.shape == (BATCH, 24, 24, 3)
    assert (tensors.keys, tensors.epoch, tensors.step, tensors.errors) == (batch.keys, 0, 0, ())


def test_batches_are_those_of_the_loader(pictures):
    """Values, order and attributes, over two shuffled epochs."""
    with make_loader(pictures) as loader, TorchLoader(make_loader(pictures)) as tensors:
        assert len(tensors) == len(loader) == STEPS
        for batch, (images, labels) in zip(loader.epochs(2), tensors.epochs(2), strict=True):
            assert images.dtype == torch.uint8
            assert labels.dtype == torch.int64
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), batch.images)
            np.testing.assert_array_equal(labels.numpy(), batch.labels)


@pytest.mark.parametrize(
    ("layout", "channels_first", "shape"),
    [("nhwc", None, (3, 24, 24)), ("nhwc", False, (24, 24, 3)), ("nchw", None, (3, 24, 24))],
)
def test_where_the_channels_are(pictures, layout, channels_first, shape):
    decoder = ab.ImageDecoder(24, layout=layout)
    with TorchLoader(make_loader(pictures, image_size=None, decoder=decoder), channels_first=channels_first) as loader:
        assert next(iter(loader)).images.shape[1:] == shape


def test_rows_of_a_source_in_memory_stay_as_they_are():
    """They may be anything; only their owner knows whether they are pictures."""
    x, y = np.arange(40, dtype=np.float32).reshape(10, 2, 2), np.arange(10)
    with TorchLoader(ab.Loader(ab.sources.arrays(x, y), batch_size=4)) as loader:
        batches = list(loader)
    np.testing.assert_array_equal(torch.cat([batch.images for batch in batches]).numpy(), x)
    with TorchLoader(ab.Loader(ab.sources.arrays(x), batch_size=4)) as loader:
        assert next(iter(loader)).labels is None


def test_a_tensor_that_is_kept_never_changes(pictures):
    """Batch memory is used again only when no tensor has it."""
    with TorchLoader(make_loader(pictures, prefetch=1)) as loader:
        kept = [batch.images for batch in loader.epochs(3)]
    with make_loader(pictures) as loader:
        for images, batch in zip(kept, loader.epochs(3), strict=True):
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), batch.images)


# -- order and state ---------------------------------------------------------------------------------------------------


def test_order(pictures, device, expected):
    """Epoch after epoch, and across their boundary."""
    with TorchLoader(make_loader(pictures), device) as loader:
        assert indices(loader) + indices(loader) + indices(loader) == expected
        loader.set_epoch(0)
        assert indices(loader.epochs(3)) == expected
        assert all(str(batch.images.device) == (device or "cpu") for batch in loader)


@pytest.mark.parametrize("taken", [0, 1, STEPS - 1, STEPS, STEPS + 3])
def test_the_state_counts_what_the_caller_has(pictures, device, expected, taken):
    """What a thread has on the device ahead of the caller is not lost in another process, and not in this one."""
    with TorchLoader(make_loader(pictures), device) as loader:
        batches = loader.epochs(3)
        for _ in range(taken):
            next(batches)
        state = loader.state_dict()
    with make_loader(pictures) as plain:
        batches = plain.epochs(3)
        for _ in range(taken):
            next(batches)
        assert plain.state_dict() == state
    with TorchLoader(make_loader(pictures), device) as loader:
        loader.load_state_dict(state)
        assert loader.state_dict() == state
        assert indices(loader.epochs(3 - taken // STEPS)) == expected[taken:]


@pytest.mark.parametrize("taken", [0, 3, STEPS])
def test_an_epoch_that_is_left_is_followed_by_the_next(pictures, device, expected, taken):
    """As with the loader itself: the thread's being ahead does not show."""
    with TorchLoader(make_loader(pictures), device) as loader:
        batches = loader.epochs(3)
        for _ in range(taken):
            next(batches)
        begin = STEPS * (taken > 0)
        assert indices(loader) == expected[begin : begin + STEPS]


def test_an_error_comes_in_its_turn(pictures, device, tmp_path):
    """After the batches before it, as itself; the loader can be iterated again."""
    bad = write_coloured(tmp_path, COUNT)
    victim = sorted(bad.rglob("*.png"))[20]
    victim.write_bytes(b"no picture")
    with TorchLoader(make_loader(bad, shuffle=False), device) as loader:
        seen = []
        with pytest.raises(ab.DecodeError, match=victim.name):
            for batch in loader:
                seen.append(batch.step)  # noqa: PERF401 - it raises on its way
        assert seen == [0, 1]
        assert next(iter(loader)).step == 0


# -- the end -----------------------------------------------------------------------------------------------------------


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("asyncbatch")]


@pytest.mark.parametrize("way", ["close", "drop", "exhaust", "next iterator"])
def test_no_thread_is_left(pictures, device, way):
    before = ours()
    loader = TorchLoader(make_loader(pictures), device)
    batches = iter(loader)
    next(batches)
    assert len(ours()) > len(before)
    if way == "close":
        loader.close()
    elif way == "drop":
        del batches
    elif way == "exhaust":
        list(batches)
    else:
        batches = iter(loader)
        list(batches)
    gc.collect()
    for thread in ours():
        thread.join(5)
    assert ours() == before
    if way == "close":
        with pytest.raises((StopIteration, ab.LoaderClosed)):
            for _ in range(3):  # two may be there already
                next(batches)


# -- a DataLoader ------------------------------------------------------------------------------------------------------


def test_inside_of_a_dataloader(pictures, expected):
    """For code that insists on one."""
    with TorchLoader(make_loader(pictures)) as loader:
        data = torch.utils.data.DataLoader(loader, batch_size=None)
        assert len(data) == STEPS
        source = loader.loader.source
        for epoch in range(2):
            wanted = [[source[i].label for i in batch] for batch in expected[epoch * STEPS : (epoch + 1) * STEPS]]
            assert [labels.tolist() for _, labels in data] == wanted


@pytest.mark.filterwarnings("ignore")  # that it forks with threads
def test_a_worker_process_is_refused(pictures):
    """Each would read everything."""
    with TorchLoader(make_loader(pictures)) as loader:
        data = torch.utils.data.DataLoader(loader, batch_size=None, num_workers=1)
        with pytest.raises(ab.ConfigError, match="num_workers=0"):
            next(iter(data))


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about machines without a GPU")
def test_without_a_gpu_it_says_so_and_goes_on(pictures):
    with pytest.warns(UserWarning, match="finds none on this machine, so batches stay in memory"):
        loader = TorchLoader(make_loader(pictures), "cuda")
    assert next(iter(loader)).images.device.type == "cpu"
    with pytest.warns(UserWarning, match="pin_memory=True does nothing here"):
        loader = TorchLoader(loader.loader, pin_memory=True)
    assert next(iter(loader)).images.device.type == "cpu"
    loader.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "write device='cuda'"),
        ({"device": []}, "write device='cuda'"),
        ({"pin_memory": 1}, "pin_memory must be True, False or None"),
        ({"channels_first": "yes"}, "channels_first must be True, False or None"),
    ],
)
def test_arguments_that_cannot_be_used(pictures, options, words):
    with make_loader(pictures) as loader, pytest.raises(ab.ConfigError, match=words):
        TorchLoader(loader, **options)


def test_what_is_no_loader(pictures):
    with pytest.raises(ab.ConfigError, match=r"write TorchLoader\(ab\.Loader"):
        TorchLoader(pictures)


def test_labels_that_are_words():
    """A source of one's own may give them; those that ship make class indices of them."""
    words = ab.Batch(np.zeros((2, 3)), np.array(["cat", "dog"]), indices=np.arange(2), keys="ab", epoch=0, step=0)
    with pytest.raises(ab.ConfigError, match=r"the labels are words \('cat', …\)"):
        to_tensors(words)


# -- training ----------------------------------------------------------------------------------------------------------


def small_model():
    torch.manual_seed(0)
    layers = torch.nn
    return layers.Sequential(
        layers.Conv2d(3, 8, 3, stride=2), layers.ReLU(), layers.AdaptiveAvgPool2d(1), layers.Flatten(),
        layers.Linear(8, len(COLOURS)),
    )  # fmt: skip


def accuracy(model, loader):
    with torch.no_grad():
        hits = [model(images.float() / 255 - 0.5).argmax(1) == labels for images, labels in loader]
    return torch.cat(hits).float().mean().item()


def test_a_small_model_learns(pictures):
    """Four classes of coloured noise, 95 % and more of them right where a guess gives 25."""
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    with TorchLoader(make_loader(pictures)) as loader:
        for images, labels in loader.epochs(40):
            loss = torch.nn.functional.cross_entropy(model(images.float() / 255 - 0.5), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert accuracy(model, loader) >= 0.95


@pytest.mark.filterwarnings("default")
def test_lightning_learns(pictures, tmp_path):
    """`train_dataloaders` takes it as it is, and a checkpoint goes on where it was."""
    load_torchvision(torch)
    lightning = pytest.importorskip("lightning", reason="pip install lightning")

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = small_model()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.02)

        def training_step(self, batch, index):
            images, labels = batch
            return torch.nn.functional.cross_entropy(self.net(images.float() / 255 - 0.5), labels)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    model = Model()
    with TorchLoader(make_loader(pictures)) as loader:
        trainer = lightning.Trainer(max_epochs=40, enable_checkpointing=False, default_root_dir=tmp_path, **quiet)
        trainer.fit(model, train_dataloaders=loader)
        assert accuracy(model.net, loader) >= 0.95
