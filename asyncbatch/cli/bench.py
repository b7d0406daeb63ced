"""`asyncbatch bench`: the loop by hand against asyncbatch on the user's own pictures."""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

import asyncbatch as ab
from asyncbatch.cli.arguments import Commands, add_path, image_size, number, whole
from asyncbatch.cli.race import Recorder, Run, by_hand, like_by_hand, race
from asyncbatch.cli.report import HAND, OURS, comparison, explain_hand, explain_ours
from asyncbatch.cli.terminal import CommandError, need

__all__ = ["add_to", "run"]

TURNS = 4  # for each contender, so that storage that is faster now and slower then favours neither
TURN = (
    20  # batches that a turn has at least, lest start-up count for more than it does in training; small sets get fewer
)

FAIRNESS = """\
Each picture is read at most once, by one contender only, so neither finds what the other brought into memory.
Pictures that the system holds in memory already, from before, are fast for both. Starting up counts."""


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
    parser.add_argument(
        "--image-size", type=image_size, default=(224, 224), metavar="SIZE",
        help="what the model gets, in pixels: 224, or 224x320 as height and width (default: 224)",
    )  # fmt: skip
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
    with ab.Loader(arguments.path, batch_size=batch_size, image_size=size) as loader:
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

    hand, ours = _measure(source, arguments)
    print(f"\n{comparison(hand, ours, stepped=stepped)}\n\n{explain_hand(hand)}\n{explain_ours(ours, stepped=stepped)}")
    print(f"\n{FAIRNESS}")
    if min(hand.seconds, ours.seconds) < 1:
        print("The pictures were read in less than a second: too few for more than a rough idea.")
    return 0


def _measure(source: ab.Source, arguments: argparse.Namespace) -> tuple[Run, Run]:
    """Let both contenders take turns on parts of the source that do not overlap."""
    order = np.random.default_rng(arguments.seed).permutation(len(source))
    batches = min(len(source) // 2 // arguments.batch_size, arguments.batches or len(source))
    turns = max(1, min(TURNS, batches // TURN))
    size = batches // turns * arguments.batch_size
    runs: dict[str, list[Run]] = {HAND: [], OURS: []}
    for turn in range(turns):
        for name in (HAND, OURS) if turn % 2 == 0 else (OURS, HAND):
            indices = order[[HAND, OURS].index(name) :: 2][turn * size : (turn + 1) * size]
            runs[name].append(_turn(name, Part(source, indices), arguments.seconds / turns, arguments))
    return Run.joined(runs[HAND]), Run.joined(runs[OURS])


def _turn(name: str, part: Part, seconds: float, arguments: argparse.Namespace) -> Run:
    recorder = Recorder()
    size, batch_size = arguments.image_size, arguments.batch_size

    def step(images: object, labels: object) -> None:
        time.sleep(arguments.step / 1e3)

    if name == HAND:
        samples = (part[index] for index in range(len(part)))
        return race(name, by_hand(samples, batch_size, size, recorder), recorder, seconds=seconds, step=step)
    with ab.Loader(part, batch_size=batch_size, decoder=like_by_hand(size), drop_last=True, hooks=[recorder]) as loader:
        return race(name, loader, recorder, seconds=seconds, step=step)
