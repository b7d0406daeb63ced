"""The transform that a user names on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import asyncbatch as ab
from asyncbatch.cli.terminal import CommandError

__all__ = ["USUAL", "transform_of"]

USUAL = "usual"


def transform_of(name: str, image_size: tuple[int, int]) -> Any:
    """Return what `MODULE:NAME` names, imported with the current folder first; or the usual crop and flip.

    Raises:
        CommandError: It is not there, or is nothing that can be called.
    """
    if name == USUAL:
        return [ab.RandomResizedCrop(image_size), ab.RandomHorizontalFlip()]
    module, colon, attribute = name.replace(".py:", ":").partition(":")
    if not (module and colon and attribute):
        raise CommandError(
            f"a transform is named as MODULE:NAME, got {name!r}; for `augment` in my_transforms.py: "
            "--augment my_transforms:augment"
        )
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CommandError(f"there is no {attribute} in a module {module} that Python finds here: {error}") from error
    finally:
        sys.path.pop(0)
    if not callable(found) and not isinstance(found, list | tuple):
        raise CommandError(f"{name} is {found!r}; a transform is a callable(image, rng) -> image, or a list of them")
    return found
