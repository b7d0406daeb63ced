"""asyncbatch as it comes: nothing is set but what to deliver.

From a bucket it takes the class folders for labels and lists them itself; the list of files gives the order alone.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncbatch as ab
from asyncbatch import _engine
from bench.contenders._contend import LABELS, NORMAL, contend, parser
from bench.data import TARS, read_labels
from bench.objectstore import ACCESS, BUCKET


def epochs(args: argparse.Namespace) -> Iterator[ab.Batch]:
    threads = args.decode_threads if args.decode_threads == "auto" else int(args.decode_threads)
    normal = {"dtype": "float32", **NORMAL} if args.dtype == "float32" else {}
    source, order = args.data / LABELS, None
    if args.tar:
        source = ab.sources.tar(args.data / TARS)
    elif args.endpoint:
        source = ab.sources.objects(f"s3://{BUCKET}", options={**ACCESS, "endpoint": args.endpoint})
        index = {path: at for at, path in enumerate(source.paths)}
        order = [index[Path(path).relative_to(args.data).as_posix()] for path in read_labels(args.data)[0]]
    reader = ab.ObjectReader if args.endpoint else ab.FileReader
    with ab.Loader(
        source,
        shuffle=args.shuffle,
        sampler=order,
        batch_size=args.batch_size,
        decoder=ab.ImageDecoder(args.image_size, draft=not args.exact, **normal),
        drop_last=True,
        decode_threads=threads,
        reader=reader(concurrency=args.concurrency or "auto"),
    ) as loader:
        yield from loader.epochs(args.epochs)


if __name__ == "__main__":
    arguments = parser("asyncbatch")
    arguments.add_argument("--decode-threads", default="auto")
    arguments.add_argument("--exact", action="store_true", help="decode in full whatever the size that is needed")
    arguments.add_argument("--concurrency", type=int, default=0, help="reads at once; 0: as it finds best itself")
    arguments.add_argument("--tar", action="store_true", help="of archives, instead of a file a sample")
    arguments.add_argument("--endpoint", help="of a bucket that has the pictures, too, to be read from there")
    arguments.add_argument("--shuffle", action="store_true", help="as shuffle=True does it")
    arguments.add_argument("--event-loop", choices=["uvloop", "asyncio"], default="uvloop")
    parsed = arguments.parse_args()
    if parsed.event_loop == "asyncio":
        _engine.new_event_loop = asyncio.new_event_loop
    contend("asyncbatch", epochs, parsed)
