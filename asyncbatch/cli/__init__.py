"""The command `asyncbatch`: `demo`, `index`, `doctor`, `bench`, `preview`, `trace` and `cache`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import asyncbatch as ab
from asyncbatch.cli import bench, cache, demo, doctor, index, preview, trace

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments after the command's name; None takes the process's own.

    Returns:
        The exit status: 0 when all went well, 1 after an error, 130 after Ctrl-C. Arguments that do not parse end the
        process with 2, as argparse does.
    """
    for stream in (sys.stdout, sys.stderr):  # file names and × must not end the command on a terminal that lacks them
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("asyncbatch: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stdout = None  # else the interpreter flushes it at exit and complains
        return 1
    except (ab.AsyncbatchError, OSError) as error:
        text = " ".join(line.strip() for line in str(error).splitlines())
        hint = "; the command needs pictures that can be read: leave this one out" * isinstance(error, ab.SampleError)
        print(f"asyncbatch: {text}{hint}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asyncbatch",
        description="Loads training pictures from slow storage, many at once. To see it work: asyncbatch demo",
    )
    parser.add_argument("--version", action="version", version=f"asyncbatch {ab.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (demo, index, doctor, bench, preview, trace, cache):
        module.add_to(commands)
    return parser
