"""Which contenders each benchmark compares, and the settings that are tried for each before it is timed."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contenders._contend import cores

Options = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        name: As the table shows it.
        contender: Its file in `bench/contenders`.
        grid: Settings to sweep; the fastest is what the row is timed with.
    """

    name: str
    contender: str
    grid: tuple[Options, ...] = ((),)


@dataclass(frozen=True, slots=True)
class Suite:
    """One benchmark.

    Attributes:
        about: What it answers, in a line.
        rows: What it compares; the order is that of every round.
        rounds: How often each row is timed unless the caller says otherwise.
        timeout: Seconds that one process may take.
    """

    about: str
    rows: tuple[Row, ...]
    rounds: int = 5
    timeout: float = 120.0


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
    "train_data": Suite(
        "the loop by hand against its drop-in, float64 batches of equal values",
        (LOOP, Row("ab.train_data", "train_data")),
    ),
    "loops": Suite(
        "asyncbatch on its two event loops",
        (ASYNCBATCH, Row("asyncbatch on asyncio", "asyncbatch", (("--event-loop", "asyncio"),))),
    ),
    "overhead": Suite("what the pipeline costs with decoding switched off", (Row("overhead", "overhead"),)),
    "breaks": Suite("a thousand loops that break after one batch", (Row("breaks", "breaks"),), rounds=1, timeout=600.0),
}
