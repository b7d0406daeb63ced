"""Which contenders each benchmark compares, and the settings that are tried for each before it is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.contenders._contend import cores
from bench.data import Spec
from bench.mount import Mount
from bench.objectstore import Store

Options = tuple[str, ...]

PHOTOS = Spec()
MANY_PHOTOS = Spec(count=4000)
CAMERA = Spec(count=32, width=4000, height=3000)
DIGITS = Spec(count=10_000, width=28, height=28, form="png")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        name: As the table shows it.
        contender: Its file in `bench/contenders`.
        grid: Settings to sweep; the fastest is what the row is timed with.
        mount: What the pictures are read through: a mount or a bucket, "sshfs" for a real one with a slow line; None
            for page cache.
    """

    name: str
    contender: str
    grid: tuple[Options, ...] = ((),)
    mount: Mount | Store | Literal["sshfs"] | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """One benchmark.

    Attributes:
        about: What it answers, in a line.
        rows: What it compares; the order is that of every round.
        rounds: How often each row is timed unless the caller says otherwise.
        timeout: Seconds that one process may take.
        pictures: What is read, unless the caller says another number of them.
        epochs: Of each run, likewise.
        image_size: Height and width delivered, likewise.
        batch_size: Likewise.
        dtype: Of what is delivered.
        tars: Whether the pictures are wanted in archives, too.
    """

    about: str
    rows: tuple[Row, ...]
    rounds: int = 5
    timeout: float = 120.0
    pictures: Spec = PHOTOS
    epochs: int = 1
    image_size: int = 224
    batch_size: int = 32
    dtype: Literal["uint8", "float32"] = "uint8"
    tars: bool = False


def grid(*common: str, **options: list[int]) -> tuple[Options, ...]:
    """Return every combination of `options`, each after what is `common`: threads=[2, 3] becomes --threads 2 and 3."""
    combined: list[Options] = [common]
    for name, values in options.items():
        flag = "--" + name.replace("_", "-")
        combined = [(*before, flag, str(value)) for before in combined for value in sorted(set(values))]
    return tuple(combined)


WORKERS = [0, 1, 2, 4, cores()]
SPDL = (
    *grid("--stages", "batch", threads=[cores(), cores() + 1]),
    *grid("--stages", "image", threads=[cores()], read_threads=[0, 4]),
)

SLOW = Mount(open_ms=20, read_ms=10)
SLOWER = Mount(open_ms=70, read_ms=30)
UNEVEN = Mount(open_ms=70, read_ms=30, tail=0.01, tail_ms=2000)
BUCKET = Store(get_ms=30)

MANY = {"read_threads": [32, 64, 96]}
SPDL_IO = (
    *grid("--decoder", "simplejpeg", "--stages", "image", threads=[cores()], **MANY),
    *grid("--decoder", "spdl", "--stages", "image", threads=[cores()], read_threads=[64]),
)
NODES = (*grid(threads=[32, 48, 64, 96]), *grid(threads=[64, 96], decode_threads=[cores()]))


def tuned(where: str, mount: Mount | None, concurrency: list[int]) -> tuple[Row, Row]:
    """Return asyncbatch as it comes, and at the best of several fixed numbers of reads at once."""
    return (
        Row(f"auto, {where}", "asyncbatch", mount=mount),
        Row(f"best fixed, {where}", "asyncbatch", grid(concurrency=concurrency), mount),
    )


LOOP = Row("loop by hand", "loop")
ASYNCBATCH = Row("asyncbatch", "asyncbatch")

DALI = (
    *grid("--reader", "file", threads=[cores(), cores() + 1]),
    *grid("--reader", "io", "--no-mmap", threads=[cores()]),
)
GRAIN = (
    *grid("--stages", "image", threads=[cores(), 4]),
    *grid("--stages", "batch", threads=[cores(), cores() + 1]),
)
THREADED = grid("--decoder", "simplejpeg", workers=[1, 2, 4], threads=[16, 32])
CEILING = Row("ceiling", "ceiling", grid(threads=[cores()]))


def dataloaders(workers: list[int]) -> tuple[Row, Row]:
    """Return DataLoader with the usual decoder and with asyncbatch's."""
    return (
        Row("DataLoader", "dataloader", grid("--decoder", "opencv", workers=workers)),
        Row("DataLoader, same decoder", "dataloader", grid("--decoder", "simplejpeg", workers=workers)),
    )


SUITES = {
    "photos": Suite(
        "uint8 batches of photographs from page cache, one epoch",
        (
            LOOP,
            *dataloaders(WORKERS),
            Row("SPDL", "spdl", tuple(("--decoder", "spdl", *options) for options in SPDL)),
            Row("SPDL, same decoder", "spdl", tuple(("--decoder", "simplejpeg", *options) for options in SPDL)),
            Row("tf.data", "tf_data", grid(parallel=[0, cores(), cores() + 1])),
            Row("DALI", "dali", DALI),
            Row("Grain", "grain", GRAIN),
            Row("LitData", "litdata_raw", grid(workers=[0, 1, 2, 4])),
            ASYNCBATCH,
            CEILING,
        ),
    ),
    "float32": Suite(
        "the same photographs, normalised to float32",
        (*dataloaders(WORKERS), ASYNCBATCH, CEILING),
        dtype="float32",
    ),
    "large": Suite(
        "uint8 batches of photographs of 12 megapixels",
        (
            Row("DataLoader", "dataloader", grid("--decoder", "opencv", workers=[1, 2, 4])),
            Row("tf.data", "tf_data", grid(parallel=[0, cores()])),
            Row("asyncbatch, draft=False", "asyncbatch", (("--exact",),)),
            ASYNCBATCH,
        ),
        pictures=CAMERA,
        epochs=8,
        batch_size=8,
    ),
    "tiny": Suite(
        "uint8 batches of PNGs of 28×28 from page cache",
        (
            LOOP,
            Row("DataLoader without workers", "dataloader", grid("--decoder", "opencv", workers=[0])),
            Row("DataLoader", "dataloader", grid("--decoder", "opencv", workers=[1, 2, 4])),
            Row("asyncbatch, 1 thread", "asyncbatch", grid(decode_threads=[1])),
            ASYNCBATCH,
            Row("ceiling", "ceiling", grid(threads=[1, cores()])),
        ),
        pictures=DIGITS,
        epochs=3,
        image_size=28,
    ),
    "mount": Suite(
        f"uint8 batches through a mount ({SLOW}), one epoch",
        (
            Row("loop by hand", "loop", (("--batches", "6"),), SLOW),
            Row("DataLoader", "dataloader", (*grid("--decoder", "simplejpeg", workers=[32]), *THREADED), SLOW),
            Row("SPDL, I/O pool", "spdl", SPDL_IO, SLOW),
            Row("tf.data", "tf_data", (*grid(parallel=[64]), *grid(parallel=[cores()], read_parallel=[32, 64])), SLOW),
            Row("Grain", "grain", grid(threads=[32, 64]), SLOW),
            Row("LitData", "litdata_raw", grid(workers=[16, 32]), SLOW),
            Row("torchdata.nodes", "torchdata_nodes", NODES, SLOW),
            Row("asyncbatch", "asyncbatch", mount=SLOW),
            Row("ceiling", "ceiling", grid(**MANY), SLOW),
        ),
        pictures=MANY_PHOTOS,
    ),
    "tuned": Suite(
        "how near to the best fixed number of reads at once does asyncbatch come by itself?",
        (
            *tuned("page cache", None, [1, 2, 4, 8, 32]),
            *tuned("30 ms", SLOW, [24, 32, 48, 64, 128]),
            *tuned("100 ms and a tail", UNEVEN, [64, 128, 256, 512]),
        ),
        pictures=MANY_PHOTOS,
        epochs=3,
    ),
    "tail": Suite(
        f"what does a slow tail ({UNEVEN}) cost an ordered stream of 12,800 pictures?",
        (Row("no tail", "asyncbatch", mount=SLOWER), Row("1 % of the opens 2 s late", "asyncbatch", mount=UNEVEN)),
        pictures=Spec(count=3200),
        epochs=4,
    ),
    "tar": Suite(
        f"archives instead of a file a sample, through a mount ({SLOW})",
        (
            Row("a file a sample, 8 reads at once", "asyncbatch", (("--concurrency", "8"),), SLOW),
            Row("archives, 8 reads at once", "asyncbatch", (("--concurrency", "8", "--tar"),), SLOW),
            Row("archives, shuffled", "asyncbatch", (("--concurrency", "8", "--tar", "--shuffle"),), SLOW),
            Row("archives, as it comes", "asyncbatch", (("--tar",),), SLOW),
            Row("a file a sample, as it comes", "asyncbatch", mount=SLOW),
        ),
        pictures=MANY_PHOTOS,
        tars=True,
    ),
    "cache": Suite(
        "how fast are epochs from a cache of decoded pictures, and how near to copying the rows by hand?",
        (Row("cache", "cache"),),
        pictures=MANY_PHOTOS,
    ),
    "sshfs": Suite(
        "uint8 batches through a real sshfs whose line takes 10 ms each way, one epoch",
        (
            Row("loop by hand", "loop", (("--batches", "6"),), "sshfs"),
            Row("torchdata.nodes", "torchdata_nodes", grid(threads=[8, 16, 32, 64]), "sshfs"),
            Row("asyncbatch", "asyncbatch", mount="sshfs"),
        ),
    ),
    "objects": Suite(
        f"uint8 batches from a bucket of S3 ({BUCKET}), three epochs",
        (
            Row("s3fs, DataLoader of 8", "s3fs", grid(workers=[8], max_concurrency=[0, 1]), BUCKET),
            Row("s3fs, batches", "s3fs", grid("--batched", "--max-concurrency", "1", workers=[2, 4, 8]), BUCKET),
            Row("LitData", "litdata_raw", grid(workers=[2, 4, 8], max_prefetch=[16, 32]), BUCKET),
            Row("asyncbatch", "asyncbatch", mount=BUCKET),
            CEILING,
        ),
        epochs=3,
        timeout=300.0,
    ),
    "train_data": Suite(
        "the loop by hand against its drop-in, float64 batches of equal values",
        (LOOP, Row("ab.train_data", "train_data")),
    ),
    "loops": Suite(
        "asyncbatch on its two event loops",
        (ASYNCBATCH, Row("asyncbatch on asyncio", "asyncbatch", (("--event-loop", "asyncio"),))),
    ),
    "steps": Suite(
        "how busy is the accelerator, whatever a step takes?",
        (Row("page cache", "steps"), Row("30 ms", "steps", mount=SLOW)),
    ),
    "fit": Suite(
        "how much longer does Keras's model.fit take than the longer of loading and training?",
        (Row("30 ms", "fit", mount=SLOW), Row("30 ms, threads of equal rank", "fit", (("--equal-rank",),), SLOW)),
        timeout=300.0,
    ),
    "memory": Suite(
        "does memory grow over 20 epochs?",
        (Row("memory", "memory"),),
        epochs=20,
    ),
    "scaling": Suite(
        "how many cores can one process feed?",
        (Row("scaling", "scaling"),),
        timeout=300.0,
    ),
    "overhead": Suite("what the pipeline costs with decoding switched off", (Row("overhead", "overhead"),)),
    "ray": Suite(
        "what do workers of a Ray cluster cost, and how does their speed grow with their number?",
        (Row("Ray", "ray"),),
        timeout=400.0,
    ),
    "plan": Suite(
        "what do orders of 10⁹ samples, a manifest of 10⁷ lines and the end of an epoch cost?",
        (Row("plan", "plan"),),
        rounds=3,
        timeout=300.0,
    ),
    "breaks": Suite("a thousand loops that break after one batch", (Row("breaks", "breaks"),), rounds=1, timeout=600.0),
}
