"""Ctrl-C at any moment of a loop over slow files: how long the process takes to end, and what it says.

python tests/storage/interrupted.py --times 100

It starts itself again as `interrupted.py --loop ROOT` for each time.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from faultmount import FaultMount
from numbered import make_loader, names_of, write_files

COUNT = 200
SPREAD = 0.5  # seconds after the start of the loop, up to which it is interrupted
LATENCY = {"open": 0.02}
HUNG = range(20, 28)
UNWANTED = ("Exception ignored", "never retrieved", "Task was destroyed", "Fatal", "ResourceWarning")
PROMPT = 2.0
DEADLINE = 30.0


def loop(root):
    """Say that it begins, and go over the files for ever."""
    print("ready", flush=True)
    with make_loader(root, COUNT, reader={"timeout": 20.0, "grace": 20.0}) as loader:
        while True:
            for _ in loader:
                pass


def moments(times, seed=7):
    """Return when to interrupt, in seconds after "ready": in turn at once, while it starts, and anywhere."""
    dice = random.Random(seed)  # noqa: S311 - moments, not a secret
    return [dice.uniform(0, (0.0, SPREAD / 10, SPREAD)[number % 3]) for number in range(times)]


def ended(process):
    """Whether nothing of a process is left but what the kernel cannot end.

    A thread in a call that the mount does not answer keeps its process there, whatever the process does. But the first
    thread, which ends last of all that Python has a say in, is then a zombie.
    """
    try:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


def interrupt(fs, moment, *, hangs):
    """Start a loop and interrupt it; return what became of it.

    Args:
        fs: The mount with the files.
        moment: When, in seconds after the loop began.
        hangs: 8 files hang until the loop has ended, and it is interrupted only after it has met the first of them.
    """
    rules = [{"fault": "hang", "on": "open", "names": names_of(HUNG)}] if hangs else []
    fs.set(latency=LATENCY, rules=rules)
    command = [sys.executable, "-W", "default", __file__, "--loop", str(fs.path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        if hangs:
            fs.wait_for("hanging")
        threading.Event().wait(moment)  # the moment is meant to be any
        sent = time.perf_counter()
        child.send_signal(signal.SIGINT)
        while not ended(child) and time.perf_counter() < sent + DEADLINE:
            time.sleep(0.002)
        seconds = time.perf_counter() - sent
        hung = fs.count("hanging")
    finally:
        fs.release()
        if not ended(child):
            child.kill()
        _, err = child.communicate()
    return {
        "hung": hung,
        "moment": round(moment, 3),
        "seconds": round(seconds, 3),
        "status": child.returncode,
        "stderr": err,
    }


def complaints(result):
    """Return what is wrong with a result of `interrupt`."""
    err = result["stderr"]
    wrong = [words for words in UNWANTED if words in err]
    if result["status"] not in (-signal.SIGINT, 128 + signal.SIGINT):
        wrong.append(f"exit status {result['status']}")
    wrong += [f"{err.count(word)} times {word}" for word in ("Traceback", "KeyboardInterrupt") if err.count(word) != 1]
    if result["seconds"] > PROMPT:
        wrong.append(f"took {result['seconds']} s")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--hangs", action="store_true", help="8 files hang for ever")
    parser.add_argument("--loop", metavar="ROOT", help="only loop over the files below ROOT")
    arguments = parser.parse_args()
    if arguments.loop:
        loop(arguments.loop)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faultfs-")))
        (folder / "source").mkdir()
        (folder / "mount").mkdir()
        write_files(folder / "source", COUNT)
        fs = stack.enter_context(FaultMount(folder / "source", folder / "mount"))
        when = moments(arguments.times, arguments.seed)
        results = [interrupt(fs, moment, hangs=arguments.hangs) for moment in when]
    bad = [result | {"wrong": wrong} for result in results if (wrong := complaints(result))]
    seconds = sorted(result["seconds"] for result in results)
    summary = {"times": len(results), "hangs": arguments.hangs, "slowest_seconds": seconds[-1]}
    summary |= {
        "most_hung": max(result["hung"] for result in results),
        "median_seconds": seconds[len(seconds) // 2],
        "bad": len(bad),
        "worst": bad[:5],
    }
    print(json.dumps(summary, indent=2))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
