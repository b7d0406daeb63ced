"""Train on several processes: each reads its part of every batch, and their gradients are averaged.

    python -m torch.distributed.run --nproc-per-node 2 examples/sharded_torchrun.py FOLDER

It needs `pip install torch`. Alone it is a group of one:

Usage: python examples/sharded_torchrun.py FOLDER
"""

from __future__ import annotations

import os
import sys

try:
    import torch
    from torch import distributed, nn
except ImportError:
    sys.exit(__doc__)

import asyncbatch as ab
from asyncbatch.adapters.torch import TorchLoader

EPOCHS, GLOBAL_BATCH = 3, 16


def main(folder: str) -> None:
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "RANK": "0", "WORLD_SIZE": "1"} | os.environ)
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)

    # "auto" asks torch.distributed. Step for step the ranks have, together, what one process would have alone.
    loader = ab.Loader(folder, batch_size=GLOBAL_BATCH // world, image_size=64, shuffle=True, seed=1, shard="auto")
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, len(loader.source.class_names)),
    )  # fmt: skip
    model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)

    seen = 0
    with TorchLoader(loader) as batches:
        for images, labels in batches.epochs(EPOCHS):
            loss = nn.functional.cross_entropy(model(images.float() / 255), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(labels)

    total = torch.tensor(seen)
    distributed.all_reduce(total)
    norm = sum(float(weight.detach().square().sum()) for weight in model.parameters())
    print(f"rank {rank} of {world}: {seen} pictures of {int(total)}, weights {norm:.4f}", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
