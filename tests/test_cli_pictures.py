"""The demo's drawn pictures and the network that learns them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from asyncbatch.cli.classifier import Classifier, features
from asyncbatch.cli.pictures import KINDS, draw_picture, write_pictures


def _drawn(count, seed, size=96):
    images = [draw_picture(KINDS[i % len(KINDS)], np.random.default_rng((seed, i))) for i in range(count)]
    labels = np.arange(count, dtype=np.int64) % len(KINDS)
    return np.stack([cv2.resize(image, (size, size)) for image in images]).astype(np.float32) / 255, labels


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_a_function_of_its_seed(kind):
    """The same seed draws the same picture, another seed another one; none is blank or of an unstated size."""
    first, again, other = (draw_picture(kind, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()
    assert first.dtype == np.uint8
    assert 120 <= min(first.shape[:2]) <= max(first.shape[:2]) <= 200
    assert first.std() > 20


def test_a_larger_set_begins_with_the_smaller(tmp_path):
    """The number of pictures changes none of them, and every fifth of a kind is for testing."""
    small = list(write_pictures(tmp_path / "small", 36, seed=1))
    large = list(write_pictures(tmp_path / "large", 60, seed=1))
    assert [p.read_bytes() for p in small] == [p.read_bytes() for p in large[:36]]
    assert len(set(large)) == 60
    assert sum(p.parts[-3] == "test" for p in large) == 12
    assert {p.parent.name for p in large} == set(KINDS)
    assert cv2.imread(str(large[0])).ndim == 3


def test_features_forget_place_and_turn():
    """A pattern that is turned by a quarter and shifted keeps nearly its features; another pattern does not."""
    y, x = np.mgrid[0:96, 0:96]

    def patch(wave):
        return np.repeat((0.5 + 0.5 * wave)[None, ..., None], 3, axis=3).astype(np.float32)

    stripes, turned = patch(np.sin(x / 3)), patch(np.sin(y / 3 + 1))
    checks = patch(np.sin(x / 3) * np.sin(y / 3))
    one, same, other = (features(image)[0] for image in (stripes, turned, checks))
    assert np.corrcoef(one, same)[0, 1] > 0.99
    assert np.corrcoef(one, other)[0, 1] < 0.8


def test_the_classifier_learns():
    """Trained on drawn pictures it names most of others rightly, where an untrained one guesses."""
    images, labels = _drawn(240, seed=0)
    unseen, truth = _drawn(60, seed=1)
    model = Classifier(len(KINDS), seed=0)
    untrained = (model.predict(unseen) == truth).mean()
    order = np.random.default_rng(0)
    losses = []
    for _ in range(10):
        shuffled = order.permutation(len(images))
        losses.append([model.learn(images[rows], labels[rows]) for rows in np.split(shuffled, 8)])
    assert untrained < 0.5
    assert np.mean(losses[-1]) < 0.2 * np.mean(losses[0])
    assert (model.predict(unseen) == truth).mean() > 0.8
