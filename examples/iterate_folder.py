"""Go through a folder of pictures, one sub-folder a class, and count what comes.

Usage: python examples/iterate_folder.py FOLDER
"""

from __future__ import annotations

import sys
from collections import Counter

import asyncbatch as ab


def main(folder: str) -> None:
    loader = ab.Loader(folder, batch_size=32, image_size=(224, 224), shuffle=True, seed=7)
    names = loader.source.class_names
    for epoch in range(2):
        seen = Counter()
        brightness = 0.0
        for images, labels in loader:
            seen.update(names[label] for label in labels)
            brightness += images.mean() * len(images)
        print(f"epoch {epoch}: {dict(sorted(seen.items()))}, mean brightness {brightness / seen.total():.1f} of 255")
    stats = loader.stats()
    print(f"{stats.samples} pictures, {stats.bytes_read:,} bytes, {stats.wait_seconds:.2f} s spent waiting for them")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
