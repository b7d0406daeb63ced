"""`asyncbatch trace`: what was read, decoded, awaited and computed when, as a picture."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncbatch as ab
from asyncbatch.cli.arguments import Commands, add_image_size, add_path, number, source_of, whole
from asyncbatch.cli.race import Recorder, Run, race
from asyncbatch.cli.terminal import CommandError, need, require_png
from asyncbatch.cli.timeline import draw_timeline

__all__ = ["add_to", "run"]

_MOST_BYTES = 10**9  # of a recorded trace: a million spans are some 200 MB


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "trace",
        help="draw what a loader does when, or a trace that was recorded",
        description="Loads your pictures for some seconds, with a training step of a given length, and draws what was "
        "read, decoded, awaited and computed when. Given a trace.json of `loader.trace`, it draws that instead.",
        epilog="example: asyncbatch trace photos/ -o timeline.png --step 0.03",
    )
    add_path(parser, "your pictures: a folder or a manifest; or a trace.json that `loader.trace` wrote")
    parser.add_argument("-o", "--out", metavar="FILE.png", type=Path, required=True, help="where to draw it")
    parser.add_argument("--seconds", type=number(0.1, 600), default=2.0, metavar="S", help="how long (default: 2)")
    parser.add_argument("--step", type=number(0, 60), default=0.0, metavar="S", help="a step's length (default: 0)")
    parser.add_argument("--batch-size", type=whole(1, 4096), default=32, metavar="N", help="default: 32")
    add_image_size(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw the timeline, and say where it is and what the time went for."""
    need("tqdm", "cli")
    need("matplotlib", "plot")
    out: Path = arguments.out
    require_png(out, "timeline", "-o")
    recorded = str(arguments.path).lower().endswith(".json")
    taken = _recorded(Path(arguments.path)) if recorded else _run(arguments)
    seconds = min(arguments.seconds, taken.seconds)
    what = "batches" if recorded else "samples"
    title = f"{taken.pictures:,} {what} in {taken.seconds:.2f} s, {taken.rate:,.0f} a second"
    draw_timeline(out, {str(arguments.path): taken}, seconds, title)
    print(f"{out}: the first {seconds:.3g} s of {taken.seconds:.3g}; {title}")
    return 0


def _run(arguments: argparse.Namespace) -> Run:
    recorder = Recorder()
    with ab.Loader(
        source_of(arguments), batch_size=arguments.batch_size, image_size=arguments.image_size, hooks=[recorder]
    ) as loader:
        taken = race(
            "loading",
            loader.epochs(),
            recorder,
            seconds=arguments.seconds,
            step=lambda images, labels: time.sleep(arguments.step),
        )
        print(loader.stats())
    return taken


def _recorded(path: Path) -> Run:
    """Read the spans of a trace, as one run."""
    spans = [_span(event) for event in _events(path)]
    if not spans:
        raise CommandError(f"{path} has no spans: it was recorded while nothing was loaded")
    start, stop = min(span.start for span in spans), max(span.stop for span in spans)
    first = min((span.stop for span in spans if span.stage == "wait"), default=start)
    batches = sum(span.stage == "wait" for span in spans)
    return Run(batches, stop - start, first - start, start, spans)


def _events(path: Path) -> Sequence[Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise CommandError(f"{path} is larger than any trace that loader.trace writes")
    try:
        document = json.loads(path.read_bytes())
        return [event for event in document["traceEvents"] if event["ph"] == "X"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CommandError(f"{path} is no trace of asyncbatch; record one with loader.trace({path.name!r})") from error


def _span(event: Any) -> ab.Span:
    try:
        start, epoch = event["ts"] / 1e6, event["args"]["epoch"]
        stop = start + event["dur"] / 1e6
        return ab.Span(event["name"], start, stop, int(epoch), int(event["args"]["step"]), int(event["tid"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError("the trace has an event that loader.trace does not write; record it anew") from error
