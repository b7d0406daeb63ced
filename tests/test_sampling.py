"""Orders of samples: one-to-one where they should be, as random as chance, the same whenever they are asked for."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncbatch as ab
from asyncbatch import sampling
from asyncbatch.sampling import _permutation
from asyncbatch.sampling._permutation import Permutation

LARGE = 70_001  # more than are drawn whole, and prime


class Listed:
    """A source that is only as large as it says, with labels if any are given."""

    fingerprint = "listed"

    def __init__(self, size, labels=None):
        self._size = size
        self.labels = labels

    def __len__(self):
        return self._size


def seeds(seed=0, epoch=0):
    return np.random.SeedSequence(seed, spawn_key=(epoch,))


def computed(size, sequence=None):
    """Return a permutation that is computed even where the size is small."""
    whole, _permutation._SMALL = _permutation._SMALL, 0
    try:
        return Permutation(size, sequence or seeds())
    finally:
        _permutation._SMALL = whole


def orders(sampler, size=1000, seed=0, **labels):
    return sampler.order(Listed(size, **labels), seed)


def whole(order, epoch=0):
    return order.indices(epoch, 0, len(order))


# -- the permutation ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_a_computed_order_is_one_to_one(size, seed):
    """Whatever the size, every position holds another thing, and all are there."""
    assert sorted(computed(size, seeds(seed))[np.arange(size)].tolist()) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, LARGE, 2**17, 10**6 + 3])
def test_an_order_is_one_to_one(size):
    """The same, as it comes."""
    assert (np.sort(Permutation(size, seeds())[np.arange(size)]) == np.arange(size)).all()


def test_an_order_is_the_same_in_any_pieces():
    """What is at a position does not depend on what else is asked for."""
    order = Permutation(LARGE, seeds())
    everything = order[np.arange(LARGE)]
    some = np.random.default_rng(1).integers(0, LARGE, 500)
    assert (order[some] == everything[some]).all()
    assert [int(order[np.array([place])][0]) for place in some[:20]] == everything[some[:20]].tolist()


def chi_square(counts):
    """Return by how many standard deviations counts are further from even than chance would have them."""
    mean = counts.mean()
    square = ((counts - mean) ** 2 / mean).sum()
    freedom = counts.size - 1
    return (square - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_each_position_is_uniform_over_seeds(size, place):
    """Over 4,000 seeds a position holds the things of each of 50 parts of the source as often."""
    at = np.array([place % size])
    found = np.array([computed(size, seeds(seed))[at][0] for seed in range(4000)])
    counts = np.bincount(found * 50 // size, minlength=50)
    assert chi_square(counts) < 5


@pytest.mark.parametrize("size", [1000, LARGE, 10**7])
def test_neighbours_are_not_correlated(size):
    """What follows a thing in the order is as likely in any part of the source, and no nearer to it than by chance."""
    found = computed(size)[np.arange(min(size, 200_000))]
    pairs = np.stack([found[:-1], found[1:]]) * 16 // size
    counts = np.bincount(pairs[0] * 16 + pairs[1], minlength=256)
    assert chi_square(counts) < 5
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 5 / np.sqrt(len(found))


@pytest.mark.parametrize("lag", [1, 2, 264, 265])  # 265 is the size of a half for 70,001
def test_differences_are_those_of_chance(lag):
    """Differences of what is at places `lag` apart are spread evenly: no row of the grid that is inside shows."""
    found = computed(LARGE)[np.arange(LARGE)]
    differences = (found[lag:] - found[:-lag]) % LARGE
    assert chi_square(np.bincount(differences * 100 // LARGE, minlength=100)) < 5


def test_two_rounds_would_not_do(monkeypatch):
    """Positive control: with two rounds instead of six the same statistics see the pattern."""
    monkeypatch.setattr(_permutation, "_ROUNDS", 2)
    found = computed(LARGE)[np.arange(LARGE)]
    worst = max(
        chi_square(np.bincount((found[lag:] - found[:-lag]) % LARGE * 100 // LARGE, minlength=100))
        for lag in (1, 2, 264, 265)
    )
    assert worst > 50


def test_epochs_are_independent():
    """Two epochs have a thing at the same place about once, as two random orders have, and do not go together."""
    one, other = (computed(LARGE, seeds(7, epoch))[np.arange(LARGE)] for epoch in (0, 1))
    assert (one == other).sum() < 8
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(LARGE)
    counts = np.bincount(one * 16 // LARGE * 16 + other * 16 // LARGE, minlength=256)
    assert chi_square(counts) < 5


# -- the samplers ------------------------------------------------------------------------------------------------------

SAMPLERS = [
    sampling.Sequential(),
    sampling.Shuffle(),
    sampling.BlockShuffle(10, 4),
    sampling.BlockShuffle(7, 3),
    sampling.BlockShuffle(5000),
    sampling.WithReplacement(),
    sampling.WithReplacement(333),
    sampling.Weighted(np.arange(1000)),
    sampling.ClassBalanced(),
    sampling.as_sampler(list(range(999, -1, -1)), shuffle=False),
    sampling.as_sampler(lambda epoch: np.roll(np.arange(1000), epoch), shuffle=False),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: f"{sampler!r:.40}")
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), epoch=st.integers(0, 9), ends=st.tuples(st.integers(0, 1000), st.integers(0, 1000)))
def test_any_piece_is_a_piece_of_the_whole(sampler, seed, epoch, ends):
    """An order asked for in pieces, in any order, is the order as a whole."""
    labels = np.arange(1000) % 7
    order, again = (orders(sampler, seed=seed, labels=labels) for _ in range(2))
    start, stop = sorted(min(end, len(order)) for end in ends)
    again.indices(epoch + 1, 0, 5)
    piece = again.indices(epoch, start, stop)
    assert piece.dtype == np.int64
    assert piece.tolist() == whole(order, epoch)[start:stop].tolist()


@pytest.mark.parametrize("sampler", [sampling.Shuffle(), sampling.BlockShuffle(10, 4)], ids=repr)
def test_threads_of_two_epochs_do_not_mix(sampler):
    """An iteration that ends may still ask for its epoch while the next one asks for another."""
    order = orders(sampler, 5000)
    expected = [whole(orders(sampler, 5000), epoch).tolist() for epoch in range(2)]

    def ask(epoch):
        places = np.random.default_rng(epoch).integers(0, 4990, 2000).tolist()
        return all(order.indices(epoch, at, at + 10).tolist() == expected[epoch][at : at + 10] for at in places)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(ask, [0, 1]))
    finally:
        sys.setswitchinterval(before)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 300), block=st.integers(1, 60), window=st.integers(1, 9), seed=st.integers(0, 2**32),
    epoch=st.integers(0, 5),
)  # fmt: skip
def test_block_shuffle_has_every_sample_once(size, block, window, seed, epoch):
    """However block, window and size fit together."""
    order = orders(sampling.BlockShuffle(block, window), size, seed)
    assert sorted(whole(order, epoch).tolist()) == list(range(size))


def test_block_shuffle_keeps_reads_local():
    """A window's samples come from its blocks alone, mixed; and other blocks meet in another epoch."""
    order = orders(sampling.BlockShuffle(100, 4), 10_000)
    first, second = (whole(order, epoch) // 100 for epoch in (0, 1))
    windows = [set(first[at : at + 400].tolist()) for at in range(0, 10_000, 400)]
    assert [len(blocks) for blocks in windows] == [4] * 25
    assert len(set(first[:8].tolist())) > 1
    assert windows != [set(second[at : at + 400].tolist()) for at in range(0, 10_000, 400)]


def test_the_short_block_has_no_place_of_its_own():
    """The last block, which is shorter, is as likely at any place of the order as the others."""
    epochs = [whole(orders(sampling.BlockShuffle(10, 1), 95, seed)).tolist() for seed in range(2000)]
    places = [epoch.index(94) // 10 for epoch in epochs]
    assert chi_square(np.bincount(places, minlength=10)) < 5


def test_with_replacement_is_uniform_and_repeats():
    """All samples are as likely, some come more than once, and epochs differ."""
    order = orders(sampling.WithReplacement(100_000), 100)
    assert chi_square(np.bincount(whole(order), minlength=100)) < 5
    assert len(set(orders(sampling.WithReplacement()).indices(0, 0, 1000).tolist())) < 700
    assert (order.indices(0, 0, 50) != order.indices(1, 0, 50)).any()


def test_weights_are_kept():
    """A sample is as likely as its weight says, and never with a weight of 0."""
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0, 0.0])
    counts = np.bincount(whole(orders(sampling.Weighted(weights, 80_000), 6)), minlength=6)
    assert counts[[0, 3, 5]].tolist() == [0, 0, 0]
    assert counts[[1, 2, 4]] == pytest.approx([10_000, 20_000, 50_000], rel=0.05)


def test_classes_are_balanced():
    """A class of three samples comes as often as one of 990."""
    labels = np.array([0] * 990 + [1] * 7 + [5] * 3)
    drawn = labels[whole(orders(sampling.ClassBalanced(30_000), labels=labels))]
    assert np.bincount(drawn)[[0, 1, 5]] == pytest.approx([10_000] * 3, rel=0.05)


def test_fingerprints_tell_orders_apart():
    """What draws another order from the same source has another fingerprint; what draws the same has the same."""
    labels = np.arange(1000) % 7
    prints = [orders(sampler, labels=labels).fingerprint for sampler in SAMPLERS]
    assert len(set(prints)) == len(prints)
    assert prints == [orders(sampler, labels=labels).fingerprint for sampler in SAMPLERS]
    other = sampling.Weighted(np.arange(1000)[::-1])
    assert orders(other).fingerprint != orders(sampling.Weighted(np.arange(1000))).fingerprint


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: sampling.BlockShuffle(0), "block must be a whole number of at least 1"),
        (lambda: sampling.BlockShuffle(10, 0), "window must be a whole number"),
        (lambda: sampling.WithReplacement(0), "samples must be a whole number"),
        (lambda: sampling.Weighted([]), "weights must be numbers of 0 or more"),
        (lambda: sampling.Weighted([0, 0]), "not all 0"),
        (lambda: sampling.Weighted([1, -1]), "weights must be numbers"),
        (lambda: sampling.Weighted([1, float("nan")]), "weights must be numbers"),
        (lambda: sampling.Weighted("heavy"), "weights must be numbers"),
        (lambda: orders(sampling.Weighted([1, 2])), "there are 2 for the source's 1,000"),
        (lambda: orders(sampling.ClassBalanced()), "ClassBalanced is for sources whose labels are one class each"),
        (lambda: orders(sampling.ClassBalanced(), labels=np.zeros(1000)), r"write sampler=Weighted\(weights\)"),
        (lambda: sampling.as_sampler([0], shuffle=True), "leave shuffle out"),
        (lambda: sampling.as_sampler(sampling.Shuffle, shuffle=False), "sampler must be a sampler such as"),
        (lambda: sampling.as_sampler(3, shuffle=False), "sampler must be a sampler such as"),
        (lambda: sampling.as_sampler("random", shuffle=False), "got 'random'; for a random order write shuffle=True"),
        (lambda: orders(sampling.as_sampler([0, 1000], shuffle=False)), "sampler holds 1000 at position 1"),
        (lambda: orders(sampling.as_sampler([0.5], shuffle=False)), "whole numbers from 0 to 999"),
        (
            lambda: orders(sampling.as_sampler(lambda epoch: [-1], shuffle=False)),
            r"sampler\(0\) holds -1 at position 0",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_words(wrong, words):
    """Every error names what was given and what is wanted."""
    with pytest.raises(ab.ConfigError, match=words):
        wrong()


def test_epochs_of_a_function_have_one_length():
    """A function of the epoch that returns fewer indices than before is told so, as the loop's error."""
    order = orders(sampling.as_sampler(lambda epoch: range(10 - epoch), shuffle=False))
    assert order.indices(0, 0, 10).tolist() == list(range(10))
    with pytest.raises(ab.ConfigError, match=r"sampler\(1\) returned 9 indices and sampler\(0\) 10"):
        order.indices(1, 0, 5)
