"""`adapters.jax`: arrays on the devices ahead of use, sharded, and a state that counts what the caller has."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from coloured import COLOURS, write_coloured

import asyncbatch as ab

jax = pytest.importorskip("jax", reason="pip install jax")
from asyncbatch.adapters.jax import JaxLoader  # noqa: E402 - it needs JAX

COUNT, BATCH, STEPS = 60, 8, 8

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), COUNT)


def make_loader(pictures, **options):
    return ab.Loader(pictures, **{"batch_size": BATCH, "image_size": 24, "shuffle": True, "seed": 3, **options})


def on_devices(count, script, *arguments):
    """Run a script where JAX sees so many devices, which it has to know before it is imported."""
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(ab.__file__).parents[1]), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True, text=True, timeout=100, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_batches_are_those_of_the_loader(pictures):
    """Values, order and attributes, over two shuffled epochs."""
    with make_loader(pictures) as loader, JaxLoader(make_loader(pictures)) as arrays:
        assert len(arrays) == STEPS
        for batch, made in zip(loader.epochs(2), arrays.epochs(2), strict=True):
            images, labels = made
            assert isinstance(images, jax.Array)
            np.testing.assert_array_equal(images, batch.images)
            np.testing.assert_array_equal(labels, batch.labels)
            assert made.indices.tolist() == batch.indices.tolist()
            assert (made.keys, made.epoch, made.step) == (batch.keys, batch.epoch, batch.step)


def test_an_array_that_is_kept_never_changes(pictures):
    """On a CPU a JAX array may be the loader's memory itself, which is used again only when nothing has it."""
    with JaxLoader(make_loader(pictures, prefetch=1)) as loader:
        kept = [batch.images for batch in loader.epochs(3)]
    with make_loader(pictures) as loader:
        for images, batch in zip(kept, loader.epochs(3), strict=True):
            np.testing.assert_array_equal(images, batch.images)


@pytest.mark.parametrize("taken", [0, 3, STEPS, STEPS + 3])
def test_the_state_counts_what_the_caller_has(pictures, taken):
    """The thread is two batches ahead, and these are not lost."""
    with make_loader(pictures) as plain:
        expected = [batch.indices.tolist() for batch in plain.epochs(3)]
    with JaxLoader(make_loader(pictures)) as loader:
        batches = loader.epochs(3)
        for _ in range(taken):
            next(batches)
        state = loader.state_dict()
    with JaxLoader(make_loader(pictures)) as loader:
        loader.load_state_dict(state)
        got = [batch.indices.tolist() for batch in loader.epochs(3 - taken // STEPS)]
    assert got == expected[taken:]


def test_sharded_over_four_devices(pictures):
    """Each device has its rows; a batch that cannot be shared out is an error that says what to write."""
    script = """
        import sys, jax, numpy as np, asyncbatch as ab
        from jax.sharding import NamedSharding, PartitionSpec
        from asyncbatch.adapters.jax import JaxLoader
        assert len(jax.devices()) == 4
        def loader(**options):
            return ab.Loader(sys.argv[1], image_size=24, shuffle=True, seed=3, **{"batch_size": 8, **options})
        plain = [batch.images for batch in loader()]
        with JaxLoader(loader()) as arrays:
            assert isinstance(arrays.sharding, NamedSharding) and arrays.sharding.spec == PartitionSpec("batch")
            for images, (made, labels) in zip(plain, arrays, strict=True):
                shards = sorted(made.addressable_shards, key=lambda shard: shard.index[0].start)
                assert [shard.data.shape[0] for shard in shards] == [len(images) // 4] * 4
                assert len({shard.device for shard in shards}) == 4
                np.testing.assert_array_equal(np.concatenate([shard.data for shard in shards]), images)
                assert labels.sharding == made.sharding
        with JaxLoader(loader(batch_size=6)) as arrays:
            try:
                next(iter(arrays))
            except ab.ConfigError as error:
                print(error)
        whole = NamedSharding(arrays.sharding.mesh, PartitionSpec())
        with JaxLoader(loader(batch_size=6), whole) as arrays:
            assert next(iter(arrays)).images.sharding == whole
    """
    message = on_devices(4, script, pictures)
    assert "a batch of 6 cannot be laid out" in message
    assert "write drop_last=True, and a batch_size that is a multiple of the devices" in message


def test_arguments_that_cannot_be_used(pictures):
    with make_loader(pictures) as loader, pytest.raises(ab.ConfigError, match="write NamedSharding"):
        JaxLoader(loader, "batch")
    with pytest.raises(ab.ConfigError, match=r"write JaxLoader\(ab\.Loader"):
        JaxLoader(pictures)


def test_a_small_model_learns(pictures):
    """Four classes of coloured noise by the mean colour: 95 % right where a guess gives 25."""

    def features(images):
        return images.astype(jax.numpy.float32).mean((1, 2)) / 25 - 5

    def loss(weights, images, labels):
        matrix, bias = weights
        logits = jax.nn.log_softmax(features(images) @ matrix + bias)
        return -jax.numpy.take_along_axis(logits, labels[:, None], 1).mean()

    step = jax.jit(lambda weights, *batch: jax.tree.map(lambda w, g: w - g, weights, jax.grad(loss)(weights, *batch)))
    weights = jax.numpy.zeros((3, len(COLOURS))), jax.numpy.zeros(len(COLOURS))
    with JaxLoader(make_loader(pictures)) as loader:
        for images, labels in loader.epochs(30):
            weights = step(weights, images, labels)
        hits = [(features(images) @ weights[0] + weights[1]).argmax(1) == labels for images, labels in loader]
    assert np.concatenate(hits).mean() >= 0.95
