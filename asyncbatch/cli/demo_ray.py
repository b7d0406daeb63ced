"""`asyncbatch demo --ray`: two worker processes make the batches, one of them is killed, and nothing is lost."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import asyncbatch as ab
from asyncbatch.cli.folder import DemoFolder
from asyncbatch.cli.pictures import write_pictures
from asyncbatch.cli.terminal import need, progress

__all__ = ["run"]

BATCH = 16
EPOCHS = 3
WORKERS = 2
SETTINGS: dict[str, Any] = {"batch_size": BATCH, "image_size": (96, 96), "shuffle": True}


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; the exit status is 1 if a batch was lost, came twice, or was another."""
    ray = need("ray", "ray")
    need("tqdm", "cli")
    from asyncbatch.adapters.ray import RayLoader  # noqa: PLC0415 - an extra

    folder = DemoFolder(arguments.out)
    folder.prepare({name: getattr(arguments, name) for name in ("images", "seed")})
    print(f"1. Drawing {arguments.images:,} pictures into {folder.root}")
    with progress("drawing", arguments.images) as bar:
        for _ in write_pictures(folder.root, arguments.images, arguments.seed):
            bar.update()
    with ab.Loader(folder.train, seed=arguments.seed, **SETTINGS) as loader:
        expected = [_digest(batch) for batch in loader.epochs(EPOCHS)]

    print(f"2. Starting Ray on this machine, and {WORKERS} worker processes, which takes some seconds")
    with _local(ray), RayLoader(folder.train, workers=WORKERS, seed=arguments.seed, **SETTINGS) as loader:
        while len(loader.worker_stats()) < WORKERS:  # they come up one after the other
            for _ in loader:
                pass
        print(f"   there they are: {', '.join(loader.worker_stats())}")
        before = {name: stats.batches for name, stats in loader.worker_stats().items()}
        print(f"3. {EPOCHS} epochs, {len(expected)} batches; one worker is killed after a third of them")
        loader.set_epoch(0)
        victim = len(expected) // 3
        killed = ""
        came = []
        with progress("batches", len(expected), "batch") as bar:
            for batch in loader.epochs(EPOCHS):
                came.append(_digest(batch))
                bar.update()
                if len(came) == victim:
                    worker = loader.pool.start(0)
                    killed = ray.get(worker.name.remote())
                    ray.kill(worker)
        made = {name: stats.batches - before.get(name, 0) for name, stats in loader.worker_stats().items()}
    print("   the batches were made by")
    for name, count in made.items():
        note = f", killed after batch {victim}" if name == killed else ", in its place" if name not in before else ""
        print(f"     {name}: {count}{note}")
    if came != expected:
        print("\nThe demo failed: the batches are not those of one process in the same order.")
        return 1
    print(
        f"\nGained: a worker died and nothing else: all {len(expected)} batches came once, in the plan's order, and "
        "are bit for bit those that a Loader makes in one process."
    )
    return 0


def _digest(batch: ab.Batch) -> tuple[int, int, bytes, bytes]:
    return batch.epoch, batch.step, np.asarray(batch.labels).tobytes(), batch.images.tobytes()


@contextmanager
def _local(ray: Any) -> Iterator[None]:
    """Run a Ray of this machine alone, which ends with it."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=200_000_000,
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()
