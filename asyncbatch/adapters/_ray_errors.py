"""What Ray raises for workers, and what that means here."""

from __future__ import annotations

from ray.exceptions import (
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RaySystemError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from asyncbatch import AsyncbatchError, ConfigError

__all__ = ["LOST", "PASSING", "WorkersLost", "cause_of", "describe"]

LOST = (RayActorError, ObjectLostError, NodeDiedError, OutOfMemoryError, ActorUnschedulableError,
        ActorPlacementGroupRemoved, RuntimeEnvSetupError)  # fmt: skip
"""What Ray raises for a worker that died, or whose node did, with a batch or before one could be fetched from it."""

PASSING = (ActorUnavailableError, ObjectLostError)
"""Of these, what may be while the worker lives."""


class WorkersLost(AsyncbatchError):
    """No worker was there for longer than `grace`, or a batch cost the life of every worker that tried to make it."""


def cause_of(error: RayTaskError | RaySystemError) -> BaseException:
    """Return what was raised in a worker, without Ray's wrapping."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, RaySystemError):  # what was sent could not be taken in
        cause = cause.client_exc
        if not isinstance(cause, AsyncbatchError):
            return ConfigError(
                f"a worker cannot take in the source, decoder, reader or sampler: {cause}; install your code and what "
                "it imports on every node, or send it along: ray.init(runtime_env={'working_dir': '.'})"
            )
    return cause if isinstance(cause, BaseException) else error


def describe(error: BaseException) -> str:
    """Return the first line of what Ray says, which is followed by what it knows of the process."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
