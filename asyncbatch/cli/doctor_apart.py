"""Work in a process of its own, so that a read that hangs for ever does not keep the command from ending."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress

import asyncbatch as ab
from asyncbatch.cli.terminal import CommandError

__all__ = ["apart"]

# A read that the program behind a FUSE mount has taken up and does not answer can be ended by nothing, not even by
# SIGKILL, and a process does not end before all of its threads have. So the reads are done in a child: it says how it
# went, lets go of the terminal, and may then take as long to end as it likes, while the command has ended.


def apart(work: Callable[[], int]) -> int:
    """Return the status of `work()`, done in a child process on Linux, where mounts can hang like that.

    It is done here where somebody listens in place of the process's own output, as tests do.

    Raises:
        CommandError: The work raised one of asyncbatch's errors; the message is the same.
    """
    output = sys.stdout
    if sys.platform != "linux" or output is not sys.__stdout__ or output is None:
        return work()
    output.flush()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forks beside threads, and numpy's are there by now; it minds itself, and has nothing to do.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(writing, work)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            status, _, message = pipe.read().decode("utf-8", "surrogateescape").partition(" ")
    except BaseException:  # Ctrl-C
        os.kill(child, signal.SIGKILL)
        raise
    with suppress(ChildProcessError):
        os.waitpid(child, os.WNOHANG)  # it may hang; if so it is left to the system
    if message:
        raise CommandError(message)
    return int(status or 1)


def _answer(writing: int, work: Callable[[], int]) -> None:
    """Do the work, tell how it went and end; never returns."""
    answer = ""
    try:
        answer = f"{work()}"
    except BrokenPipeError:  # the reader of the output, such as `head`, has seen enough
        answer = "1"
    except (ab.AsyncbatchError, OSError) as error:
        answer = f"1 {error}"
    except KeyboardInterrupt:  # the parent got it too, and says so
        answer = "130"
    except BaseException:  # noqa: BLE001 - nothing of the child may run on
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # who reads what the command prints waits until all copies are closed
            os.dup2(nothing, descriptor)
        with suppress(OSError):
            os.write(writing, answer.encode("utf-8", "surrogateescape"))
        os.close(writing)
        os._exit(0)
