"""The benchmark's pictures: seeded JPEGs whose spectrum and size are a photograph's.

Crops of the photographs that scikit-image and scikit-learn ship are the basis where these are installed, since the
time a JPEG takes to decode follows from its detail; without them the basis is noise with a 1/f spectrum, as natural
scenes have on average (Field 1987, doi:10.1364/JOSAA.4.002379). Make a set by itself with
`python -m bench.data FOLDER`.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

import asyncbatch as ab
from bench.progress import Progress

PHOTOGRAPHS = {
    "skimage": ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"],
    "sklearn": ["china.jpg", "flower.jpg"],
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
CLASSES = 10
QUALITIES = range(40, 99, 2)
RECORD = "bench-data.json"
LABELS = "train.txt"
TARS = "train-*.tar"
IN_A_SHARD = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a set is made from; two sets of one spec and one basis are equal byte for byte.

    Attributes:
        count: Pictures.
        width: In pixels; 500 × 375 is the commonest size in ImageNet.
        height: In pixels.
        seed: Of everything drawn.
        form: "jpeg", in colour; or "png", in grey, as sets of digits and the like are.
    """

    count: int = 2000
    width: int = 500
    height: int = 375
    seed: int = 7
    form: str = "jpeg"

    @property
    def default_root(self) -> Path:
        name = f"{self.form}-{self.width}x{self.height}-{self.count}-seed{self.seed}"
        return Path(tempfile.gettempdir()) / "asyncbatch-bench" / name


def ensure(spec: Spec, root: Path | None = None) -> Path:
    """Return the folder of `spec`'s pictures, made now unless it is there and complete.

    Raises:
        SystemExit: The folder holds anything else, which is left alone.
    """
    root = spec.default_root if root is None else root
    if is_complete(spec, root):
        return root
    if root.exists() and any(root.iterdir()) and read_record(root).get("spec") != asdict(spec):
        raise SystemExit(f"{root} is neither empty nor a set of {spec}: name an empty folder, or remove this one")
    make(spec, root)
    return root


def read_record(root: Path) -> dict[str, Any]:
    """Return the record that `make` wrote: the spec, the basis and the bytes; nothing where there is none."""
    try:
        return dict(json.loads((root / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_labels(root: Path) -> tuple[list[str], list[int]]:
    """Return the paths and the labels of a set, in the order of its `train.txt`."""
    lines = (root / LABELS).read_text(encoding="utf-8").splitlines()
    names, labels = zip(*(line.rsplit(" ", 1) for line in lines), strict=True)
    return [str(root / name) for name in names], [int(label) for label in labels]


def is_complete(spec: Spec, root: Path) -> bool:
    record = read_record(root)
    try:
        paths, _ = read_labels(root)
        total = sum(Path(path).stat().st_size for path in paths)
    except (OSError, ValueError):
        return False
    return record.get("spec") == asdict(spec) and record.get("bytes") == total


def make(spec: Spec, root: Path) -> None:
    """Write class folders of JPEGs and `train.txt`, a "path label" a line.

    The record comes first, without the bytes, so that a set that was broken off is known for ours and made again.
    """
    names, bases = basis(spec)
    record = {"spec": asdict(spec), "basis": names}
    root.mkdir(parents=True, exist_ok=True)
    write_record(root, record)
    for label in range(CLASSES):
        (root / f"class_{label}").mkdir(exist_ok=True)

    def write(index: int) -> tuple[str, int]:
        data = picture(spec, index, bases)
        name = f"class_{index % CLASSES}/{index:06d}.{'jpg' if spec.form == 'jpeg' else spec.form}"
        (root / name).write_bytes(data)
        return name, len(data)

    with ThreadPoolExecutor() as pool:
        written = list(Progress(pool.map(write, range(spec.count)), "pictures", spec.count))
    lines = [f"{name} {index % CLASSES}\n" for index, (name, _) in enumerate(written)]
    (root / LABELS).write_text("".join(lines), encoding="utf-8")
    write_record(root, record | {"bytes": sum(size for _, size in written)})


def write_record(root: Path, record: dict[str, Any]) -> None:
    (root / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def picture(spec: Spec, index: int, bases: list[np.ndarray]) -> bytes:
    """Return one picture: a crop of a basis, mirrored, relit and grainy.

    JPEGs are 4:2:0, at the quality that gives their size: log-normal around 50 KB for 500 × 375 and as much a pixel for
    others, cut to 45 to 105 KB before rounding up to a whole step of quality.
    """
    rng = np.random.default_rng((spec.seed, index))
    image = crop(bases[rng.integers(len(bases))], spec.width, spec.height, rng)
    # Grain keeps detail in crops that were enlarged, as a sensor's noise does.
    image = image * rng.uniform(0.8, 1.2) + rng.normal(0, 3, image.shape[:2])[..., None]
    rgb = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8)[..., ::-1])
    if spec.form == "png":
        return bytes(cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))[1])
    size = np.clip(rng.lognormal(np.log(50e3), 0.35), 45e3, 105e3) * spec.width * spec.height / (500 * 375)

    def encode(quality: int) -> bytes:
        return bytes(simplejpeg.encode_jpeg(rgb, quality, "RGB", "420", fastdct=False))

    low, high = 0, len(QUALITIES) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(encode(QUALITIES[middle])) >= size else (middle + 1, high)
    return encode(QUALITIES[low])


def pack(root: Path) -> None:
    """Write the pictures of a set into archives beside them, in the order of `train.txt`, with their labels; once."""
    paths, labels = read_labels(root)
    for shard, start in enumerate(range(0, len(paths), IN_A_SHARD)):
        archive = root / f"train-{shard:03}.tar"
        if archive.exists():
            continue
        partial = archive.with_suffix(".part")
        with tarfile.open(partial, "w") as file:
            for place in range(start, min(start + IN_A_SHARD, len(paths))):
                file.add(paths[place], f"{place:06}{Path(paths[place]).suffix}")
                label = tarfile.TarInfo(f"{place:06}.cls")
                label.size = len(str(labels[place]))
                file.addfile(label, io.BytesIO(str(labels[place]).encode()))
        partial.rename(archive)
    ab.sources.tar(root / TARS)  # leaves its index beside them: a mount may be for reading only


def crop(base: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a random window of the wanted shape, 60 to 100 % of the largest that fits, and resize it."""
    scale = rng.uniform(0.6, 1.0) * min(base.shape[1] / width, base.shape[0] / height)
    w, h = int(width * scale), int(height * scale)
    x, y = rng.integers(base.shape[1] - w + 1), rng.integers(base.shape[0] - h + 1)
    window = base[y : y + h, x : x + w]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return cv2.resize(np.ascontiguousarray(window), (width, height), interpolation=cv2.INTER_CUBIC)


def basis(spec: Spec) -> tuple[list[str], list[np.ndarray]]:
    """Return what the pictures are cut from, (H, W, 3) uint8 BGR each, and their names."""
    found = list(photographs())
    if found:
        return [path.stem for path, _ in found], [image for _, image in found]
    return ["1/f noise"], [pink_noise(spec, np.random.default_rng((spec.seed, n, 1))) for n in range(5)]


def photographs() -> Iterator[tuple[Path, np.ndarray]]:
    """Find the photographs that installed packages ship, without importing the packages."""
    for package, names in PHOTOGRAPHS.items():
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for name in names:
                path = Path(root, FOLDERS[package], name)
                image = cv2.imread(str(path)) if path.is_file() else None
                if image is not None:
                    yield path, image


def pink_noise(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Return a picture, twice the size wanted, whose amplitude falls as one over frequency in every channel."""
    height, width = 2 * spec.height, 2 * spec.width
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height / width, np.fft.rfftfreq(width)) * width
    frequency[0, 0] = np.inf
    grey, *colours = (
        np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / frequency, (height, width)) for _ in range(4)
    )
    # Photographs are mostly grey: colours vary far less than brightness.
    channels = np.stack([grey + 0.3 * colour for colour in colours], axis=-1)
    return np.clip(128 + 50 * channels / channels.std(), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.data", description="Make the benchmark's pictures.")
    parser.add_argument("folder", type=Path, nargs="?", help="where; default: a cache folder in the temporary folder")
    parser.add_argument("--count", type=int, default=Spec().count)
    parser.add_argument("--seed", type=int, default=Spec().seed)
    args = parser.parse_args()
    root = ensure(Spec(count=args.count, seed=args.seed), args.folder)
    record = read_record(root)
    mean_kb = record["bytes"] / record["spec"]["count"] / 1000
    print(
        f"{record['spec']['count']} pictures, mean {mean_kb:.1f} KB, cut from {', '.join(record['basis'])}, in {root}"
    )


if __name__ == "__main__":
    main()
