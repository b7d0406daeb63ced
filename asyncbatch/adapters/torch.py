"""Batches as PyTorch tensors, on the device ahead of use.

PyTorch has builds for many machines, so no extra of ours chooses one: `pip install torch`, or the line that pytorch.org
gives for your machine.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from asyncbatch import Batch, ConfigError, ImageDecoder, Loader
from asyncbatch.adapters._elsewhere import LoaderElsewhere
from asyncbatch.adapters._missing import missing

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise missing("torch", "pip install torch", error) from error

__all__ = ["TorchLoader", "to_tensors"]

_Made = tuple[Batch, "torch.cuda.Event | None"]


class TorchLoader(LoaderElsewhere[_Made], IterableDataset[Batch]):
    """A `Loader` whose batches are tensors.

    Each batch is a `Batch` whose `images` and `labels` are tensors; its other attributes are as they were. Without a
    `device` they share the arrays' memory, nothing is copied, and a tensor that is kept never changes.

    With a `device`, a thread copies each batch into pinned memory and, on a CUDA stream of its own, to the device, two
    batches ahead, while the step before it runs. The stream that uses the batch waits for its copy; the CPU does not.

    It is an `IterableDataset` too, for code that insists on a `DataLoader`: `DataLoader(TorchLoader(loader),
    batch_size=None)`, without workers, since threads of this process do that work already.

    Args:
        loader: Where the batches come from.
        device: Where they go: a `torch.device`, its name or number. Default None: they stay in memory. Where this
            machine lacks it, a warning says so and they stay there, too.
        pin_memory: Whether batches are put into page-locked memory, which costs a copy, and from which a GPU reads by
            itself. Default None: where they go on to one. True without a `device` is for code that copies by itself,
            with `non_blocking=True`.
        channels_first: Whether pictures are (B, C, H, W), as PyTorch's layers have them. That is another view of the
            same memory, in the order `channels_last` that its convolutions are fast in. Default None: where they come
            from an `ImageDecoder` with `layout="nhwc"`, and so are known to be pictures.

    Attributes:
        loader: The loader.
        device: Where the batches are.

    Raises:
        ConfigError: An argument cannot be used.
    """

    def __init__(
        self,
        loader: Loader,
        device: torch.device | str | int | None = None,
        *,
        pin_memory: bool | None = None,
        channels_first: bool | None = None,
    ) -> None:
        for name, flag in (("pin_memory", pin_memory), ("channels_first", channels_first)):
            if flag is not None and not isinstance(flag, bool):
                raise ConfigError(f"{name} must be True, False or None, got {flag!r}; write {name}=True")
        self.device = _usable(device)
        super().__init__(loader, ahead=self.device.type != "cpu")
        on_cuda = self.device.type == "cuda"
        self._pins = on_cuda if pin_memory is None else pin_memory and _can_pin()
        self._stream = torch.cuda.Stream(self.device) if on_cuda else None  # type: ignore[no-untyped-call]
        decoder = loader.decoder
        pictures = isinstance(decoder, ImageDecoder) and decoder.layout == "nhwc"
        self._channels_first = pictures if channels_first is None else channels_first

    def __repr__(self) -> str:
        return f"TorchLoader({self.loader!r}, device={str(self.device)!r})"

    def epochs(self, n: int | None = None) -> Iterator[Batch]:
        """Return an iterator over the next `n` epochs, as `Loader.epochs` does; None goes on for ever.

        Raises:
            ConfigError: This is a worker of a `DataLoader`.
        """
        if get_worker_info() is not None:
            raise ConfigError(
                "every worker process of a DataLoader would get all batches; "
                "write DataLoader(…, batch_size=None, num_workers=0), for threads do the work already"
            )
        return super().epochs(n)

    def _make(self, batch: Batch) -> _Made:
        tensors = to_tensors(batch, channels_first=self._channels_first)
        if self._pins:
            tensors = _mapped(torch.Tensor.pin_memory, tensors)
        if self._stream is None:
            return (_mapped(lambda tensor: tensor.to(self.device), tensors) if self._ahead else tensors), None
        with torch.cuda.stream(self._stream):
            copies = _mapped(lambda tensor: tensor.to(self.device, non_blocking=True), tensors)
            return copies, self._stream.record_event()

    def _hand_over(self, made: _Made) -> Batch:
        batch, copied = made
        if copied is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(copied)
            for tensor in batch:
                if tensor is not None:  # its memory was taken on the other stream, which must not reuse it too early
                    tensor.record_stream(stream)  # type: ignore[attr-defined]
        return batch


def to_tensors(batch: Batch, *, channels_first: bool = False) -> Batch:
    """Return a batch whose images and labels are tensors that share the arrays' memory.

    For `async for batch in loader`, and wherever else a `TorchLoader` is too much.

    Args:
        batch: As a `Loader` delivers it.
        channels_first: View pictures, (B, H, W, C), as (B, C, H, W).

    Raises:
        ConfigError: The labels are words, or pictures that are no pictures were to be viewed as such.
    """
    if batch.labels is not None and batch.labels.dtype.kind == "U":
        raise ConfigError(
            f"the labels are words ({str(batch.labels[0])!r}, …), and PyTorch has no tensors of these; "
            "give the source class indices, as a folder of class folders has them"
        )

    def tensor(array: Any) -> Any:
        # PyTorch has no tensors that cannot be written to, as the arrays of a `RayLoader` are: those are copied.
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))

    images = tensor(batch.images)
    if channels_first:
        if images.ndim != 4:
            raise ConfigError(f"rows are {batch.images.shape[1:]}, no pictures; write channels_first=False")
        images = images.permute(0, 3, 1, 2)
    return _like(batch, images, None if batch.labels is None else tensor(batch.labels))


def _like(batch: Batch, images: Any, labels: Any) -> Batch:
    return Batch(
        images, labels, indices=batch.indices, keys=batch.keys, epoch=batch.epoch, step=batch.step, errors=batch.errors
    )


def _mapped(function: Callable[[torch.Tensor], torch.Tensor], batch: Batch) -> Batch:
    images, labels = (None if tensor is None else function(tensor) for tensor in batch)  # type: ignore[arg-type]
    return _like(batch, images, labels)


def _usable(device: Any) -> torch.device:
    if device is None:
        return torch.device("cpu")
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device must be one that PyTorch knows, got {device!r}; write device='cuda'") from error
    try:
        return torch.empty(0, device=wanted).device  # with its number, which is this thread's and not that of others
    except (RuntimeError, AssertionError, NotImplementedError):
        warnings.warn(
            f"device={str(wanted)!r}: PyTorch {torch.__version__} finds none on this machine, "
            "so batches stay in memory",
            stacklevel=3,
        )
        return torch.device("cpu")


def _can_pin() -> bool:
    if torch.cuda.is_available():
        return True
    warnings.warn("pin_memory=True does nothing here: PyTorch finds no GPU that would read that memory", stacklevel=3)
    return False
