"""The model of how many workers a trainer needs."""

from __future__ import annotations

import math

import pytest

from bench.ray_model import Cluster


def cluster(**changed):
    plan = {"decode_s": 0.01, "put_s": 0.004, "take_s": 0.01, "batch_size": 32, "picture_bytes": 150_528}
    return Cluster(**{**plan, **changed})


def test_workers_add_up_until_something_else_is_the_limit():
    """One makes 32 pictures in 0.324 s; the trainer's process takes 3,200 a second."""
    assert cluster().speed(1) == pytest.approx(32 / 0.324)
    assert cluster().speed(8) == pytest.approx(8 * 32 / 0.324)
    assert cluster().speed(1000) == pytest.approx(3200)
    assert cluster(network=150_528 * 500).speed(1000) == pytest.approx(500)


@pytest.mark.parametrize("need", [50, 98, 99, 1000, 3100])
def test_the_fewest_workers_that_do(need):
    """One fewer would not."""
    workers = cluster().workers_for(need)
    assert cluster().speed(workers) >= need
    assert workers == 1 or cluster().speed(workers - 1) < need


def test_no_number_of_workers_does_what_the_network_cannot():
    """Nor what the trainer's process cannot."""
    assert cluster(network=150_528 * 500).workers_for(501) is None
    assert cluster(network=math.inf).workers_for(3201) is None
