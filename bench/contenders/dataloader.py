"""PyTorch's DataLoader as its documentation advises: worker processes that live for all epochs, in order, uint8.

Each item becomes a tensor over the decoded array without a copy, and the default collate function stacks a batch in
a worker straight into shared memory. OpenCV's and torch's own threads are off: they would fight over the cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import absent, contend, parser
from bench.data import read_labels

try:
    import torch
    from torch.utils.data import DataLoader, Dataset
except ImportError as error:
    absent("dataloader", error)


class Pictures(Dataset):
    def __init__(self, root: Path, size: int, decoder: str) -> None:
        self.paths, self.labels = read_labels(root)
        self.size = (size, size)
        self.decode = {"opencv": self.decode_opencv, "simplejpeg": self.decode_simplejpeg}[decoder]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.decode(self.paths[index])), self.labels[index]

    def decode_opencv(self, path: str) -> np.ndarray:
        return cv2.cvtColor(cv2.resize(cv2.imread(path), self.size), cv2.COLOR_BGR2RGB)

    def decode_simplejpeg(self, path: str) -> np.ndarray:
        return cv2.resize(simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB"), self.size)


def epochs(args: argparse.Namespace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    loader = DataLoader(
        Pictures(args.data, args.image_size, args.decoder),
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
    arguments.add_argument("--prefetch-factor", type=int, default=2)
    arguments.add_argument("--decoder", choices=["opencv", "simplejpeg"], default="opencv")
    contend("dataloader", epochs, arguments.parse_args())
