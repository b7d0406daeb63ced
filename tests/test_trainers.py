"""Real trainers that save a loader's state in their checkpoints: what is resumed is what would have followed."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from conftest import load_torchvision

import asyncbatch as ab

COUNT, BATCH, EPOCHS = 60, 8, 3
STEPS = 8  # an epoch, the last one smaller

pytestmark = [
    pytest.mark.framework,
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
    pytest.mark.timeout(120),
]


@pytest.fixture(autouse=True)
def _torchvision():
    """Let torchvision be imported, which both trainers do where it is."""
    load_torchvision(pytest.importorskip("torch"))


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        folder = tmp_path / "pictures" / str(index % 4)
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{index:02d}.jpg"), rng.integers(0, 255, (40, 40, 3), np.uint8))
    return tmp_path / "pictures"


def make_loader(pictures):
    return ab.Loader(pictures, batch_size=BATCH, image_size=32, shuffle=True, seed=3)


@pytest.fixture
def expected(pictures):
    """The indices of every step of an uninterrupted run."""
    with make_loader(pictures) as loader:
        return [batch.indices.tolist() for batch in loader.epochs(EPOCHS)]


# -- what all of them do -----------------------------------------------------------------------------------------------


def test_an_iterator_that_gave_nothing_uses_up_no_epoch(pictures):
    """Some ask for an iterator only to see that there is one."""
    with make_loader(pictures) as loader:
        iter(loader)
        iter(loader)
        assert [batch.epoch for batch in loader] == [0] * STEPS
        iter(loader)
        next(iter(loader))
        assert next(iter(loader)).epoch == 2


def test_a_state_holds_when_its_epoch_is_set_after_it(pictures, expected):
    """A loop that sets the epoch each time goes on within the one that was resumed; another epoch begins anew."""
    with make_loader(pictures) as loader:
        iterator = iter(loader)
        for _ in range(3):
            next(iterator)
        state = loader.state_dict()
    with make_loader(pictures) as loader:
        loader.load_state_dict(state)
        seen = []
        for epoch in range(state["epoch"], EPOCHS):
            loader.set_epoch(epoch)
            seen += [batch.indices.tolist() for batch in loader]
        assert seen == expected[3:]
        loader.load_state_dict(state)
        loader.set_epoch(1)
        assert [batch.indices.tolist() for batch in loader] == expected[STEPS : 2 * STEPS]


def test_a_batch_can_be_rebuilt_as_trainers_do(pictures):
    """`type(batch)(items)`, with what was made of the images and labels, is a tuple of these."""
    with make_loader(pictures) as loader:
        batch = next(iter(loader))
    assert type(batch)([1, 2]) == (1, 2)
    assert type(batch)(part for part in batch)[0] is batch.images
    assert type(type(batch)([1, 2])) is tuple


# -- Lightning ---------------------------------------------------------------------------------------------------------


def fit(pictures, folder, seen, **options):
    lightning = pytest.importorskip("lightning")
    torch = pytest.importorskip("torch")
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(3, 4)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

        def on_before_batch_transfer(self, batch, index):
            seen.append(batch.indices.tolist())
            return tuple(torch.from_numpy(part) for part in batch)

        def training_step(self, batch, index):
            images, labels = batch
            return torch.nn.functional.cross_entropy(self.net(images.float().mean((1, 2)) / 255), labels)

    every = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
    stop = options.pop("stop", None)
    with make_loader(pictures) as loader:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = lightning.Trainer(max_epochs=EPOCHS, callbacks=[every], max_steps=stop or -1, **quiet)
        trainer.fit(Model(), loader, **options)


@pytest.mark.parametrize("step", [3, STEPS - 1, STEPS + 2])
def test_lightning(pictures, expected, tmp_path, step):
    """The loader is given as it is; a checkpoint within an epoch holds its state, and a run goes on from there."""
    first, rest = [], []
    fit(pictures, tmp_path / "checkpoints", first, stop=step)
    fit(pictures, tmp_path / "again", rest, ckpt_path=tmp_path / "checkpoints" / f"step={step}.ckpt", weights_only=True)
    assert first == expected[:step]
    assert rest == expected[step:]


# -- Hugging Face ------------------------------------------------------------------------------------------------------


def train(pictures, folder, seen, resume=None, stop=-1):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")

    class Dicts:
        """What Trainer takes: dicts of tensors. It has no `set_epoch`: there is nothing to be told."""

        def __len__(self):
            return len(loader)

        def __iter__(self):
            for batch in loader:
                seen.append(batch.indices.tolist())
                yield {"images": torch.from_numpy(batch.images), "labels": torch.from_numpy(batch.labels)}

    class KeepState(transformers.TrainerCallback):
        def on_save(self, args, state, control, **others):
            (folder / f"checkpoint-{state.global_step}" / "loader.json").write_text(json.dumps(loader.state_dict()))

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self):
            return Dicts()

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(3, 4)

        def forward(self, images, labels):
            loss = torch.nn.functional.cross_entropy(self.net(images.float().mean((1, 2)) / 255), labels)
            return {"loss": loss}

    arguments = transformers.TrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        max_steps=stop,
        save_steps=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        ignore_data_skip=True,  # the loader does not have to be fast-forwarded
    )
    with make_loader(pictures) as loader:
        if resume is not None:
            loader.load_state_dict(json.loads((resume / "loader.json").read_text()))
        Trainer(Model(), arguments, callbacks=[KeepState()]).train(resume_from_checkpoint=resume and str(resume))


@pytest.mark.parametrize("step", [3, STEPS, STEPS + 2])
def test_hugging_face_trainer(pictures, expected, tmp_path, step):
    """With the state beside its checkpoint, a run goes on with the batch that would have followed."""
    first, rest = [], []
    train(pictures, tmp_path / "out", first, stop=step)
    train(pictures, tmp_path / "again", rest, resume=tmp_path / "out" / f"checkpoint-{step}")
    assert first[:step] == expected[:step]
    assert rest == expected[step:]


def test_torch_save(pictures, expected, tmp_path):
    """A state is saved and loaded as plain data."""
    torch = pytest.importorskip("torch")
    with make_loader(pictures) as loader:
        iterator = iter(loader)
        for _ in range(5):
            next(iterator)
        torch.save({"loader": loader.state_dict()}, tmp_path / "checkpoint.pt")
    with make_loader(pictures) as loader:
        loader.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["loader"])
        assert [batch.indices.tolist() for batch in loader.epochs(EPOCHS)] == expected[5:]
