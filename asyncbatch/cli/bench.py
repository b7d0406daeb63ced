"""`asyncbatch bench`: the loop by hand against asyncbatch on the user's own pictures."""

from __future__ import annotations

import argparse
import time
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

import asyncbatch as ab
from asyncbatch.cli.arguments import Commands, add_image_size, add_path, number, source_of, whole
from asyncbatch.cli.race import Recorder, Run, by_hand, like_by_hand, quiet_opencv, race
from asyncbatch.cli.report import HAND, OURS, comparison, explain_hand, explain_ours
from asyncbatch.cli.terminal import CommandError, need

__all__ = ["add_to", "run"]

TURNS = 4  # for each contender, so that storage that is faster now and slower then favours neither
TURN = (
    20  # batches that a turn has at least, lest start-up count for more than it does in training; small sets get fewer
)

ENOUGH = 1.0  # seconds of measuring, below which few pictures are read again and again
LONGER = 1.5  # seconds of each of the two turns in which they are: filling the window of `read_ahead` takes a part
ROUGH = 0.5  # seconds, below which a ratio is one of start-up times
IN_MEMORY = 0.002  # seconds a picture that the loop by hand waits for storage at most when it is in page cache
NO_SLOWER = 1.5  # times as long as later on, and the first reading was like the later ones

FAIRNESS = """\
Each picture is read at most once, by one contender only, so neither finds what the other brought into memory.
Pictures that the system holds in memory already, from before, are fast for both. Starting up counts."""
AGAIN = """\
The pictures are few, so each contender read its half of them over and over, as they were: this storage gives them as
fast the second time. Pictures that are read for the first time may be slower. Starting up counts."""


class Part:
    """Some samples of a source, as a source of its own."""

    def __init__(self, source: ab.Source, indices: NDArray[np.int64]) -> None:
        self._source = source
        self._indices = indices
        self.fingerprint = f"{source.fingerprint}, a part"

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> ab.Sample:
        return self._source[int(self._indices[index])]


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="compare the loop by hand with asyncbatch on your own pictures",
        description="Reads your pictures with a plain loop (cv2.imread, cv2.resize, / 255) and with asyncbatch, in "
        "turns, and says how fast each is and where the time goes. Nothing is written.",
        epilog="example: asyncbatch bench /mnt/photos --batch-size 64 --step 100",
    )
    add_path(parser)
    parser.add_argument(
        "--batch-size", metavar="N", type=whole(1, 65536), default=32, help="pictures a batch (default: 32)"
    )
    add_image_size(parser)
    parser.add_argument(
        "--seconds", metavar="S", type=number(0.1, 300), default=10.0,
        help="how long each may take in all; a batch under way is awaited (default: 10)",
    )  # fmt: skip
    parser.add_argument(
        "--batches",
        metavar="N",
        type=whole(1, 10**9),
        help="how many batches each may take at most (default: no limit)",
    )
    parser.add_argument(
        "--step", type=number(0, 60_000), default=0.0, metavar="MS",
        help="how long your training step takes a batch, in milliseconds; it is slept through (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="S", type=whole(0, 2**63 - 1), default=0, help="which pictures each gets is drawn by it"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    need("tqdm", "cli")
    batch_size, size, stepped = arguments.batch_size, arguments.image_size, arguments.step > 0
    print(f"Listing {arguments.path}")
    with ab.Loader(source_of(arguments), batch_size=batch_size, image_size=size) as loader:
        source = loader.source
    print(
        f"{len(source):,} pictures; batches of {batch_size} at {size[0]} × {size[1]}, float32 in [0, 1]; "
        f"{arguments.seconds:g} s for each at most"
    )
    if len(source) < 2 * batch_size:
        raise CommandError(
            f"{arguments.path} has {len(source):,} pictures, but both contenders need a batch of {batch_size} of their "
            f"own; take smaller batches: --batch-size {max(1, len(source) // 2)}"
        )

    with quiet_opencv():
        hand, ours = _measure(source, arguments)
        again = _measure_again(source, arguments, hand, ours)
    if again is not None:
        hand, ours = again
    if (shortest := min(hand.seconds, ours.seconds)) < ROUGH:
        print(
            f"\nNot enough for a ratio: only {shortest:.2f} s were measured, and much of that is starting up. "
            "Take more pictures, or more time."
        )
    print(f"\n{comparison(hand, ours, stepped=stepped)}\n\n{explain_hand(hand)}\n{explain_ours(ours, stepped=stepped)}")
    print(f"\n{FAIRNESS if again is None else AGAIN}")
    return 0


def _measure_again(source: ab.Source, arguments: argparse.Namespace, hand: Run, ours: Run) -> tuple[Run, Run] | None:
    """Read few pictures over and over, until there is enough to measure.

    Returns:
        None where it was enough, the user wants no more, or the pictures came from slow storage the first time and from
        memory now: what the second reading says is nothing about the first.
    """
    if arguments.batches is not None or min(hand.seconds, ours.seconds) >= min(ENOUGH, arguments.seconds):
        return None
    halves = [Part(source, indices) for indices in _halves(source, arguments)]
    runs: dict[str, list[Run]] = {HAND: [], OURS: []}
    for name in (HAND, OURS, OURS, HAND):
        part = halves[[HAND, OURS].index(name)]
        runs[name].append(_turn(name, part, min(LONGER, arguments.seconds / 2), arguments, over_and_over=True))
    again = Run.joined(runs[HAND]), Run.joined(runs[OURS])
    first, later = (run.busy("read") / run.pictures for run in (hand, again[0]))
    return again if first < max(IN_MEMORY, NO_SLOWER * later) else None


def _halves(source: ab.Source, arguments: argparse.Namespace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which pictures each contender gets."""
    order = np.random.default_rng(arguments.seed).permutation(len(source))
    return order[::2], order[1::2]


def _measure(source: ab.Source, arguments: argparse.Namespace) -> tuple[Run, Run]:
    """Let both contenders take turns on parts of the source that do not overlap."""
    halves = _halves(source, arguments)
    batches = min(len(source) // 2 // arguments.batch_size, arguments.batches or len(source))
    turns = max(1, min(TURNS, batches // TURN))
    size = batches // turns * arguments.batch_size
    runs: dict[str, list[Run]] = {HAND: [], OURS: []}
    for turn in range(turns):
        for name in (HAND, OURS) if turn % 2 == 0 else (OURS, HAND):
            indices = halves[[HAND, OURS].index(name)][turn * size : (turn + 1) * size]
            runs[name].append(_turn(name, Part(source, indices), arguments.seconds / turns, arguments))
    return Run.joined(runs[HAND]), Run.joined(runs[OURS])


def _turn(name: str, part: Part, seconds: float, arguments: argparse.Namespace, *, over_and_over: bool = False) -> Run:
    recorder = Recorder()
    size, batch_size = arguments.image_size, arguments.batch_size

    def step(images: object, labels: object) -> None:
        time.sleep(arguments.step / 1e3)

    if name == HAND:
        indices = range(len(part) // batch_size * batch_size)
        samples = (part[index] for index in (cycle(indices) if over_and_over else indices))
        return race(name, by_hand(samples, batch_size, size, recorder), recorder, seconds=seconds, step=step)
    with ab.Loader(part, batch_size=batch_size, decoder=like_by_hand(size), drop_last=True, hooks=[recorder]) as loader:
        batches = loader.epochs() if over_and_over else loader
        return race(name, batches, recorder, seconds=seconds, step=step)
