"""How many Ray workers a trainer needs, and what else may be the limit: `python -m bench.ray_model --need 10000`.

The model is three limits, of which the lowest holds:

* workers: each makes a batch in the time that decoding takes on its cores, and then puts it into the object store;
* the trainer's process: it takes batches one after the other out of the object store of its node;
* the network between nodes: every picture crosses it once, decoded, unless the workers are on the trainer's node.

Its times are what `python -m bench ray` measured last, which also says how far the model was from what it measured.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "ray.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the limits are made of.

    Attributes:
        decode_s: Seconds that a worker takes for a picture, with all of its cores.
        put_s: Seconds a batch that a worker is busy with putting it into the object store.
        take_s: Seconds a batch that the trainer's process is busy with taking it.
        batch_size: Pictures a batch.
        picture_bytes: Of a decoded picture.
        network: Bytes a second that reach the trainer's node; infinite where the workers are on it.
    """

    decode_s: float
    put_s: float
    take_s: float
    batch_size: int
    picture_bytes: int
    network: float = math.inf

    def limits(self, workers: int) -> dict[str, float]:
        """Return pictures a second by what would be the limit."""
        return {
            "workers": workers * self.batch_size / (self.batch_size * self.decode_s + self.put_s),
            "the trainer's process": self.batch_size / self.take_s,
            "the network": self.network / self.picture_bytes,
        }

    def speed(self, workers: int) -> float:
        """Return pictures a second."""
        return min(self.limits(workers).values())

    def workers_for(self, need: float) -> int | None:
        """Return the fewest workers that give so many pictures a second; None where something else is the limit."""
        others = {name: limit for name, limit in self.limits(1).items() if name != "workers"}
        if min(others.values()) < need:
            return None
        return math.ceil(need / self.limits(1)["workers"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ray_model", description=__doc__.partition("\n")[0])
    parser.add_argument("--need", type=float, action="append", help="pictures a second that the trainer takes")
    parser.add_argument("--worker", type=float, help="pictures a second of one worker; default: as measured here")
    parser.add_argument("--network", type=float, default=10.0, help="Gbit/s into the trainer's node (default: 10)")
    args = parser.parse_args()
    runs = json.loads(RESULT.read_text("utf-8"))["rows"]["Ray"]["runs"]

    def measured(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    size = int(runs[0]["settings"]["image_size"])
    cluster = Cluster(
        decode_s=1 / (args.worker or measured("worker_images_per_s")),
        put_s=measured("put_ms") / 1e3,
        take_s=measured("take_other_node_ms") / 1e3,
        batch_size=int(runs[0]["settings"]["batch_size"]),
        picture_bytes=3 * size * size,
        network=args.network * 1e9 / 8,
    )
    print(f"{'trainer, img/s':>15}  {'workers':>8}  what is the limit then")
    for need in args.need or (500, 2_000, 5_000, 10_000, 20_000):
        workers = cluster.workers_for(need)
        limits = cluster.limits(workers or 1)
        if workers is None:
            del limits["workers"]
        name = min(limits, key=lambda one: limits[one])
        print(f"{need:>15,.0f}  {workers or '-':>8}  {name}, at {limits[name]:,.0f} img/s")


if __name__ == "__main__":
    main()
