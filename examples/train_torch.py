"""Train a small PyTorch model on a folder with one sub-folder a class; killed and started again, it goes on.

However often it is killed, the weights in the end are those of a run that was not, bit for bit.

It needs `pip install torch`.

Usage: python examples/train_torch.py FOLDER CHECKPOINT [EPOCHS]
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit(__doc__)

import asyncbatch as ab
from asyncbatch.adapters.torch import TorchLoader

EVERY = 2  # steps between checkpoints


def main(folder: str, checkpoint: Path, epochs: int = 5) -> None:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    augment = [ab.RandomResizedCrop(64), ab.RandomHorizontalFlip()]
    decoder = ab.ImageDecoder(64, transform=augment)
    loader = TorchLoader(ab.Loader(folder, batch_size=8, decoder=decoder, shuffle=True, seed=1), device)
    classes = len(loader.loader.source.class_names)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, classes),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
        loader.load_state_dict(saved["loader"])
        print(f"going on in epoch {saved['loader']['epoch']}", flush=True)

    left = epochs - loader.state_dict()["epoch"]
    batches = loader.epochs(left) if left > 0 else ()
    for number, batch in enumerate(batches, 1):
        images, labels = batch
        loss = nn.functional.cross_entropy(model(images.float() / 255), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {batch.epoch} step {batch.step} loss {loss.item():.4f}", flush=True)
        if number % EVERY == 0 or batch.step == len(loader) - 1:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
            torch.save({**state, "rng": torch.get_rng_state()}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)  # never half a file, whenever it is killed

    weights = b"".join(weight.cpu().numpy().tobytes() for weight in model.state_dict().values())
    print(f"weights {hashlib.sha256(weights).hexdigest()[:16]}")
    loader.close()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
