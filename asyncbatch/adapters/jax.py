"""Batches as JAX arrays, on the devices ahead of use.

JAX has builds for many machines, so no extra of ours chooses one: `pip install jax`, or the line that its documentation
gives for your machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncbatch import Batch, ConfigError, Loader
from asyncbatch.adapters._elsewhere import LoaderElsewhere
from asyncbatch.adapters._missing import missing

try:
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
except ImportError as error:
    raise missing("jax", "pip install jax", error) from error

__all__ = ["JaxLoader"]


class JaxLoader(LoaderElsewhere[Batch]):
    """A `Loader` whose batches are JAX arrays, sharded over devices.

    Each batch is a `Batch` whose `images` and `labels` are `jax.Array`; its other attributes are as they were. A thread
    hands them to the devices two batches ahead, while the step before runs. JAX itself keeps a 64-bit number only with
    `jax_enable_x64`: without it int64 labels become int32.

    With several processes give the loader `shard="auto"`: each reads its part, and with a `sharding` over all of their
    devices the parts are one array.

    Args:
        loader: Where the batches come from.
        sharding: How a batch lies on the devices. Default None: its first axis over this process's devices, with
            `batch_size` a multiple of their number.

    Attributes:
        loader: The loader.
        sharding: How batches lie on the devices.

    Raises:
        ConfigError: An argument cannot be used.
    """

    def __init__(self, loader: Loader, sharding: Sharding | None = None) -> None:
        super().__init__(loader, ahead=True)
        if sharding is None:
            devices = np.array(jax.local_devices())
            sharding = NamedSharding(Mesh(devices, ("batch",)), PartitionSpec("batch"))  # type: ignore[no-untyped-call]
        elif not isinstance(sharding, Sharding):
            raise ConfigError(
                f"sharding must be a jax.sharding.Sharding, got {sharding!r}; "
                "write NamedSharding(mesh, PartitionSpec('batch'))"
            )
        self.sharding = sharding

    def __repr__(self) -> str:
        return f"JaxLoader({self.loader!r}, sharding={self.sharding!r})"

    def _make(self, batch: Batch) -> Batch:
        if batch.labels is not None and batch.labels.dtype.kind == "U":
            raise ConfigError(
                f"the labels are words ({str(batch.labels[0])!r}, …), and JAX has no arrays of these; "
                "give the source class indices, as a folder of class folders has them"
            )
        try:
            images = self._put(batch.images)
            labels = None if batch.labels is None else self._put(batch.labels)
        except ValueError as error:
            raise ConfigError(
                f"a batch of {len(batch.indices)} cannot be laid out by {self.sharding!r}: {error}; "
                "write drop_last=True, and a batch_size that is a multiple of the devices"
            ) from error
        return Batch(
            images,
            labels,
            indices=batch.indices,
            keys=batch.keys,
            epoch=batch.epoch,
            step=batch.step,
            errors=batch.errors,
        )

    def _hand_over(self, made: Batch) -> Batch:
        return made

    def _put(self, array: Any) -> Any:
        if self.sharding.is_fully_addressable:
            return jax.device_put(array, self.sharding)
        return jax.make_array_from_process_local_data(self.sharding, array)  # type: ignore[no-untyped-call]
