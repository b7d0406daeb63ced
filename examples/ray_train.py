"""Train on two ranks of Ray Train, whose pictures a shared pool of worker processes reads and decodes.

It needs `pip install 'asyncbatch[ray]' 'ray[train]' torch`. On a cluster the pool's workers are spread over all nodes,
and the ranks wait for nothing but their GPUs; here all of them are processes of this machine.

Usage: python examples/ray_train.py FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

try:
    import ray
    import ray.train
    import torch
    from ray.train.torch import TorchTrainer, prepare_model
    from torch import nn
except ImportError:
    sys.exit(__doc__)

from asyncbatch.adapters.ray import RayLoader, RayPool
from asyncbatch.adapters.torch import TorchLoader

RANKS, EPOCHS, GLOBAL_BATCH = 2, 3, 16


def train(config: dict) -> None:
    torch.manual_seed(0)
    # "auto" asks torch.distributed, which Ray Train has initialised: each rank has its part of every global batch.
    loader = RayLoader(
        config["folder"], workers=config["pool"], shard="auto",
        batch_size=GLOBAL_BATCH // RANKS, image_size=64, shuffle=True, seed=1,
    )  # fmt: skip
    classes = len(loader.source.class_names)
    layers = nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)
    model = prepare_model(nn.Sequential(*layers))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    if checkpoint := ray.train.get_checkpoint():  # Ray Train starts failed ranks again
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder) / "state.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        loader.load_state_dict(saved["loader"])
    with loader:
        for epoch in range(loader.state_dict()["epoch"], EPOCHS):
            seen = 0
            for images, labels in TorchLoader(loader):
                loss = nn.functional.cross_entropy(model(images.float() / 255), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen += len(labels)
            with tempfile.TemporaryDirectory() as folder:
                torch.save({"model": model.state_dict(), "loader": loader.state_dict()}, Path(folder) / "state.pt")
                metrics = {"epoch": epoch, "loss": loss.item(), "seen": seen}
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def main(folder: str) -> None:
    ray.init()
    pool = RayPool(2, cpus_per_worker=0.5)  # shares so small that two cores are enough for all of it
    with tempfile.TemporaryDirectory() as results:
        trainer = TorchTrainer(
            train,
            train_loop_config={"folder": str(Path(folder).resolve()), "pool": pool},
            scaling_config=ray.train.ScalingConfig(num_workers=RANKS, resources_per_worker={"CPU": 0.5}),
            run_config=ray.train.RunConfig(storage_path=results),
        )
        print(f"last report of rank 0: {trainer.fit().metrics}", flush=True)
    pool.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
