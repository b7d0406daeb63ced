"""What the commands say and how: progress bars, tables, and errors in one line."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncbatch as ab

__all__ = ["CommandError", "need", "percent", "progress", "require_png", "table"]


class CommandError(ab.AsyncbatchError):
    """A command cannot do what it was asked to; the message says what to type instead."""


def need(module: str, extra: str) -> Any:
    """Import a module that comes with one of asyncbatch's extras.

    Raises:
        CommandError: It is not installed. The message has the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise CommandError(
            f"this command needs {name}, which cannot be imported ({error}); install it with: "
            f"pip install 'asyncbatch[{extra}]'"
        ) from error


def require_png(path: Path, what: str, option: str) -> None:
    """Refuse a file that cannot be drawn into, before anything is done for it.

    Args:
        path: The file.
        what: What it will hold.
        option: What it was given by.

    Raises:
        CommandError: It is no PNG file by its name, or there is no such folder.
    """
    if path.suffix.lower() != ".png":
        raise CommandError(
            f"the {what} is a PNG file, so its name must end in .png: {option} {path.with_suffix('.png')}"
        )
    if not path.parent.is_dir():
        raise CommandError(f"there is no folder {path.parent} to write {path.name} into; make it first")


def progress(label: str, total: float, unit: str = "img") -> Any:
    """Return a tqdm bar, a context manager, that is shown only where stderr is a terminal."""
    tqdm = need("tqdm", "cli").tqdm
    quiet = type("Bar", (tqdm,), {"monitor_interval": 0})  # without tqdm's thread that looks after idle bars
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f} s{postfix}" if unit == "s" else None  # seconds need no rate
    screen = shutil.get_terminal_size()  # tqdm itself shows nothing on a terminal that gives its size as 0 × 0
    return quiet(
        desc=f"{label:<12}", total=total, unit=unit, disable=None, bar_format=form,
        ncols=screen.columns - 1, nrows=screen.lines,
    )  # fmt: skip


def table(rows: Sequence[Sequence[str]]) -> str:
    """Set rows of text in columns: the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in rows
    )


def percent(share: float, digits: int = 0) -> str:
    """Write a share, 0 to 1, as in "98.6 %"."""
    return f"{100 * share:.{digits}f} %"
