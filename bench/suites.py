"""Which contenders each benchmark compares, and the settings that are tried for each before it is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.contenders._contend import cores
from bench.mount import Mount

Options = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        name: As the table shows it.
        contender: Its file in `bench/contenders`.
        grid: Settings to sweep; the fastest is what the row is timed with.
        mount: What the pictures are read through; None for page cache, "sshfs" for a real one with a slow line.
    """

    name: str
    contender: str
    grid: tuple[Options, ...] = ((),)
    mount: Mount | Literal["sshfs"] | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """One benchmark.

    Attributes:
        about: What it answers, in a line.
        rows: What it compares; the order is that of every round.
        rounds: How often each row is timed unless the caller says otherwise.
        timeout: Seconds that one process may take.
        count: Pictures, where it is not for the caller to say.
        epochs: Of each run, likewise.
    """

    about: str
    rows: tuple[Row, ...]
    rounds: int = 5
    timeout: float = 120.0
    count: int | None = None
    epochs: int | None = None


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

SUITES = {
    "photos": Suite(
        "uint8 batches of photographs from page cache, one epoch",
        (
            LOOP,
            Row("DataLoader", "dataloader", grid("--decoder", "opencv", workers=WORKERS)),
            Row("DataLoader, same decoder", "dataloader", grid("--decoder", "simplejpeg", workers=WORKERS)),
            Row("SPDL", "spdl", tuple(("--decoder", "spdl", *options) for options in SPDL)),
            Row("SPDL, same decoder", "spdl", tuple(("--decoder", "simplejpeg", *options) for options in SPDL)),
            ASYNCBATCH,
            Row("ceiling", "ceiling", grid(threads=[cores()])),
        ),
    ),
    "mount": Suite(
        f"uint8 batches through a mount ({SLOW}), one epoch",
        (
            Row("loop by hand", "loop", (("--batches", "6"),), SLOW),
            Row("DataLoader", "dataloader", grid("--decoder", "simplejpeg", workers=[16, 32, 64]), SLOW),
            Row("SPDL, I/O pool", "spdl", SPDL_IO, SLOW),
            Row("torchdata.nodes", "torchdata_nodes", NODES, SLOW),
            Row("asyncbatch", "asyncbatch", mount=SLOW),
            Row("ceiling", "ceiling", grid(**MANY), SLOW),
        ),
        count=4000,
    ),
    "tuned": Suite(
        "how near to the best fixed number of reads at once does asyncbatch come by itself?",
        (
            *tuned("page cache", None, [1, 2, 4, 8, 32]),
            *tuned("30 ms", SLOW, [24, 32, 48, 64, 128]),
            *tuned("100 ms and a tail", UNEVEN, [64, 128, 256, 512]),
        ),
        count=4000,
        epochs=3,
    ),
    "tail": Suite(
        f"what does a slow tail ({UNEVEN}) cost an ordered stream of 12,800 pictures?",
        (Row("no tail", "asyncbatch", mount=SLOWER), Row("1 % of the opens 2 s late", "asyncbatch", mount=UNEVEN)),
        count=3200,
        epochs=4,
    ),
    "sshfs": Suite(
        "uint8 batches through a real sshfs whose line takes 10 ms each way, one epoch",
        (
            Row("loop by hand", "loop", (("--batches", "6"),), "sshfs"),
            Row("torchdata.nodes", "torchdata_nodes", grid(threads=[8, 16, 32, 64]), "sshfs"),
            Row("asyncbatch", "asyncbatch", mount="sshfs"),
        ),
        count=2000,
    ),
    "train_data": Suite(
        "the loop by hand against its drop-in, float64 batches of equal values",
        (LOOP, Row("ab.train_data", "train_data")),
    ),
    "loops": Suite(
        "asyncbatch on its two event loops",
        (ASYNCBATCH, Row("asyncbatch on asyncio", "asyncbatch", (("--event-loop", "asyncio"),))),
    ),
    "overhead": Suite("what the pipeline costs with decoding switched off", (Row("overhead", "overhead"),)),
    "plan": Suite(
        "what do orders of 10⁹ samples, a manifest of 10⁷ lines and the end of an epoch cost?",
        (Row("plan", "plan"),),
        rounds=3,
        timeout=300.0,
    ),
    "breaks": Suite("a thousand loops that break after one batch", (Row("breaks", "breaks"),), rounds=1, timeout=600.0),
}
