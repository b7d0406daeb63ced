"""`asyncbatch demo`: from nothing to a trained model, with the loop by hand and asyncbatch side by side."""

from __future__ import annotations

import argparse
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

import asyncbatch as ab
from asyncbatch.cli import demo_ray
from asyncbatch.cli.arguments import Commands, number, whole
from asyncbatch.cli.classifier import Classifier
from asyncbatch.cli.folder import DemoFolder
from asyncbatch.cli.pictures import KINDS, write_pictures
from asyncbatch.cli.race import Recorder, Run, by_hand, like_by_hand, race
from asyncbatch.cli.report import HAND, OURS, comparison, explain_hand, explain_ours
from asyncbatch.cli.sheet import draw_sheet
from asyncbatch.cli.slow import SlowFiles
from asyncbatch.cli.terminal import need, percent, progress
from asyncbatch.cli.timeline import draw_timeline

__all__ = ["add_to", "run"]

SIZE = (96, 96)  # what the model gets; `classifier.features` needs multiples of 48
BATCH = 32
GOAL = 0.9  # the test accuracy below which the demo has failed
SHOWN = 48  # pictures on the contact sheet


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="see it work, without any data: draws pictures, loads them from slow storage, trains a model",
        description="Draws a labelled set of pictures, loads them from storage that is slowed to answer as a mount "
        "across a network does (simulated), once by a plain loop and once by asyncbatch, then trains a small model on "
        "the batches and tests it. Needs no data and no network, takes about half a minute, and writes into one "
        "folder only.",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("asyncbatch-demo"),
        help="the folder to write into: a new or empty one, or one of an earlier demo (default: asyncbatch-demo)",
    )  # fmt: skip
    parser.add_argument(
        "--latency", metavar="MS", type=number(0, 1000), default=30.0,
        help="how late the storage answers each read, in milliseconds (default: 30)",
    )  # fmt: skip
    parser.add_argument(
        "--images", metavar="N", type=whole(120, 100_000), default=720,
        help="how many pictures to draw; below 300 the model may not learn enough (default: 720)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", metavar="S", type=number(0.1, 300), default=6.0,
        help="how long each of the two may load pictures in the comparison (default: 6)",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", metavar="N", type=whole(1, 1000), default=12, help="passes over the pictures to train (default: 12)"
    )
    parser.add_argument("--seed", metavar="S", type=whole(0, 2**63 - 1), default=0, help="another seed, other pictures")
    parser.add_argument(
        "--ray", action="store_true",
        help="show two worker processes of a local Ray instead, one of which is killed in mid-epoch",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; the exit status is 1 if the model did not learn."""
    if arguments.ray:
        return demo_ray.run(arguments)
    need("tqdm", "cli")
    need("matplotlib", "plot")
    began = time.perf_counter()
    latency: float = arguments.latency / 1e3
    settings = {name: getattr(arguments, name) for name in ("images", "latency", "seconds", "epochs", "seed")}
    folder = DemoFolder(arguments.out)
    folder.prepare(settings)

    print(f"1. Drawing {arguments.images:,} pictures of six kinds into {folder.root}")
    with progress("drawing", arguments.images) as bar:
        for _ in write_pictures(folder.root, arguments.images, arguments.seed):
            bar.update()

    print(
        f"2. Loading them for {arguments.seconds:g} s each way, over and over, with a training step on every batch\n"
        f"   The storage is simulated: every read waits {arguments.latency:g} ms first, as on a mount across a network"
    )
    hand, ours = _compare(folder, latency, arguments)

    print(f"3. Training a small network for {arguments.epochs} epochs, shuffled and flipped at random, on that storage")
    model = _train(folder, latency, arguments)
    print("4. Testing it on pictures that it has not seen, and drawing the contact sheet and the timeline")
    accuracy = _test(folder, latency, arguments, model)

    late = f"storage answers each read {arguments.latency:g} ms late (simulated)"
    names = {f"{name}: {run.rate:,.0f} pictures a second": run for name, run in ((HAND, hand), (OURS, ours))}
    shown = max(1.25 * hand.first, 4 * ours.first)  # until each has begun its second batch
    draw_timeline(folder.timeline, names, shown, f"What happens when: {late}")

    result = {"loop_by_hand": _numbers(hand), "asyncbatch": _numbers(ours), "accuracy": accuracy}
    folder.mark({**settings, **result})
    print(f"\n{comparison(hand, ours, stepped=True)}\n\n{explain_hand(hand)}\n{explain_ours(ours, stepped=True)}")
    print(f"The model names {percent(accuracy, 1)} of the test pictures rightly.")
    print(
        f"\nGained: {ours.rate / hand.rate:.1f} times as many pictures a second; the training step waits "
        f"{percent(ours.waiting)} of the time instead of {percent(hand.waiting)}. "
        f"All this took {time.perf_counter() - began:.0f} s.\n\n{folder.listing()}"
    )
    if accuracy <= GOAL:
        print(f"\nThe demo failed: the accuracy should be above {percent(GOAL)}. More pictures help: --images 720")
        return 1
    return 0


def _compare(folder: DemoFolder, latency: float, arguments: argparse.Namespace) -> tuple[Run, Run]:
    """Train for the same time on batches of both contenders, each with a new model."""
    # The first step loads what NumPy loads late, which would count against whoever comes first.
    Classifier(len(KINDS), arguments.seed).learn(np.zeros((BATCH, *SIZE, 3), np.float32), np.zeros(BATCH, np.int64))
    recorder = Recorder()
    with ab.Loader(folder.train, batch_size=BATCH, image_size=SIZE) as loader:
        source = loader.source
    samples = [source[index] for index in range(len(source))]
    model = Classifier(len(KINDS), arguments.seed)
    batches = by_hand(cycle(samples), BATCH, SIZE, recorder, latency)
    hand = race(HAND, batches, recorder, seconds=arguments.seconds, step=model.learn)

    recorder = Recorder()
    model = Classifier(len(KINDS), arguments.seed)
    with ab.Loader(
        source,
        batch_size=BATCH,
        decoder=like_by_hand(SIZE),
        reader=SlowFiles(latency),
        drop_last=True,
        hooks=[recorder],
    ) as loader:
        ours = race(OURS, loader.epochs(), recorder, seconds=arguments.seconds, step=model.learn)
    return hand, ours


def _train(folder: DemoFolder, latency: float, arguments: argparse.Namespace) -> Classifier:
    model = Classifier(len(KINDS), arguments.seed)
    decoder = ab.ImageDecoder(SIZE, dtype="float32", scale=1 / 255, transform=[ab.RandomHorizontalFlip()])
    loader = ab.Loader(
        folder.train, batch_size=BATCH, decoder=decoder, reader=SlowFiles(latency), shuffle=True, seed=arguments.seed
    )
    with loader, progress("training", arguments.epochs * len(loader), "batch") as bar:
        for batch in loader.epochs(arguments.epochs):
            labels: Any = batch.labels
            loss = model.learn(batch.images, labels)
            bar.set_postfix_str(f"epoch {batch.epoch + 1}, loss {loss:.3f}", refresh=False)
            bar.update()
    return model


def _test(folder: DemoFolder, latency: float, arguments: argparse.Namespace, model: Classifier) -> float:
    """Return the share of test pictures that the model names rightly, and draw the contact sheet."""
    right = total = 0
    shown: dict[bool, list[tuple[Any, str]]] = {False: [], True: []}  # pictures and captions, by being right
    labels: Any
    decoder = ab.ImageDecoder(SIZE, dtype="float32", scale=1 / 255)
    with ab.Loader(  # shuffled so that the sheet shows every kind
        folder.test, batch_size=BATCH, decoder=decoder, reader=SlowFiles(latency), shuffle=True, seed=arguments.seed
    ) as loader:
        for pictures, labels in loader:
            guesses = model.predict(pictures)
            right, total = right + int((guesses == labels).sum()), total + len(labels)
            for picture, label, guess in zip(pictures, labels, guesses, strict=True):
                is_right = bool(guess == label)
                if len(shown[is_right]) < SHOWN:
                    caption = f"true: {KINDS[label]}\nmodel: {KINDS[guess]} {'✓' if is_right else '✗'}"
                    shown[is_right].append((np.rint(picture * 255).astype(np.uint8), caption))
    images, captions = zip(*(shown[False] + shown[True])[:SHOWN], strict=True)  # what went wrong tells most
    accuracy = right / total
    title = f"Test pictures as the model sees them; it names {percent(accuracy, 1)} of {total:,} rightly"
    draw_sheet(folder.sheet, np.stack(images), captions, title, range(min(len(shown[False]), SHOWN)))
    return accuracy


def _numbers(run: Run) -> dict[str, float]:
    """Return what a run measured, for the record."""
    return {
        "pictures": run.pictures,
        "seconds": round(run.seconds, 3),
        "pictures_per_second": round(run.rate, 1),
        "first_batch_seconds": round(run.first, 3),
        "waiting_share": round(run.waiting, 3),
    }
