"""How many reads at once: the tuner against storages that are computed, read by read, without a clock."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

import pytest

from asyncbatch.readers import _tuning
from asyncbatch.readers._tuning import MOST, Tuner


@dataclass
class World:
    """A storage in simulated time, and a caller that takes what is read.

    Args:
        latency: Seconds that a read takes when it is alone, by the time.
        spread: Each read's latency is within this share of it.
        servers: How many reads the storage works on at a time; the others queue in it.
        tail: Share of the reads that take 2 s longer.
        demand: Reads a second that the caller takes; `window` more are read ahead of it.
        window: See `demand`.
    """

    latency: object
    spread: float = 0.2
    servers: int = 10**9
    tail: float = 0.0
    demand: float = float("inf")
    window: int = 1000
    now: float = 0.0
    landings: list[float] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)
    most_flying: int = 0

    def run(self, tuner, until):
        """Let the tuner steer reads until some time; return it."""
        dice, number = random.Random(1), itertools.count()  # noqa: S311 - a computed storage, not a secret
        landing, queued, flying, begun = [], [], 0, 0
        while self.now < until:
            room = self.window + min(len(self.landings), self.demand * self.now) - begun
            if self.demand == float("inf"):
                room = 1
            if flying < tuner.limit and room > 0:
                begun, flying = begun + 1, flying + 1
                queued.append((self.now, tuner.generation))
            elif landing and landing[0][0] < until:
                if room <= 0 and landing[0][0] > self.now + 0.001:
                    self.now += 0.001
                    continue
                when, _, began, generation = heapq.heappop(landing)
                self.now, flying = max(self.now, when), flying - 1
                self.landings.append(self.now)
                tuner.landed(self.now - began, generation, is_the_limit=room > 0)
            else:
                self.now += 0.001  # the caller is full, or this is the end
            self.most_flying = max(self.most_flying, flying)
            if not self.limits or self.limits[-1][1] != tuner.limit:
                self.limits.append((self.now, tuner.limit))
            while queued and len(landing) < self.servers:
                began, generation = queued.pop(0)
                late = 2.0 if dice.random() < self.tail else 0.0
                takes = self.latency(self.now) * dice.uniform(1 - self.spread, 1 + self.spread) + late
                heapq.heappush(landing, (self.now + takes, next(number), began, generation))
        return tuner

    def rate(self, begin, end):
        return sum(begin <= when < end for when in self.landings) / (end - begin)


@pytest.fixture
def run(monkeypatch):
    def run(world, until, fixed=None):
        random.seed(7)
        monkeypatch.setattr(_tuning, "monotonic", lambda: world.now)
        return world.run(Tuner(fixed), until)

    return run


def constant(seconds):
    return lambda now: seconds


def test_starts_low(run):
    """A storage is not met with a herd: the first answers come before more than 8 are asked for."""
    world = World(constant(0.03), spread=0.0)
    run(world, 0.029)
    assert world.most_flying == 8
    assert world.landings == []


@pytest.mark.parametrize("seconds", [0.005, 0.03, 0.1])
def test_grows_within_a_few_round_trips(run, seconds):
    """A hundred reads are under way after seven round trips, where the storage has room for them."""
    world = World(constant(seconds))
    assert run(world, 7 * seconds).limit >= 100


@pytest.mark.parametrize("servers", [4, 10, 64, 200])
@pytest.mark.parametrize("seconds", [0.005, 0.1])
@pytest.mark.parametrize("spread", [0.2, 0.8])
def test_finds_what_the_storage_can_do(run, servers, seconds, spread):
    """The rate comes within 7 % of the storage's own, whatever it works on at a time, and not by asking for all."""
    world = World(constant(seconds), spread, servers)
    tuner = run(world, 20.0)
    assert world.rate(5.0, 20.0) > 0.93 * servers / seconds
    assert tuner.limit <= max(64, 4 * servers)


def test_stops_growing_where_the_caller_is_the_limit(run):
    """Reads that nobody waits for teach nothing: with the look-ahead full, the number stays as it is."""
    world = World(constant(0.03), demand=500, window=50)
    run(world, 3.0)
    begun = [limit for when, limit in world.limits if when > 1.0]
    assert len(begun) <= 1
    assert world.rate(1.0, 3.0) == pytest.approx(500, rel=0.05)


def test_a_slow_tail_is_not_taken_for_slow_storage(run):
    """With one read in a hundred 2 s late, as many are tried as without it."""
    world = World(constant(0.1), servers=10**9, tail=0.01, demand=1500, window=4000)
    run(world, 10.0)
    assert world.rate(2.0, 10.0) > 1450


def test_follows_a_mount_that_becomes_slower(run):
    """From 10 ms to 100 ms in mid-epoch: a few seconds later the rate is what 200 servers give."""
    world = World(lambda now: 0.01 if now < 5 else 0.1, servers=200)
    run(world, 15.0)
    assert world.rate(8.0, 15.0) > 0.9 * 200 / 0.1


def test_follows_a_mount_that_becomes_faster(run):
    """From 100 ms to 10 ms likewise."""
    world = World(lambda now: 0.1 if now < 5 else 0.01, servers=50)
    run(world, 15.0)
    assert world.rate(6.0, 15.0) > 0.9 * 50 / 0.01


def test_never_more_than_the_most(run):
    """Growth ends somewhere, even where nothing holds it up."""
    world = World(constant(0.1))
    run(world, 10.0)
    assert world.most_flying <= MOST


def test_fast_storage_gets_groups_and_few_threads(run):
    """Page cache: several files a hop, two hops at once; and when it becomes slow, one file a hop and many hops."""
    world = World(lambda now: 0.0001 if now < 1 else 0.03)
    tuner = run(world, 0.5)
    assert (tuner.limit, tuner.group) == (2, 8)
    world.run(tuner, 3.0)
    assert tuner.group == 1
    assert tuner.limit > 50


def test_fixed_number_is_kept(run):
    """A number that the user set is kept to, on fast storage and on slow; only groups are still formed."""
    world = World(lambda now: 0.0001 if now < 1 else 0.03)
    tuner = run(world, 0.5, fixed=16)
    assert (tuner.limit, tuner.group) == (16, 8)
    world.run(tuner, 3.0)
    assert (tuner.limit, tuner.group) == (16, 1)
    assert world.most_flying == 16


@pytest.mark.parametrize("fixed", [None, 16])
def test_a_hang_ends_groups_for_a_while(fixed):
    """What shares hops with files that hang would wait for them; when reads are fast again they share hops again."""
    tuner = Tuner(fixed)
    tuner.landed(0.0001, tuner.generation, is_the_limit=True)
    assert tuner.group == 8
    tuner.hung()
    assert (tuner.group, tuner.limit) == (1, fixed or 8)
    for _ in range(20):
        tuner.landed(0.0001, tuner.generation, is_the_limit=True)
    assert tuner.group == 8


@pytest.mark.parametrize("fixed", [None, 64])
def test_scarcity_halves_once_and_passes(run, fixed):
    """A herd that fails for want of descriptors halves the number once, not once each; later more is tried again."""
    world = World(constant(0.03))
    tuner = run(world, 1.0, fixed)
    before = tuner.limit
    for _ in range(before):
        tuner.scarce(before)
    assert tuner.limit == before // 2
    world.run(tuner, 5.0)
    assert tuner.limit == before // 2
    world.run(tuner, 40.0)
    assert tuner.limit == before


def test_scarcity_never_stops_reading(run):
    """However often it is halved, one read is left."""
    world = World(constant(0.03))
    tuner = run(world, 1.0)
    for _ in range(20):
        world.now += 1.0
        tuner.scarce(tuner.limit)
    assert tuner.limit == 1
