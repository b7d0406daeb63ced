"""LitData's StreamingRawDataset, put together as its documentation does: under a plain DataLoader, with a transform.

The dataset fetches and decodes the items of a batch at once and some of the next batch ahead: it reads in an event
loop, and transforms in up to 32 threads. What it reads from a folder, mounted or not, blocks that loop, one file after
the other (only its clients of object stores are asynchronous), so that nothing but `--workers` reads several at once.

Order and labels are the list's: the indexer, which its documentation lets one replace, takes the list's files, where
its own would walk the folder and write an index into it; labels are added by index, since a transform is given bytes
and no more. The decoder is asyncbatch's, and arrays become tensors without a copy, as in the contender `dataloader`.

From a bucket it reads by its own downloader, which has no setting that allows one without TLS, so that this is added
to what it opens its clients with. The indexer then tells sizes, as a listing would: by them it chooses how many reads
are under way.
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
from bench.objectstore import ACCESS, BUCKET

try:
    import torch
    from litdata import StreamingRawDataset
    from litdata.raw.indexer import BaseIndexer, FileMetadata
    from litdata.streaming import downloader

    from bench.contenders.dataloader import deliver  # which needs torch, too
except ImportError as error:
    absent("litdata_raw", error)


class Listed(BaseIndexer):
    def __init__(self, root: Path, paths: list[str], in_bucket: bool) -> None:
        self.root = root
        self.paths = paths
        self.in_bucket = in_bucket

    def discover_files(self, *_: Any) -> list[FileMetadata]:
        if not self.in_bucket:
            return [FileMetadata(path, size=0) for path in self.paths]  # unknown: it would cost a call to storage each
        urls = [f"s3://{BUCKET}/{Path(path).relative_to(self.root).as_posix()}" for path in self.paths]
        return [FileMetadata(url, Path(path).stat().st_size) for url, path in zip(urls, self.paths, strict=True)]

    def build_or_load_index(self, *_: Any) -> list[FileMetadata]:
        return self.discover_files()


class Pictures(StreamingRawDataset):
    def __init__(self, root: Path, endpoint: str | None, size: int, max_prefetch: int, cache: str) -> None:
        paths, self.labels = read_labels(root)
        self.size = (size, size)
        super().__init__(
            f"s3://{BUCKET}" if endpoint else str(root),
            cache,
            Listed(root, paths, in_bucket=endpoint is not None),
            storage_options=client_of(endpoint) if endpoint else None,
            transform=self.decode,
            max_prefetch=max_prefetch,
        )

    def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, int]]:
        images = super().__getitems__(indices)
        return [(torch.from_numpy(image), self.labels[at]) for image, at in zip(images, indices, strict=True)]

    def decode(self, data: bytes) -> np.ndarray:
        return cv2.resize(simplejpeg.decode_jpeg(data, "RGB"), self.size)


def client_of(endpoint: str) -> dict[str, str]:
    """Return how boto3 is to open the bucket; LitData opens obstore alike."""
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    names = {"region": "region_name"} | {name: f"aws_{name}" for name in ("access_key_id", "secret_access_key")}
    return {names[name]: value for name, value in ACCESS.items()} | {"endpoint_url": endpoint}


def epochs(args: argparse.Namespace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    with tempfile.TemporaryDirectory() as cache:  # where files would be kept, which is off
        yield from deliver(Pictures(args.data, args.endpoint, args.image_size, args.max_prefetch, cache), args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments = parser("litdata_raw")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--prefetch-factor", type=int, default=2)
    arguments.add_argument("--endpoint", help="of a bucket that has the pictures, too, to be read from there")
    arguments.add_argument("--max-prefetch", type=int, default=16, help="pictures ahead of a batch; LitData's default")
    contend("litdata_raw", epochs, arguments.parse_args())
