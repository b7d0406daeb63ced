"""PyTorch's DataLoader as its documentation advises: worker processes that live for all epochs, in order.

Each item becomes a tensor over the decoded array without a copy, and the default collate function stacks a batch in
a worker straight into shared memory. OpenCV's and torch's own threads are off: they would fight over the cores. float32
is made in the workers, by a table, the fastest way that is known.

`--threads` reads and decodes the items of a batch at once, in a pool that each worker has of its own: `__getitems__`,
which DataLoader asks for a whole batch where a dataset has it, is how users wait for slow storage without a process
for every file that they wait for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import TABLE, absent, contend, parser
from bench.data import read_labels

try:
    import torch
    from torch.utils.data import DataLoader, Dataset
except ImportError as error:
    absent("dataloader", error)


class Pictures(Dataset):
    def __init__(self, root: Path, size: int, decoder: str, dtype: str) -> None:
        self.paths, self.labels = read_labels(root)
        self.size = (size, size)
        self.decode = {"opencv": self.decode_opencv, "simplejpeg": self.decode_simplejpeg}[decoder]
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.decode(self.paths[index])
        image = cv2.LUT(image, TABLE) if self.dtype == "float32" else image
        return torch.from_numpy(image), self.labels[index]

    def decode_opencv(self, path: str) -> np.ndarray:
        return cv2.cvtColor(cv2.resize(cv2.imread(path), self.size), cv2.COLOR_BGR2RGB)

    def decode_simplejpeg(self, path: str) -> np.ndarray:
        return cv2.resize(simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB"), self.size)


class PooledPictures(Pictures):
    def __init__(self, root: Path, size: int, decoder: str, dtype: str, threads: int) -> None:
        super().__init__(root, size, decoder, dtype)
        self.threads = threads

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)  # first asked for in a worker: threads do not survive a fork

    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, int]]:
        return list(self.pool.map(self.__getitem__, indices))


def epochs(args: argparse.Namespace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    pictures = (args.data, args.image_size, args.decoder, args.dtype)
    yield from deliver(PooledPictures(*pictures, args.threads) if args.threads else Pictures(*pictures), args)


def deliver(pictures: Any, args: argparse.Namespace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of a dataset; LitData's goes this way, too."""
    loader = DataLoader(
        pictures,
        batch_size=args.batch_size,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        prefetch_factor=args.prefetch_factor if args.workers else None,
    )
    for _ in range(args.epochs):
        yield from loader


if __name__ == "__main__":
    # DataLoader does the first in its workers, too. With 0 workers, stacking in several threads is many times slower
    # as soon as another process wants a core.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments = parser("dataloader")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--threads", type=int, default=0, help="that load a batch, in each worker; 0: none")
    arguments.add_argument("--prefetch-factor", type=int, default=2)
    arguments.add_argument("--decoder", choices=["opencv", "simplejpeg"], default="opencv")
    contend("dataloader", epochs, arguments.parse_args())
