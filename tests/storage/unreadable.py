"""Twenty unreadable files among many: what each `on_error` delivers, reports and raises, and when.

python tests/storage/unreadable.py --count 10000
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from faultmount import FaultMount
from numbered import make_loader, name_of, names_of, write_files

import asyncbatch as ab

BAD = 20
RETRIES = 4
READER = {"retries": RETRIES, "timeout": 20.0}  # nothing hangs here, and a busy machine must not look as if it did
BATCH = 32


def expected_errors(count, seed=7):
    """Return {index: (errno, attempts)} of the bad files: half of them may not be opened, half cannot be read."""
    chosen = sorted(random.Random(seed).sample(range(count), BAD))  # noqa: S311 - which files are bad, not a secret
    kinds = (errno.EACCES, 1), (errno.EIO, RETRIES + 1)
    return {index: kinds[number % 2] for number, index in enumerate(chosen)}


def break_files(fs, expected):
    """Make the files of `expected_errors` unreadable for ever."""
    refused = names_of(index for index, (code, _) in expected.items() if code == errno.EACCES)
    broken = names_of(index for index, (code, _) in expected.items() if code == errno.EIO)
    fs.set(rules=[{"fault": "EACCES", "on": "open", "names": refused}, {"fault": "EIO", "names": broken}])


def read(root, count, on_error):
    """Read an epoch; return (indices delivered, errors reported, what was raised in the loop, figures)."""
    indices, errors, raised, in_loop = [], [], None, True
    start = last = time.perf_counter()
    try:
        with make_loader(root, count, batch_size=BATCH, reader=READER, on_error=on_error) as loader:
            for batch in loader:
                indices += batch.images[:, 0].tolist()
                errors += batch.errors
                last = time.perf_counter()
            in_loop = False
    except ab.AsyncbatchError as error:
        assert in_loop, "it was raised at close"
        raised = error
    end = time.perf_counter()
    figures = {
        "on_error": repr(on_error),
        "delivered": len(indices),
        "reports": len(errors),
        "raised": raised and f"{type(raised).__name__}: {raised}",
        "seconds": round(end - start, 3),
        "seconds_from_last_batch_to_end": round(end - last, 3),
    }
    return indices, errors, raised, figures


def told(errors):
    """Return what errors say of their samples, as `expected_errors` does, but with keys."""
    return [(error.index, error.key, error.errno, error.attempts) for error in errors]


def must_be_told(expected):
    """Return what `told` must be."""
    return [(index, name_of(index), code, attempts) for index, (code, attempts) in expected.items()]


def check(fs, count, on_error):
    """Read an epoch with `on_error`; return its figures, with what is wrong of it under "wrong"."""
    expected = expected_errors(count)
    break_files(fs, expected)
    indices, errors, raised, figures = read(fs.path, count, on_error)
    allowed = 0 if on_error == "raise" else on_error.limit
    too_many = list(expected)[allowed] if allowed < BAD else None  # the first that may not pass
    end = count if too_many is None else too_many - too_many % BATCH  # batches before its own are delivered
    passed = must_be_told({index: fate for index, fate in expected.items() if index < end})
    wrong = []
    if indices != [index for index in range(end) if index not in expected]:
        wrong.append("what was delivered")
    if told(errors) != passed:
        wrong.append("what was reported")
    if too_many is None:
        wrong += ["it raised"] if raised is not None else []
    elif on_error == "raise":
        if not isinstance(raised, ab.ReadError) or told([raised]) != must_be_told(expected)[:1]:
            wrong.append("what was raised")
    elif not isinstance(raised, ab.ErrorLimitExceeded) or told(raised.errors) != must_be_told(expected)[: allowed + 1]:
        wrong.append("what was raised")
    return figures | {"faults": fs.faults(), "wrong": wrong}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    logging.getLogger("asyncbatch").setLevel(logging.ERROR)  # each report is a warning there, too
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faultfs-")))
        (folder / "source").mkdir()
        (folder / "mount").mkdir()
        write_files(folder / "source", count)
        fs = stack.enter_context(FaultMount(folder / "source", folder / "mount"))
        figures = [check(fs, count, on_error) for on_error in ("raise", ab.Skip(BAD), ab.Skip(BAD - 1))]
        print(json.dumps({"count": count, "bad": BAD, "runs": figures}, indent=2))
    sys.exit(any(run["wrong"] for run in figures))


if __name__ == "__main__":
    main()
