"""A bucket that takes its time: nginx on loopback, which answers as S3 does and sleeps before it answers.

    python -m bench.objectstore FOLDER

It is as little of S3 as readers need: GET and HEAD of an object, ranges included, and the bucket's list, in one page.
Whoever asks may sign as they like. nginx is a server that holds thousands of requests at once, and its pictures lie in
page cache, so that what is measured is the clients'.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from xml.sax.saxutils import escape

import psutil

from bench.data import read_labels

BUCKET = "pictures"
ACCESS = {"access_key_id": "asyncbatch", "secret_access_key": "benchmark", "region": "us-east-1"}
"""What clients are given, who sign with it as they would for a bucket of their own."""

MODULES = Path("/usr/lib/nginx/modules")
NEEDED = ("ndk_http_module.so", "ngx_http_lua_module.so")
DEADLINE = 10.0  # seconds until the server must answer, and until it must be gone

# The master stays in the foreground; one worker is enough, for all that it does is wait and sendfile. The delay is
# a timer, which holds up nobody else. A picture's content type is what S3 would have kept with it.
CONFIGURATION = Template("""
load_module $modules/ndk_http_module.so;
load_module $modules/ngx_http_lua_module.so;
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid nginx.pid;
error_log error.log warn;
$user
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000;
  keepalive_timeout 600s;
  open_file_cache max=20000 inactive=600s;
  default_type image/jpeg;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  init_worker_by_lua_block { math.randomseed(7) }
  access_by_lua_block { ngx.sleep($seconds * (1 + $jitter * (2 * math.random() - 1))) }
  server {
    listen 127.0.0.1:$port backlog=1024;
    location ~ ^/$bucket/?$$ { rewrite ^ /list.xml last; }
    location = /list.xml { internal; root "$folder"; default_type application/xml; types {} }
    location /$bucket/ { alias "$source/"; }
  }
}
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """What a bucket is like.

    Attributes:
        get_ms: What a request takes, whatever it asks for, before its answer begins.
        jitter: It is multiplied by a number drawn from 1 ± jitter.
    """

    get_ms: float
    jitter: float = 0.2

    def __str__(self) -> str:
        return f"GET {self.get_ms:g} ms, ±{self.jitter:.0%}"


class Served:
    """A bucket that is there.

    Attributes:
        endpoint: Its server's address, as clients of S3 want it.
    """

    def __init__(self, endpoint: str, server: subprocess.Popen[bytes]) -> None:
        self.endpoint = endpoint
        self._server = psutil.Process(server.pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server has used."""
        times = [process.cpu_times() for process in (self._server, *self._server.children())]
        return float(sum(time.user + time.system for time in times))


@contextmanager
def served(store: Store, source: Path) -> Iterator[Served]:
    """Serve the pictures of a set as `s3://pictures`, their keys being their paths below `source`.

    Raises:
        SystemExit: nginx or its module is not there, or it does not start.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if nginx is None or not all((MODULES / name).exists() for name in NEEDED):
        packages = "nginx-light libnginx-mod-http-lua"
        raise SystemExit(f"nginx or its Lua missing: apt install --no-install-recommends {packages}")
    with tempfile.TemporaryDirectory(prefix="asyncbatch-store-") as folder:
        port = free_port()
        configuration = CONFIGURATION.substitute(
            modules=MODULES,
            user="user root;" if os.geteuid() == 0 else "",  # else its worker is nobody, who may not read the pictures
            seconds=store.get_ms / 1e3,
            jitter=store.jitter,
            port=port,
            bucket=BUCKET,
            folder=folder,
            source=source.resolve(),
        )
        Path(folder, "nginx.conf").write_text(configuration, encoding="utf-8")
        Path(folder, "list.xml").write_text(listing(source), encoding="utf-8")
        # So that it ends with a benchmark that is killed, too.
        command = ["setpriv", "--pdeathsig", "TERM", nginx, "-p", folder, "-c", "nginx.conf", "-e", "error.log"]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port, server, Path(folder, "error.log"))
            yield Served(f"http://127.0.0.1:{port}", server)
        finally:
            server.terminate()  # and its worker with it
            with suppress(subprocess.TimeoutExpired):
                server.wait(DEADLINE)
            server.kill()  # does nothing if it has ended
            server.wait()


def listing(source: Path) -> str:
    """Return the answer to ListObjectsV2: every picture of a set, in one page, where S3 would make one of 1,000."""
    entries = []
    paths, _ = read_labels(source)
    for path in sorted(paths):
        status = Path(path).stat()
        changed = datetime.fromtimestamp(int(status.st_mtime), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        etag = f"&quot;{int(status.st_mtime):x}-{status.st_size:x}&quot;"  # as nginx makes it
        entries.append(
            f"<Contents><Key>{escape(Path(path).relative_to(source).as_posix())}</Key>"
            f"<LastModified>{changed}</LastModified><ETag>{etag}</ETag><Size>{status.st_size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>\n"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix></Prefix><KeyCount>{len(entries)}</KeyCount><MaxKeys>{len(entries)}</MaxKeys>"
        f"<IsTruncated>false</IsTruncated>\n{''.join(entries)}</ListBucketResult>\n"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if server.poll() is not None or time.monotonic() > end:
            said = log.read_text(encoding="utf-8").strip().splitlines() if log.exists() else []
            raise SystemExit(f"nginx did not start: {said[-1] if said else 'it says nothing'}")
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.objectstore", description="Serve a set until Enter.")
    parser.add_argument("folder", type=Path, help="made by python -m bench.data")
    parser.add_argument("--get-ms", type=float, default=30.0)
    args = parser.parse_args()
    with served(Store(get_ms=args.get_ms), args.folder) as there:
        input(f"s3://{BUCKET} at {there.endpoint}; Enter ends it\n")


if __name__ == "__main__":
    main()
