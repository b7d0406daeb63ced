"""Augment with albumentations, as it is; a `torchvision.transforms.v2` transform goes in the same place.

Its randomness is seeded by the loader, from (seed, epoch, index): run it twice, and the pictures are the same.

It needs `pip install albumentations`.

Usage: python examples/albumentations_transform.py FOLDER
"""

from __future__ import annotations

import sys
import zlib

try:
    import albumentations as A  # noqa: N812 - as everybody writes it
except ImportError:
    sys.exit(__doc__)

import asyncbatch as ab


def main(folder: str) -> None:
    transform = A.Compose([A.RandomResizedCrop((96, 96)), A.HorizontalFlip(), A.RandomBrightnessContrast(p=0.5)])
    decoder = ab.ImageDecoder((96, 96), dtype="float32", scale=1 / 255, transform=transform)
    loader = ab.Loader(folder, batch_size=16, decoder=decoder, shuffle=True, seed=7)
    for batch in loader.epochs(2):
        checksum = zlib.crc32(batch.images.tobytes())
        print(f"epoch {batch.epoch} step {batch.step}: {batch.images.shape} {batch.images.dtype}, crc {checksum:08x}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
