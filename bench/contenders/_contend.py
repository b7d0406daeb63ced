"""What every contender shares: its arguments, the clock around its epoch, and the line that it prints.

The clock starts after imports and, unless `--cold`, after every file was read once, so that all find the page cache
warm; it covers reading the list of files, building the loader, and every batch up to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bench.data import LABELS, read_labels

Batches = Iterable[tuple[Any, Any]]
GRID = 16

NORMAL = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""What float32 batches are: ImageNet's usual (pixel / 255 - mean) / std, in the order of RGB."""

TABLE = np.stack(
    [(np.arange(256) / 255 - mean) / std for mean, std in zip(NORMAL["mean"], NORMAL["std"], strict=True)], axis=1
)[:, None].astype(np.float32)
"""The same for `cv2.LUT`, (256, 1, 3), the fastest way that is known: 78 µs for 224 × 224 where NumPy takes 485."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m bench.contenders.{name}")
    parser.add_argument("--data", type=Path, required=True, help="folder made by python -m bench.data")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=224, help="height and width delivered, in pixels")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--dtype", choices=["uint8", "float32"], default="uint8", help="float32 is normalised")
    parser.add_argument("--cold", action="store_true", help="do not read every file once before, as for a mount")
    return parser


def absent(name: str, error: Exception) -> NoReturn:
    """Print the line of a contender whose package is not there, and exit."""
    print(json.dumps({"name": name, "absent": f"{type(error).__name__}: {error}".splitlines()[0][:200]}))
    raise SystemExit


def contend(name: str, epochs: Callable[[argparse.Namespace], Batches], args: argparse.Namespace) -> None:
    """Run one contender and print its line.

    Args:
        name: The contender's name in the line.
        epochs: Reads the list of files, builds the loader and delivers `(images, labels)`, images (B, H, W, 3), as
            arrays or tensors. All of it is timed.
        args: Of a `parser`; all but the folder become the line's settings.
    """
    if not args.cold:
        paths, _ = read_labels(args.data)
        for path in paths:
            Path(path).read_bytes()
    print(json.dumps({"name": name, "settings": settings(args), **measure(lambda: epochs(args))}))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(args).items() if key != "data"}


def measure(start: Callable[[], Batches]) -> dict[str, Any]:
    """Time the batches that `start` delivers, and sum them so that a lost or wrong picture is seen."""
    cpu_before, began = cpu_seconds(), time.perf_counter()
    first = ended = began
    images = batches = pixels = label_sum = 0
    total = 0.0
    for batch, labels in start():
        ended = time.perf_counter()
        first = ended if batches == 0 else first
        # A grid of pixels of every picture: all of them would cost more than some contenders' own overhead.
        step = min(GRID, batch.shape[1] // 2)
        sampled = np.asarray(batch[:, step // 2 :: step, step // 2 :: step])
        if sampled.dtype == np.float32:
            sampled = 255 * (sampled * NORMAL["std"] + NORMAL["mean"])
        elif sampled.dtype == np.float64:  # the loop's, 0 to 1
            sampled = 255 * sampled
        total += float(sampled.sum(dtype=np.float64))
        pixels += sampled.size
        label_sum += int(labels.sum())
        images += len(batch)
        batches += 1
    steady = images * (batches - 1) / batches / (ended - first) if batches > 1 else None
    return {
        "images": images,
        "batches": batches,
        "seconds": round(ended - began, 4),
        "images_per_s": round(images / (ended - began), 1),
        "images_per_s_after_first": steady and round(steady, 1),
        "first_batch_s": round(first - began, 4),
        "cpu_s": round(cpu_seconds() - cpu_before, 4),
        **peak_memory(),
        "mean_pixel": round(total / pixels, 4),
        "label_sum": label_sum,
    }


def cpu_seconds() -> float:
    """Return the CPU time of this process, all its threads, and its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory() -> dict[str, float]:
    """Return the peak resident memory of this process and of its largest child; pages that they share count twice."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also remembers the process that started this one
        own = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return {"peak_rss_mb": round(own / 1e6, 1), "child_peak_rss_mb": round(child / 1e6, 1)}


def chunks(root: Path, batch_size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield the paths and labels of every whole batch of a set, in order; the remainder is dropped."""
    paths, labels = read_labels(root)
    for at in range(0, len(paths) - batch_size + 1, batch_size):
        yield paths[at : at + batch_size], np.array(labels[at : at + batch_size])


__all__ = ["GRID", "LABELS", "NORMAL", "TABLE", "Batches", "absent", "chunks", "contend", "cores", "cpu_seconds",
           "parser", "peak_memory", "settings"]  # fmt: skip
