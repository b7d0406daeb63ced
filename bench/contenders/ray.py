"""What a Ray cluster costs and gives: a `RayLoader` on nodes that are processes of this machine.

* `asleep_images_per_s_N`: decoding is a sleep of `ASLEEP_MS` a picture, which takes no core, by N workers.
* `linear_N`: that over N times one worker's: 1 is linear.
* `model_by_measured_N`: what `bench.ray_model` says for N workers over that.
* `put_ms`, `take_ms`, `take_other_node_ms`: what a batch takes in the object store: for the worker that puts it there,
  and for the process that takes it, on the same node and on another.
* `loader_images_per_s`, `ray_images_per_s`: real decoding by `Loader`, and by as many workers of one core as there are
  cores, an epoch each, in turn; `ray_by_loader` is one over the other, the median of all turns.
* `worker_images_per_s`: real decoding by one worker.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from bench.contenders._contend import LABELS, absent, cores, parser, settings
from bench.data import read_labels
from bench.ray_model import Cluster as Model

os.environ["RAY_AUTH_MODE"] = "disabled"  # a cluster of this machine, for as long as this runs

try:
    import ray
    from ray.cluster_utils import Cluster
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    absent("ray", error)

import asyncbatch as ab
from asyncbatch.adapters.ray import RayLoader

ASLEEP_MS = 10
EACH = 20  # batches of each worker
WORKERS = (1, 2, 4, 8)
STORE = 600_000_000  # bytes, of each node
ROUNDS = 5
TIMES = 40  # batches through the object store


class Asleep:
    """Decodes as if on a core of its own."""

    row_dtype = np.dtype(np.uint8)

    def __init__(self, size: int) -> None:
        self.row_shape = (size, size, 3)

    def decode(self, data, out, seed):
        time.sleep(ASLEEP_MS / 1e3)
        out[:] = 7
        return out


@ray.remote(num_cpus=0)
class Putter:
    """Returns a batch, and says how long putting one takes."""

    def __init__(self, shape) -> None:
        self.batch = np.ones(shape, np.uint8)

    def batch_of(self):
        return self.batch

    def put_s(self):
        began = time.perf_counter()
        for _ in range(TIMES):
            ray.put(self.batch)
        return (time.perf_counter() - began) / TIMES


def main() -> None:
    args = parser("ray").parse_args()
    for path in read_labels(args.data)[0]:
        Path(path).read_bytes()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "object_store_memory": STORE})
    for _ in range(2):
        cluster.add_node(num_cpus=8, object_store_memory=STORE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        line = {"name": "ray", "has_servers": True, "settings": settings(args), **store(args), **real(args)}
        line |= asleep(args, line)
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value for name, value in line.items()}))


def store(args):
    """Time batches through the object store, one after the other."""
    head = ray.get_runtime_context().get_node_id()
    (other, *_) = (node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != head)
    shape, found = (args.batch_size, args.image_size, args.image_size, 3), {}
    for name, node in (("take_ms", head), ("take_other_node_ms", other)):
        putter = Putter.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(shape)
        found.setdefault("put_ms", 1e3 * ray.get(putter.put_s.remote()))
        taking = []
        for _ in range(TIMES):
            reference = putter.batch_of.remote()
            ray.wait([reference], fetch_local=False)
            began = time.perf_counter()
            ray.get(reference)
            taking.append(time.perf_counter() - began)
        found[name] = 1e3 * statistics.median(taking)
    return found


def real(args):
    plan = {"batch_size": args.batch_size, "image_size": args.image_size, "shuffle": True}
    source = args.data / LABELS
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    speeds = {"loader": [], "ray": [], "worker": []}
    with (
        ab.Loader(source, **plan) as loader,
        RayLoader(source, workers=cores(), placement=here, **plan) as many,
        RayLoader(source, workers=1, placement=here, **plan) as one,
    ):
        for name, batches in (("loader", loader), ("ray", many), ("worker", one)):
            come_up(batches, {"ray": cores(), "worker": 1}.get(name, 0))
        for _ in range(ROUNDS):
            for name, batches in (("loader", loader), ("ray", many), ("worker", one)):
                speeds[name].append(speed_of(batches))
    found = {f"{name}_images_per_s": statistics.median(values) for name, values in speeds.items()}
    ratios = [ray / loader for ray, loader in zip(speeds["ray"], speeds["loader"], strict=True)]
    return {**found, "ray_by_loader": statistics.median(ratios)}


def asleep(args, measured):
    found = {}
    model = Model(
        decode_s=ASLEEP_MS / 1e3,
        put_s=measured["put_ms"] / 1e3,
        take_s=measured["take_other_node_ms"] / 1e3,
        batch_size=args.batch_size,
        picture_bytes=3 * args.image_size**2,
    )
    for workers in WORKERS:
        order = np.arange(workers * EACH * args.batch_size) % len(read_labels(args.data)[0])
        plan = {"batch_size": args.batch_size, "decoder": Asleep(args.image_size), "sampler": order}
        with RayLoader(args.data / LABELS, workers=workers, **plan) as loader:
            come_up(loader, workers)
            speed = speed_of(loader)
        found[f"asleep_images_per_s_{workers}"] = speed
        found[f"linear_{workers}"] = speed / workers / found["asleep_images_per_s_1"]
        found[f"model_by_measured_{workers}"] = model.speed(workers) / speed
    return found


def come_up(batches, workers):
    """Iterate until every worker has made a batch: starting one takes seconds, which are no part of its speed."""
    for _ in batches:
        pass
    while workers and sum(one.batches > 1 for one in batches.worker_stats().values()) < workers:
        for _ in batches:
            pass


def speed_of(batches):
    """Return pictures a second of one epoch, from asking for the first batch to the end."""
    began, images = time.perf_counter(), 0
    for batch, *_ in batches:
        images += len(batch)
    return images / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
