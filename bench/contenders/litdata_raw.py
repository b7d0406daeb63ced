"""LitData's StreamingRawDataset, put together as its documentation does: under a plain DataLoader, with a transform.

The dataset fetches and decodes the items of a batch at once and some of the next batch ahead: it reads in an event
loop, and transforms in up to 32 threads. What it reads from a folder, mounted or not, blocks that loop, one file after
the other (only its clients of object stores are asynchronous), so that nothing but `--workers` reads several at once.

Order and labels are the list's: the indexer, which its documentation lets one replace, takes the list's files, where
its own would walk the folder and write an index into it; labels are added by index, since a transform is given bytes
and no more. The decoder is asyncbatch's, and arrays become tensors without a copy, as in the contender `dataloader`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from bench.contenders._contend import absent, contend, parser
from bench.data import read_labels

try:
    import torch
    from litdata import StreamingRawDataset
    from litdata.raw.indexer import BaseIndexer, FileMetadata

    from bench.contenders.dataloader import deliver  # which needs torch, too
except ImportError as error:
    absent("litdata_raw", error)


class Listed(BaseIndexer):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def discover_files(self, *_: Any) -> list[FileMetadata]:
        return [FileMetadata(path, size=0) for path in self.paths]  # unknown: it would cost a call to storage each

    def build_or_load_index(self, *_: Any) -> list[FileMetadata]:
        return self.discover_files()


class Pictures(StreamingRawDataset):
    def __init__(self, root: Path, size: int, max_prefetch: int, cache: str) -> None:
        paths, self.labels = read_labels(root)
        self.size = (size, size)
        indexer = Listed(paths)
        super().__init__(str(root), cache, indexer, transform=self.decode, max_prefetch=max_prefetch)

    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, int]]:
        images = super().__getitems__(indices)
        return [(torch.from_numpy(image), self.labels[at]) for image, at in zip(images, indices, strict=True)]

    def decode(self, data: bytes) -> np.ndarray:
        return cv2.resize(simplejpeg.decode_jpeg(data, "RGB"), self.size)


def epochs(args: argparse.Namespace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    with tempfile.TemporaryDirectory() as cache:  # where files would be kept, which is off
        yield from deliver(Pictures(args.data, args.image_size, args.max_prefetch, cache), args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments = parser("litdata_raw")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--prefetch-factor", type=int, default=2)
    arguments.add_argument("--max-prefetch", type=int, default=16, help="pictures ahead of a batch; LitData's default")
    contend("litdata_raw", epochs, arguments.parse_args())
