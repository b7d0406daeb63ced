"""Mounts as users have them, sshfs and rclone, of servers on this machine; bench/sftp_proxy.py has the first."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

DEADLINE = 20.0  # seconds for what takes milliseconds on an idle machine; passing it is a failure


def why_no_rclone():
    """Return the reason for which rclone can mount nothing here, or None."""
    there = {"fuse3": shutil.which("fusermount3"), "rclone": shutil.which("rclone")}
    if missing := [package for package, program in there.items() if program is None]:
        return f"what is missing here comes on Debian with {' '.join(missing)}"
    return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "there is no /dev/fuse that this user may open"


@contextmanager
def webdav_server(source, scratch):
    """Serve a folder by WebDAV on a port of this machine; its value is the URL."""
    command = ["serve", "webdav", str(source), "--addr", "127.0.0.1:0", "--read-only"]
    with _rclone(command, scratch / "served") as server:
        yield _url_of(server)


@contextmanager
def webdav_mount(url, path, scratch):
    """Mount what a WebDAV server shows, with rclone's settings as they come."""
    outside = os.stat(path).st_dev
    command = ["mount", ":webdav:", str(path), "--webdav-url", url, "--read-only"]
    with _rclone(command, scratch / "mounted") as daemon:
        try:
            end = time.monotonic() + DEADLINE
            while os.stat(path).st_dev == outside:
                if daemon.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"nothing was mounted; rclone's exit status is {daemon.poll()}")
                time.sleep(0.005)
            yield
        finally:
            unmount = ["fusermount3", "-u", "-z", "-q", str(path)]
            subprocess.run(unmount, check=False, stderr=subprocess.DEVNULL, timeout=DEADLINE)


@contextmanager
def _rclone(command, cache):
    settings = ["--config", os.devnull, "--cache-dir", str(cache)]
    process = subprocess.Popen(["rclone", *command, *settings], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
        process.kill()  # does nothing if it has ended
        process.wait(DEADLINE)
        process.stderr.close()


def _url_of(server):
    said = b""
    while not (url := re.search(rb"http://127\.0\.0\.1:\d+/", said)):
        if not select.select([server.stderr], [], [], DEADLINE)[0]:
            raise TimeoutError(f"rclone named no address within {DEADLINE} s; it said {said!r}")
        part = os.read(server.stderr.fileno(), 65536)
        if not part:
            raise RuntimeError(f"rclone ended, with status {server.wait(DEADLINE)}; it said {said!r}")
        said += part
    return url[0].decode()
