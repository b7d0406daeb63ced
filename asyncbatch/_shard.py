"""Which part of every global batch is this process's."""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Literal

from asyncbatch._errors import ConfigError

__all__ = ["Shard", "as_shard"]

Shard = tuple[int, int] | Literal["auto"] | None

_warned = False


def as_shard(shard: Shard) -> tuple[int, int]:
    """Return (rank, world).

    Raises:
        ConfigError: It is neither "auto", nor None, nor a rank and the number of ranks.
    """
    if shard is None:
        _warn_once(os.environ)
        return 0, 1
    if isinstance(shard, str) and shard == "auto":
        return _of_torch() or _of_jax() or _of_environment(os.environ) or (0, 1)
    well_formed = isinstance(shard, tuple | list) and len(shard) == 2
    try:
        pair = [operator.index(number) for number in shard if not isinstance(number, bool | str)]
    except TypeError:
        pair = []
    if not well_formed or len(pair) != 2:
        raise ConfigError(
            f'shard must be (rank, world), "auto" or None, got {shard!r}; write shard=(rank, world) or shard="auto"'
        )
    rank, world = pair
    if not 0 <= rank < world:
        raise ConfigError(
            f"shard must be (rank, world) with a rank from 0 to world - 1, got {shard!r}; "
            'write shard=(rank, world) or shard="auto"'
        )
    return rank, world


def _of_torch() -> tuple[int, int] | None:
    """Ask torch.distributed, if the caller has it, and has initialised it."""
    distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def _of_jax() -> tuple[int, int] | None:
    """Ask JAX, if the caller has it and has initialised it for several processes. To ask before would initialise it."""
    jax: Any = sys.modules.get("jax")
    is_initialized = getattr(getattr(jax, "distributed", None), "is_initialized", None)
    if is_initialized is None or not is_initialized():
        return None
    return jax.process_index(), jax.process_count()


def _of_environment(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Take RANK and WORLD_SIZE, as torchrun and most launchers set them."""
    texts = [environment.get(name) for name in ("RANK", "WORLD_SIZE")]
    if texts in ([None, None], [None, "1"], ["0", None]):  # one alone, of several, would make all of them read it all
        return None
    if all(text is not None and text.isascii() and text.isdigit() for text in texts):
        rank, world = (int(text or 0) for text in texts)
        if rank < world:
            return rank, world
    raise ConfigError(
        f'shard="auto" found RANK={texts[0]!r} and WORLD_SIZE={texts[1]!r}, which are no rank and number of ranks; '
        "have the launcher set both, or write shard=(rank, world)"
    )


def _warn_once(environment: Mapping[str, str]) -> None:
    global _warned  # noqa: PLW0603 - once for a process, whoever makes the loaders
    world = environment.get("WORLD_SIZE", "")
    if not _warned and world.isdigit() and int(world) > 1:
        _warned = True
        warnings.warn(
            f'WORLD_SIZE is {world}, and this loader gives every rank every sample; write shard="auto" to share them '
            "out, or shard=(0, 1) if that is meant",
            stacklevel=4,  # whoever made the loader
        )
