"""What `Loader.state_dict` writes and `load_state_dict` reads: small JSON, checked as if a stranger had written it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from asyncbatch._errors import StateMismatch
from asyncbatch._progress import Progress
from asyncbatch.sampling import Plan

__all__ = ["restored", "to_state"]

_VERSION = 1
_MOST = 2**53  # whole numbers that every JSON reader keeps
_MOST_RANGES = 1000  # and so many batches ahead: a state is a few hundred bytes, and what is larger is none
_MOST_AHEAD = 10**6

_COUNTS = ("epoch", "step", "failed", "rank", "world")


def to_state(progress: Progress, plan: Plan, seed: int, source: str) -> dict[str, Any]:
    """Return a state, of what JSON can hold and in under 4 KB.

    Args:
        progress: How far the caller came.
        plan: What it is delivered by.
        seed: The loader's.
        source: The source's fingerprint.
    """
    return {
        "asyncbatch": _VERSION,
        "epoch": progress.epoch,
        "step": progress.step,
        "ahead": progress.ahead(),
        "failed": progress.failed,
        "skipped": list(progress.skipped),
        "rank": plan.rank,
        "world": plan.world,
        **_identity(plan, seed, source),
    }


def restored(state: object, plan: Plan, seed: int, source: str) -> Progress:
    """Return the progress that a state tells of.

    Raises:
        StateMismatch: It is no state, or one of another order of batches.
    """
    if not isinstance(state, Mapping):
        raise StateMismatch(f"a state is what state_dict() returned, got {type(state).__name__}: {state!r:.80}")
    if "asyncbatch" not in state:
        names = ", ".join(map(repr, list(state)[:4])) or "nothing"
        raise StateMismatch(
            f"this is no state of a loader: it holds {names:.80}; give what state_dict() returned, such as "
            'checkpoint["loader"]'
        )
    version = state.get("asyncbatch")
    if type(version) is not int or version != _VERSION:
        raise StateMismatch(
            f"the state is of version {version!r:.20}, and this asyncbatch reads version {_VERSION}; "
            "resume with the release that wrote it, or begin the epoch anew by set_epoch()"
        )
    _check_form(state)
    identity = _identity(plan, seed, source)
    differing = [
        f"{_WORDS[name]} was {state[name]!r:.80} and is {value!r:.80}"
        for name, value in identity.items()
        if type(state[name]) is not type(value) or state[name] != value
    ]
    if state["source"] != source and state["samples"] == len(plan.order):
        differing[0] += f", both of {len(plan.order)!r} samples an epoch"
    if differing:
        raise StateMismatch(
            f"the state is of another order of batches: {'; '.join(differing)}. Make the loader as it was, or begin "
            "the epoch anew by set_epoch()"
        )
    if state["step"] >= plan.steps:
        raise _broken("step", state["step"], f"below the {plan.steps} batches of an epoch")
    if state["ahead"] and (state["rank"], state["world"]) != (plan.rank, plan.world):
        was, now = (
            f"rank {rank} of {world}" for rank, world in ((state["rank"], state["world"]), (plan.rank, plan.world))
        )
        raise StateMismatch(
            f"the state is of {was} with in_order=False, and this is {now}: which batches came early is a rank's own. "
            "Resume each rank from its own state"
        )
    first = state["epoch"] * plan.steps + state["step"]
    ahead = [(first + start, first + stop) for start, stop in state["ahead"]]
    return Progress(plan.steps, first, ahead, state["skipped"], state["failed"])


_WORDS = {
    "source": "the source (its fingerprint)",
    "samples": "the number of samples an epoch",
    "sampler": "the sampler",
    "seed": "the seed",
    "global_batch": "the global batch, batch_size times the number of ranks,",
    "drop_last": "drop_last",
}


def _identity(plan: Plan, seed: int, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "samples": len(plan.order),
        "sampler": plan.order.fingerprint,
        "seed": seed,
        "global_batch": plan.global_batch,
        "drop_last": plan.drop_last,
    }


def _check_form(state: Mapping[Any, Any]) -> None:
    for name in (*_COUNTS, "ahead", "skipped", *_WORDS):
        if name not in state:
            raise StateMismatch(f"the state has no {name!r}, so that it is no state or was damaged")
    for name in _COUNTS:
        if not _is_count(state[name]):
            raise _broken(name, state[name], "a whole number of 0 or more")
    if not _is_list(state["skipped"]) or not all(map(_is_count, state["skipped"])):
        raise _broken("skipped", state["skipped"], "a list of indices")
    if not _are_ranges(state["ahead"]):
        raise _broken("ahead", state["ahead"], "a list of ranges that rise")


def _are_ranges(pairs: Any) -> bool:
    if not _is_list(pairs) or not all(
        _is_list(pair) and len(pair) == 2 and all(map(_is_count, pair)) for pair in pairs
    ):
        return False
    edges = [0, *(edge for pair in pairs for edge in pair)]
    return all(edge < following for edge, following in pairwise(edges)) and edges[-1] <= _MOST_AHEAD


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) <= _MOST_RANGES


def _broken(name: str, value: object, wanted: str) -> StateMismatch:
    return StateMismatch(f"the state's {name!r} must be {wanted}, got {value!r:.80}; it was damaged or is no state")
