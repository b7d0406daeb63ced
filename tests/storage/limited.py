"""Read numbered files in a process that is allowed little, and print what became of it as a line of JSON.

python tests/storage/limited.py ROOT COUNT --files 64 --threads 12
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from dataclasses import asdict

from numbered import make_loader, read_all

OTHER_USER = 54321  # has no process but this one; the limit on threads does not hold for root


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("count", type=int)
    parser.add_argument("--files", type=int, help="descriptors allowed (RLIMIT_NOFILE)")
    parser.add_argument("--threads", type=int, help="threads allowed (RLIMIT_NPROC), as another user than root")
    parser.add_argument("--concurrency", type=int, default=200, help="0 for the default of the reader")
    arguments = parser.parse_args()
    if arguments.files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (arguments.files, arguments.files))
    if arguments.threads:
        os.setgroups([])
        os.setresgid(OTHER_USER, OTHER_USER, OTHER_USER)
        os.setresuid(OTHER_USER, OTHER_USER, OTHER_USER)
        resource.setrlimit(resource.RLIMIT_NPROC, (arguments.threads, arguments.threads))
    reader = {"concurrency": arguments.concurrency or "auto", "timeout": 10.0, "grace": 20.0}
    with make_loader(arguments.root, arguments.count, reader=reader) as loader:
        indices, errors = read_all(loader)
        print(json.dumps({"indices": indices, "errors": len(errors), "stats": asdict(loader.stats())}))


if __name__ == "__main__":
    main()
