"""`asyncbatch index`: list a tree once, so that no run needs a listing again."""

from __future__ import annotations

import argparse
import math
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import asyncbatch as ab
from asyncbatch.cli.arguments import Commands
from asyncbatch.cli.terminal import CommandError, need, progress, table

__all__ = ["add_to", "run"]

SHOWN = 20  # classes that are listed one by one
TICK = 0.2  # seconds between two looks at the clock while the tree is listed

DETAILS = """\
Paths are relative to the manifest's folder when the manifest lies in DIR or above it: both can then be moved or
mounted elsewhere together. Else they are absolute. --relative writes them relative to DIR wherever the manifest lies;
then write sources.manifest(FILE, root=DIR), with whatever DIR is called that day.

The label of each line is the name of its class. Where names would not give back the same class indices (a class
without pictures, or names that look like numbers) it is the index, and comments at the top say which class is which.

The file appears at the end, complete and checked: it is read back, and must give the same pictures, labels and order
as the folder. An existing file is replaced only with --force.

example: asyncbatch index /mnt/photos/train -o /mnt/photos/train.txt"""


def add_to(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "index",
        help="list a folder of pictures once and write a manifest of it",
        description="Lists the pictures under a folder, as Loader(DIR) does, and writes them with their labels into a "
        "text file. Loader(FILE) then gives the same samples in the same order without listing anything, which "
        "on slow storage takes minutes. The pictures themselves are not read.",
        epilog=DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder; its sub-folders are the classes")
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, required=True, help="the manifest to write")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    parser.add_argument(
        "--relative", action="store_true", help="write paths relative to DIR, to be loaded with root=DIR"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List, write, check and say what was found."""
    need("tqdm", "cli")
    out: Path = arguments.out
    _check_out(out, force=arguments.force)
    print(f"Listing {arguments.folder}", flush=True)
    began = time.perf_counter()
    with _ticking() as bar, warnings.catch_warnings(record=True) as concerns:
        warnings.simplefilter("always")
        source = ab.sources.folder(arguments.folder)
        bar.update(len(source))
    seconds = time.perf_counter() - began
    for concern in concerns:
        print(f"Note: {concern.message}")

    names = source.class_names
    prefix, where = _prefix(arguments.folder, out, relative=arguments.relative)
    paths = tuple(_written(prefix + path) for path in source.paths)
    _check_names(paths)
    if arguments.force and out.exists() and any(_is_same(out, path, arguments) for path in paths):
        raise CommandError(f"{out} is one of the pictures; name another file, such as -o {out.with_suffix('.txt')}")
    labels = None if source.labels is None else [int(label) for label in source.labels]
    named = labels is not None and _can_be_named(names, labels)
    _write(out, paths, labels, names, named=named, force=arguments.force)

    print(f"{_found(names, labels, len(paths))}, listed in {seconds:.1f} s")
    kind = "no labels" if labels is None else f"labels are class {'names' if named else 'indices'}"
    print(f"{out}: {len(paths):,} lines, paths {where}, {kind}; read back, and the same as the folder")
    print(f"\nWrite next:\n{_loader_line(out, arguments)}")
    if labels is not None and not named:
        print("The classes' names are in the comments at the top of the file; the labels are their indices.")
    return 0


def _check_out(out: Path, *, force: bool) -> None:
    if str(out) == "-":
        raise CommandError("a manifest has to be a file, for it is checked before it appears; write -o train.txt")
    if out.is_dir():
        raise CommandError(f"{out} is a folder; name a file in it: -o {out / 'train.txt'}")
    if not out.parent.is_dir():
        raise CommandError(f"there is no folder {out.parent} to write {out.name} into; make it first")
    if out.exists() and not out.is_file():
        raise CommandError(f"{out} is a pipe or a device, not a file; write -o train.txt")
    if os.path.lexists(out) and not force:
        raise CommandError(f"{out} is there already; to replace it add --force")


@contextmanager
def _ticking() -> Iterator[Any]:
    """Show a counter whose clock runs while the folder is listed, which tells nothing before it is done."""
    over = threading.Event()
    with progress("listing", math.inf) as bar:  # tqdm takes infinity for a total that is not known

        def tick() -> None:
            while not over.wait(TICK):
                bar.refresh()

        ticker = threading.Thread(target=tick, name="asyncbatch-clock", daemon=True)
        if not bar.disable:
            ticker.start()
        try:
            yield bar
        finally:
            over.set()
            if not bar.disable:
                ticker.join()


def _prefix(folder: Path, out: Path, *, relative: bool) -> tuple[str, str]:
    """Return what to write before a path below `folder`, and where the paths then start from, in words."""
    if relative:
        return "", f"relative to {folder}"
    root, parent = _absolute(folder), _absolute(out.parent)
    if root == parent:
        return "", "relative to its folder"
    if root.is_relative_to(parent):
        return f"{root.relative_to(parent).as_posix()}/", "relative to its folder"
    return f"{root.as_posix().rstrip('/')}/", "absolute"


def _absolute(path: Path) -> Path:
    # Links in a path are kept, as the user named it; but "link/.." can only be understood by following the link.
    return path.resolve() if ".." in path.parts else path.absolute()


def _written(path: str) -> str:
    # Spaces around a field are no part of it.
    return f"./{path}" if path[0] in " \t" else path


def _check_names(paths: Sequence[str]) -> None:
    """Refuse names that no text file with a picture a line can hold.

    Raises:
        CommandError: One has a line end in it, or is no valid text.
    """
    for path in paths:
        if "\n" in path or "\r" in path:
            raise CommandError(f"{path!r} has a line end in its name, which a manifest cannot hold; rename it")
        try:
            path.encode()
        except UnicodeEncodeError:
            raise CommandError(
                f"{path!r} is not UTF-8, as a manifest has to be; rename such files (convmv -f latin1 -t utf8 -r "
                "--notest DIR), or go on giving Loader the folder"
            ) from None


def _is_same(out: Path, path: str, arguments: argparse.Namespace) -> bool:
    if path.rpartition("/")[2] != out.name:
        return False
    start = arguments.folder if arguments.relative else out.parent
    return (start / path).samefile(out) if (start / path).exists() else False


def _can_be_named(names: Sequence[str], labels: Sequence[int]) -> bool:
    """Tell whether the names as labels come back as the same classes with the same indices."""
    return len(set(labels)) == len(names) and all(map(_is_word, names))


def _is_word(name: str) -> bool:
    if name != name.strip(" \t") or not name.isprintable() or '"' in name:
        return False
    try:
        float(name)
    except ValueError:
        return True
    return False


def _write(
    out: Path, paths: Sequence[str], labels: Sequence[int] | None, names: Sequence[str], *, named: bool, force: bool
) -> None:
    """Write beside `out`, read back, and only then rename; whatever happens, no half file is left."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with partial.open("x", encoding="utf-8", newline="\n") as file:
            if labels is None:
                file.writelines(f"{_quoted(path, ',;')}\n" for path in paths)
            else:
                if not named:
                    file.writelines(f"# class {index}: {_shown(name)}\n" for index, name in enumerate(names))
                shown = names if named else range(len(names))
                file.writelines(f"{_quoted(path)}\t{shown[k]}\n" for path, k in zip(paths, labels, strict=True))
            file.flush()
            os.fsync(file.fileno())
        _check_read_back(partial, paths, labels, names if named else ())
        if os.path.lexists(out) and not force:
            raise CommandError(f"{out} has appeared meanwhile; to replace it add --force")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _quoted(path: str, also: str = "") -> str:
    # A tab would end the field, "#" begins a comment and U+FEFF is dropped at the start of a file; without labels
    # a comma or semicolon could be taken for the one before a label.
    if path[0] in '#"\ufeff' or any(mark in path for mark in f'\t"{also}'):
        return '"' + path.replace('"', '""') + '"'
    return path


def _check_read_back(file: Path, paths: Sequence[str], labels: Sequence[int] | None, names: Sequence[str]) -> None:
    """Make sure that the manifest means what the folder holds.

    Raises:
        CommandError: It does not: a name is too odd for a manifest.
    """
    try:
        read = ab.sources.manifest(file)
    except ab.SourceError as error:
        raise CommandError(f"some name is too odd for a manifest, which would not read back: {error}") from error
    for wanted, got in zip(paths, read.paths, strict=False):
        if got != wanted:
            raise CommandError(f"{wanted!r} is too odd a name for a manifest: it would read back as {got!r}; rename it")
    same = len(read) == len(paths) and read.class_names == tuple(names)
    if labels is None:
        same = same and read.labels is None
    else:
        same = same and read.labels is not None and np.array_equal(read.labels, labels)
    if not same:
        raise CommandError("the manifest would not give the folder's labels; please report the names of its classes")


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _found(names: Sequence[str], labels: Sequence[int] | None, total: int) -> str:
    """Say how many pictures there are, and of each class."""
    if labels is None:
        return f"{total:,} pictures without classes"
    counts = np.bincount(labels, minlength=len(names))
    order = range(len(names)) if len(names) <= SHOWN else np.argsort(-counts, kind="stable")[: SHOWN // 2]
    rows = [(f"  {_shown(names[k])}", f"{counts[k]:,}") for k in order]
    lines = [table(rows)]
    if len(names) > SHOWN:
        lines.append(f"  … and {len(names) - len(rows):,} classes more, of {counts.min():,} pictures and more")
    return "\n".join([*lines, f"{total:,} pictures in {len(names):,} {'class' if len(names) == 1 else 'classes'}"])


def _loader_line(out: Path, arguments: argparse.Namespace) -> str:
    what = repr(str(out))
    if arguments.relative:
        what = f"ab.sources.manifest({what}, root={str(arguments.folder)!r})"
    return f"    ab.Loader({what}, batch_size=32, image_size=(224, 224), shuffle=True)"
