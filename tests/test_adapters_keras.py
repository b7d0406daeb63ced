"""`adapters.keras` in real `fit`, `evaluate` and `predict`, on the backends that are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from coloured import write_coloured

import asyncbatch as ab

COUNT, BATCH, STEPS = 60, 8, 8

pytestmark = [
    pytest.mark.framework,
    pytest.mark.skipif(find_spec("keras") is None, reason="pip install 'asyncbatch[keras]'"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), COUNT)


PRELUDE = """
import json, sys, warnings
import numpy as np
import asyncbatch as ab
import keras
from asyncbatch.adapters.keras import KerasDataset, generator
warnings.filterwarnings("error", message=".*ran out of data.*")
pictures = None

def make_loader(**options):
    return ab.Loader(pictures, **{"batch_size": 8, "image_size": 24, "shuffle": True, "seed": 3, **options})

def numbered(count=60, **options):
    # Each row is its own index, so that what a model was trained on can be read off its inputs.
    x = np.arange(count, dtype=np.float32)[:, None]
    return ab.Loader(ab.sources.arrays(x, x), **{"batch_size": 8, "shuffle": True, "seed": 3, **options})

class Recorder(keras.Model):
    # Notes down every row that a step is made with; run_eagerly keeps it Python.
    def __init__(self):
        super().__init__()
        self.dense, self.seen = keras.layers.Dense(1), []
    def call(self, x, training=False):
        if not isinstance(x, keras.KerasTensor):
            try:
                self.seen.append(keras.ops.convert_to_numpy(x)[:, 0].astype(int).tolist())
            except Exception:
                pass  # symbolic: the model is being built
        return self.dense(x)

def recorder():
    model = Recorder()
    model.compile("sgd", "mse", run_eagerly=True)
    return model

def rows(batches):
    return [batch.indices.tolist() for batch in batches]
"""


SERVE = """
for line in sys.stdin:
    script, pictures = json.loads(line)
    exec(script, dict(globals()))
    print("done", flush=True)
"""


class Backend:
    """A process that computes by one of Keras's backends and runs scripts; to import the two takes seconds.

    Attributes:
        name: The backend's, which Keras has to know before it is imported.
    """

    def __init__(self, name, folder):
        self.name = name
        self._errors = (folder / "stderr").open("w+", encoding="utf-8")
        environment = {**os.environ, "KERAS_BACKEND": name, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["PYTHONPATH"] = str(Path(ab.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + SERVE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment,
        )  # fmt: skip

    def run(self, script, pictures=None):
        """Run a script, and return what it prints last as JSON."""
        if self._process.poll() is None:
            self._process.stdin.write(json.dumps([textwrap.dedent(script), pictures and str(pictures)]) + "\n")
            self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line == "done\n":
                return json.loads(lines[-1])
            lines.append(line)
        self._errors.seek(0)
        pytest.fail("".join(lines) + self._errors.read())

    def close(self):
        """Return how it ended: by itself, if nothing hangs in it."""
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            self._errors.close()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"pip install {name}"))
        for name in ("torch", "jax")
    ],
)
def backend(request, tmp_path_factory):
    backend = Backend(request.param, tmp_path_factory.mktemp(request.param))
    yield backend
    assert backend.close() == 0


def test_a_small_model_learns(backend, pictures):
    """`fit`, `evaluate` and `predict` without a number of steps: 95 % right where a guess gives 25."""
    script = """
        layers = keras.layers
        keras.utils.set_random_seed(0)
        model = keras.Sequential([
            layers.Rescaling(1 / 255, -0.5), layers.Conv2D(8, 3, 2, activation="relu"),
            layers.GlobalAveragePooling2D(), layers.Dense(4),
        ])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
        data, check = KerasDataset(make_loader()), KerasDataset(make_loader(shuffle=False))
        history = model.fit(data, epochs=25, validation_data=check, verbose=0)
        _, accuracy = model.evaluate(check, verbose=0)
        predicted = model.predict(KerasDataset(make_loader(shuffle=False)), verbose=0).argmax(1)
        labels = np.concatenate([labels for _, labels in make_loader(shuffle=False)])
        print(json.dumps([len(history.history["loss"]), accuracy, float((predicted == labels).mean())]))
    """
    epochs, accuracy, predicted = backend.run(script, pictures)
    assert epochs == 25
    assert accuracy >= 0.95
    assert predicted == pytest.approx(accuracy)


def test_a_loop_between_two_fits(backend):
    """Somebody else may go over the loader in between; a fit goes on with the epoch after that."""
    script = """
        model, loader = recorder(), numbered()
        data = KerasDataset(loader)
        model.fit(data, epochs=1, verbose=0)
        between = rows(loader)
        model.fit(data, epochs=1, verbose=0)
        wanted = rows(numbered().epochs(3))
        print(json.dumps([between == wanted[8:16], model.seen[-8:] == wanted[16:]]))
    """
    assert backend.run(script) == [True, True]


def test_an_epoch_of_keras_is_one_of_the_loader(backend):
    """In its order, each sample once, though Keras shuffles batch numbers and looks at a batch before it begins."""
    script = """
        model = recorder()
        data = KerasDataset(numbered())
        model.fit(data, epochs=3, verbose=0)
        again = data.state_dict()
        model.fit(data, epochs=1, verbose=0)
        wanted = numbered()
        expected = rows(wanted.epochs(4))
        print(json.dumps([model.seen[-len(expected):] == expected, len(model.seen) - len(expected), again["epoch"]]))
    """
    same, looked, epoch = backend.run(script)
    assert same
    assert looked <= 2  # what the model was built with
    assert epoch == 3


def test_evaluate_and_predict_begin_at_the_beginning(backend):
    """Each time, also after a part of it only."""
    script = """
        model = recorder()
        data = KerasDataset(numbered(shuffle=False))
        model.evaluate(data, steps=3, verbose=0)
        model.seen.clear()
        model.evaluate(data, verbose=0)
        first = list(model.seen)
        model.seen.clear()
        predicted = model.predict(data, verbose=0)
        print(json.dumps([first == rows(numbered(shuffle=False)), model.seen == first, len(predicted)]))
    """
    assert backend.run(script) == [True, True, 60]


def test_steps_for_ever(backend):
    """`repeat` goes on over the loader's epochs, and over several calls of `fit`, without a batch lost or twice."""
    script = """
        model = recorder()
        data = KerasDataset(numbered(), repeat=True)
        for _ in range(3):
            model.fit(data, steps_per_epoch=3, epochs=2, verbose=0)
        for _ in range(3):
            model.fit(data, steps_per_epoch=1, epochs=1, verbose=0)
        expected = rows(numbered().epochs(3))
        print(json.dumps([model.seen[-21:], expected]))
    """
    seen, expected = backend.run(script)
    if backend.name == "torch":
        assert seen == expected[:21]
    else:  # JAX's trainer takes two batches ahead, and drops them at the end of each `fit`
        assert seen[:6] == expected[:6]
        assert len({tuple(batch) for batch in seen}) == 21


@pytest.mark.parametrize("backend", ["torch"], indirect=True)
def test_a_generator(backend):
    """For those who prefer one."""
    script = """
        model = recorder()
        model.fit(generator(numbered()), steps_per_epoch=8, epochs=2, verbose=0)
        print(json.dumps([model.seen, rows(numbered().epochs(2))]))
    """
    seen, expected = backend.run(script)
    assert seen[-len(expected) :] == expected


@pytest.mark.parametrize("backend", ["torch"], indirect=True)
def test_weights(backend):
    """Of classes by `fit`, of samples by the adapter: a weight of 0 is as if the sample were not there."""
    script = """
        x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
        y = np.arange(40) % 2
        def trained(loader, weights=None, **options):
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.layers.Dense(2)])
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"))
            model.fit(KerasDataset(loader, sample_weight=weights), epochs=2, verbose=0, **options)
            return np.concatenate([w.ravel() for w in model.get_weights()])
        def loader(x, y):
            return ab.Loader(ab.sources.arrays(x, y), batch_size=len(x))
        alone = trained(loader(x[y == 1], y[y == 1]))
        by_class = trained(loader(x, y), class_weight={0: 0.0, 1: 1.0})
        by_sample = trained(loader(x, y), y.astype(float))
        by_function = trained(loader(x, y), lambda batch: batch.labels.astype("float32"))
        print(json.dumps([float(abs(alone - other).max()) for other in (by_class, by_sample, by_function)]))
    """
    assert max(backend.run(script)) < 1e-5


# -- labels, which no backend has to do with ---------------------------------------------------------------------------


@pytest.fixture
def dataset(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch" if find_spec("torch") else "jax")
    from asyncbatch.adapters.keras import KerasDataset

    return KerasDataset


def make(y, **options):
    return ab.Loader(ab.sources.arrays(np.zeros((len(y), 2)), np.asarray(y)), batch_size=len(y), **options)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("y", "options", "wanted"),
    [
        ([0, 2, 1], {}, [0, 2, 1]),
        ([0, 2, 1], {"labels": "categorical", "classes": 4}, [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]),
        ([0, 1], {"labels": "binary"}, [[0], [1]]),
        ([[0.5, 1.5], [2.5, 3.5]], {}, [[0.5, 1.5], [2.5, 3.5]]),
    ],
)
def test_labels(dataset, y, options, wanted):
    _, labels = dataset(make(y), **options)[0]
    np.testing.assert_array_equal(labels, wanted)


@pytest.mark.filterwarnings("default")
def test_classes_are_those_that_the_source_names(dataset, pictures):
    loader = ab.Loader(pictures, batch_size=8, image_size=24)
    assert dataset(loader, labels="categorical")[0][1].shape == (8, 4)
    assert dataset(ab.Loader(ab.sources.arrays(np.zeros((4, 2))), batch_size=2))[0][0].shape == (2, 2)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("y", "options", "words"),
    [
        ([0, 1], {"labels": "one-hot"}, "labels must be 'int', 'categorical' or 'binary'"),
        ([0, 1], {"labels": "categorical"}, "write classes=10"),
        ([0, 2], {"labels": "binary"}, "label 2 is none of the 2 classes"),
        ([0, 5], {"labels": "categorical", "classes": 3}, "write labels='categorical', classes=6"),
        ([0.5, 1.5], {"labels": "categorical", "classes": 3}, "write labels='int'"),
        ([0, 1], {"sample_weight": [1.0, 2.0, 3.0]}, r"sample_weight must be \(2,\)"),
    ],
)
def test_arguments_that_cannot_be_used(dataset, y, options, words):
    with pytest.raises(ab.ConfigError, match=words):
        dataset(make(y), **options)[0]
