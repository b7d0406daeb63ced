"""`asyncbatch doctor`: how fast storage answers, what limits it, and what to change."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from asyncbatch.cli.arguments import Commands, add_path, number, source_of
from asyncbatch.cli.doctor_apart import apart
from asyncbatch.cli.doctor_curve import diagnose
from asyncbatch.cli.doctor_files import find_files, within
from asyncbatch.cli.doctor_mounts import advice
from asyncbatch.cli.doctor_plot import draw_curve
from asyncbatch.cli.doctor_probe import Probe
from asyncbatch.cli.doctor_report import Report
from asyncbatch.cli.doctor_table import find_mount
from asyncbatch.cli.terminal import CommandError, need, progress, require_png

__all__ = ["add_to", "run"]

LISTING = 0.2  # of the time is for finding files; with all that may be late, at most 0.8
KEPT = 0.5  # a second reading that takes less than this share of the first came from memory

DETAILS = """\
It reads with 1, 2, 4, … 128 readers at once, other files each time, and stops as soon as more do not help, at 2,500
files or 512 MB (1 MB of each file at most), or when the time is over. The system is asked to forget what it holds of
a file before it is read, so that the storage answers and not the memory. A cache further away, such as the server's,
still may. Nothing is written.

example: asyncbatch doctor /mnt/photos --plot curve.png"""


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="measure your storage: what limits it, which mount options and settings help",
        description="Measures in a few seconds how fast the storage that your pictures are on answers, alone and in "
        "company, says what limits it and names what to change.",
        epilog=DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_path(parser, "a folder on the storage, or a manifest of pictures on it; labels are not looked at")
    parser.add_argument(
        "--seconds", metavar="S", type=number(1, 30), default=20.0, help="how long it may take, 1 to 30 (default: 20)"
    )
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="draw files a second and latency into a PNG file")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit status is 1 when a read has hung."""
    need("tqdm", "cli")
    _check_plot(arguments.plot)
    return apart(lambda: _examine(arguments))


def _examine(arguments: argparse.Namespace) -> int:
    report = _measured(arguments)
    if arguments.plot is not None:
        draw_curve(arguments.plot, report)
    if arguments.json:
        json.dump(report.json(), sys.stdout, indent=2)
        print()
    else:
        print(report.text())
        if arguments.plot is not None:
            print(f"\n{arguments.plot}: the curve")
    return 1 if report.found.limit == "hung" else 0


def _check_plot(plot: Path | None) -> None:
    if plot is None:
        return
    need("matplotlib", "plot")
    require_png(plot, "plot", "--plot")


def _measured(arguments: argparse.Namespace) -> Report:
    """Find files, read them, and draw conclusions.

    Raises:
        CommandError: There is nothing to read, or nothing can be read, or the storage does not even begin to answer.
    """
    path, seconds = arguments.path, arguments.seconds
    end = time.perf_counter() + 0.95 * seconds  # the rest is for starting, drawing and printing
    if not arguments.json:
        print(f"Looking at pictures in {path}, for {seconds:g} s at most; nothing is written\n", flush=True)
    listing = find_files(path, LISTING * seconds, lambda: source_of(arguments, labelled=False))
    first = listing.files[0]
    mount = within(LISTING * seconds, lambda: find_mount(first), f"looking at {first}")
    left = max(0.1 * seconds, end - time.perf_counter())  # the floor is for machines that are very busy
    with progress("reading", 100, "%") as bar:
        probe = Probe(listing.files, left, lambda share: bar.update(round(100 * share) - bar.n))
        probe.run()
        bar.update(100 - bar.n)
    _check_levels(path, probe)

    found = diagnose(probe.levels, probe.ended)
    alone = probe.levels[0].readings
    took = sum(reading.seconds for reading in alone) / len(alone)
    options = advice(
        mount,
        found,
        opens=sum(reading.opened - reading.start for reading in alone) / len(alone) / took,
        kept=not probe.again or sum(r.seconds for r in probe.again) / len(probe.again) < KEPT * took,
        size=sum(reading.size for reading in alone) / len(alone),
    )
    return Report(
        path=path, mount=mount, listing=listing, levels=probe.levels, again=probe.again, ended=probe.ended,
        found=found, advice=options,
    )  # fmt: skip


def _check_levels(path: str, probe: Probe) -> None:
    first = probe.levels[0]
    if first.readings:
        return
    if first.hung:
        file, seconds = first.hung[0]
        raise CommandError(
            f"{file} has not been read after {seconds:.0f} s, and no other file was: the storage does not answer. Look "
            "whether its server is up and mount it anew"
        )
    count = len(first.errors)
    raise CommandError(f"none of {count:,} files of {path} can be read; the first: {first.errors[0]}")
