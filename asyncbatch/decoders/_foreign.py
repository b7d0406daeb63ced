"""Other people's transforms, each made a `callable(image, rng) -> image` that draws from `rng` and nothing else.

Neither albumentations nor torchvision is imported here: whoever has one of their transforms has imported them.
"""

from __future__ import annotations

import copy
import functools
import inspect
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from asyncbatch._errors import ConfigError
from asyncbatch._types import Array

__all__ = ["Transform", "as_transforms"]

Transform = Callable[[Array, np.random.Generator], Any]


def as_transforms(transform: Any) -> tuple[Transform, ...]:
    """Return the transforms to apply one after another.

    Args:
        transform: None, one transform, or a list or tuple of them.

    Raises:
        ConfigError: One of them is no transform.
    """
    if transform is None:
        return ()
    return tuple(_as_transform(one) for one in (transform if isinstance(transform, (list, tuple)) else (transform,)))


def _as_transform(transform: Any) -> Transform:
    if not callable(transform) or isinstance(transform, type):
        raise ConfigError(
            f"transform must be callable(image, rng) -> image, or a list of such, got {transform!r}; "
            f"write transform=RandomHorizontalFlip(), or transform=lambda image, rng: image[::-1]"
        )
    modules = tuple(f"{parent.__module__}." for parent in type(transform).__mro__)
    if any(module.startswith("albumentations.") for module in modules):
        if not hasattr(transform, "set_random_state"):
            raise ConfigError(f"{transform!r} cannot be seeded by sample; write pip install 'albumentations>=2'")
        return _Albumentations(transform)
    if any(module.startswith(("torchvision.transforms.", "torch.nn.")) for module in modules):
        return _Torchvision(transform)
    return transform if _takes_rng(transform) else _WithoutRng(transform)


def _takes_rng(function: Callable[..., Any]) -> bool:
    """Say whether to call it with (image, rng), or with (image) as its only required argument."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions do not tell
        return True
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in places if p.default is p.empty]
    return len(required) != 1 or any(p.name == "rng" for p in parameters)


class _Adapted:
    """A transform under its own name in messages."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __repr__(self) -> str:
        return repr(self.transform)


class _WithoutRng(_Adapted):
    def __call__(self, image: Array, rng: np.random.Generator) -> Any:
        return self.transform(image)


class _Albumentations(_Adapted):
    """An albumentations transform, such as `A.Compose([...])`.

    It keeps its generators in itself, so every thread works on a copy of its own.
    """

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self._own = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Albumentations, (self.transform,)  # copies and pickles begin without the threads' copies

    def __call__(self, image: Array, rng: np.random.Generator) -> Any:
        own = self._own
        if not hasattr(own, "transform"):
            own.transform = copy.deepcopy(self.transform)
        # One generator for all its parts. `set_random_seed` would give each part its own, all seeded alike, and parts
        # with the same probability would then always happen together.
        own.transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))  # noqa: S311 - no secret
        return _as_array(own.transform(image=image)["image"])


class _Torchvision(_Adapted):
    """A torchvision transform, or any module that takes and returns a picture, (C, H, W)."""

    def __call__(self, image: Array, rng: np.random.Generator) -> Any:
        torch = sys.modules["torch"]
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        with _drawing_from(torch)(generator), torch.no_grad():
            return _as_array(self.transform(torch.from_numpy(image).permute(2, 0, 1)))


def _as_array(result: Any) -> Any:
    """Make an (H, W, C) array of a (C, H, W) tensor; leave anything else."""
    return result.permute(1, 2, 0).numpy() if hasattr(result, "permute") else result


@functools.cache
def _drawing_from(torch: Any) -> Any:
    """Return a context manager's class: within it, torch's random functions draw from the generator that it is given.

    torchvision draws from torch's global generator. To seed and restore that one would be wrong: the training thread
    uses it at the same time. A function mode belongs to its thread, so nothing is shared and nothing locked.
    """
    draws = {"_sample_dirichlet", "bernoulli", "bernoulli_", "exponential_", "multinomial", "normal", "normal_",
             "poisson", "rand", "randint", "randn", "random_", "randperm", "uniform_"}  # fmt: skip
    like = {"rand_like": torch.Tensor.uniform_, "randn_like": torch.Tensor.normal_}  # no generator before torch 2.10

    class DrawingFrom(torch.overrides.TorchFunctionMode):  # type: ignore[misc] # torch is not there to be checked
        def __init__(self, generator: Any) -> None:
            super().__init__()
            self.generator = generator

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name, kwargs = getattr(func, "__name__", ""), kwargs or {}
            if name in like:
                return like[name](torch.empty_like(*args, **kwargs), generator=self.generator)
            if name in draws and kwargs.get("generator") is None:
                kwargs = {**kwargs, "generator": self.generator}
            return func(*args, **kwargs)

    return DrawingFrom
