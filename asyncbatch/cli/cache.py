"""`asyncbatch cache`: what a cache on a disk holds, whether it is whole, and how to be rid of it."""

from __future__ import annotations

import argparse

import asyncbatch as ab
from asyncbatch.cli.arguments import Commands
from asyncbatch.cli.terminal import CommandError, percent

__all__ = ["add_to", "run"]


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "cache",
        help="say what a cache holds, whether it is whole, or throw it away",
        description="stats: how many samples a cache holds. verify: whether each is what it was when it came; what is "
        "damaged would be fetched again in any case. clear: throw all of them away, as when files were replaced.",
        epilog="example: asyncbatch cache stats /local/cache",
    )
    parser.add_argument("what", choices=["stats", "verify", "clear"])
    parser.add_argument("path", metavar="PATH", help="the folder that `cache=` names")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what there was."""
    path = arguments.path
    if not ab.Cache.is_one(path):
        raise CommandError(f"{path} is no cache of asyncbatch: nothing was done")
    cache = ab.Cache(path)
    if arguments.what == "clear":
        held = cache.clear()
        print(f"{path}: {held.entries:,} samples thrown away, {held.size / 1e6:,.1f} MB")
        return 0
    held = cache.held(verify=arguments.what == "verify")
    if arguments.what == "stats":
        print(f"{path}: {held.entries:,} samples, {held.size / 1e6:,.1f} MB")
        return 0
    for file in held.corrupt:
        print(f"{file} is damaged")
    if not held.corrupt:
        print(f"{path}: all {held.entries:,} samples are whole")
        return 0
    print(f"{path}: {len(held.corrupt):,} of {held.entries:,} samples, {percent(len(held.corrupt) / held.entries, 2)}")
    return 1
