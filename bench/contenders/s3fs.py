"""s3fs in a map-style dataset under PyTorch's DataLoader, as many write it: each item is one `cat_file`.

Each worker opens a file system of its own when it is first asked, since s3fs does not survive a fork. With
`--max-concurrency 1`, `cat_file` asks for an object at once; as it comes, it asks for its size before. `--batched`
fetches the items of a batch at once, by one `cat` of all their keys in `__getitems__`. The decoder is asyncbatch's, and
arrays become tensors without a copy, as in the contender `dataloader`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import simplejpeg

from bench.contenders._contend import absent, contend, parser
from bench.data import read_labels
from bench.objectstore import ACCESS, BUCKET

try:
    import torch
    from s3fs import S3FileSystem
    from torch.utils.data import Dataset

    from bench.contenders.dataloader import deliver  # which needs torch, too
except ImportError as error:
    absent("s3fs", error)


class Pictures(Dataset):
    def __init__(self, root: Path, endpoint: str, size: int, max_concurrency: int) -> None:
        paths, self.labels = read_labels(root)
        self.keys = [f"{BUCKET}/{Path(path).relative_to(root).as_posix()}" for path in paths]
        self.endpoint = endpoint
        self.size = (size, size)
        self.max_concurrency = max_concurrency

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.item(index, self.files.cat_file(self.keys[index]))

    @cached_property
    def files(self) -> S3FileSystem:
        options: dict[str, Any] = {"max_concurrency": self.max_concurrency} if self.max_concurrency else {}
        return S3FileSystem(
            key=ACCESS["access_key_id"],
            secret=ACCESS["secret_access_key"],
            endpoint_url=self.endpoint,
            client_kwargs={"region_name": ACCESS["region"]},
            **options,
        )

    def item(self, index: int, data: bytes) -> tuple[torch.Tensor, int]:
        image = cv2.resize(simplejpeg.decode_jpeg(data, "RGB"), self.size)
        return torch.from_numpy(image), self.labels[index]


class BatchedPictures(Pictures):
    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, int]]:
        found = self.files.cat([self.keys[index] for index in indices])
        return [self.item(index, found[self.keys[index]]) for index in indices]


def epochs(args: argparse.Namespace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    make = BatchedPictures if args.batched else Pictures
    yield from deliver(make(args.data, args.endpoint, args.image_size, args.max_concurrency), args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments = parser("s3fs")
    arguments.add_argument("--endpoint", required=True, help="of the bucket")
    arguments.add_argument("--workers", type=int, default=8)
    arguments.add_argument("--prefetch-factor", type=int, default=2)
    arguments.add_argument("--batched", action="store_true", help="all items of a batch at once")
    arguments.add_argument("--max-concurrency", type=int, default=0, help="s3fs's, for an object; 0: as it comes")
    contend("s3fs", epochs, arguments.parse_args())
