"""The loader as a whole in a process that is allowed few descriptors or threads: slower, and complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(90)

COUNT = 1000


def read_limited(fs, *limits):
    command = [sys.executable, str(Path(__file__).with_name("limited.py")), str(fs.path), str(COUNT), *limits]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_completes_with_few_descriptors(faultfs):
    """64 descriptors, and 200 reads that want to be in flight: all is delivered and the concurrency gives way."""
    fs = faultfs(COUNT, latency={"read": 0.02})
    result = read_limited(fs, "--files", "64")
    assert result["indices"] == list(range(COUNT))
    assert (result["errors"], result["stats"]["retries"]) == (0, 0)
    assert 1 <= result["stats"]["concurrency"] < 100
    assert fs.count("open") == fs.count("read") == COUNT


def test_completes_with_few_threads(faultfs):
    """12 threads in all, and 200 reads that want to be in flight: all is delivered and the concurrency gives way."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user with no other process, whose threads can be limited")
    fs = faultfs(COUNT, latency={"read": 0.02})
    result = read_limited(fs, "--threads", "12")
    assert result["indices"] == list(range(COUNT))
    assert (result["errors"], result["stats"]["retries"]) == (0, 0)
    assert 1 <= result["stats"]["concurrency"] <= 12


def test_auto_completes_with_both(faultfs):
    """The same with settings as they come."""
    fs = faultfs(COUNT)
    limits = ["--files", "64"] + (["--threads", "12"] if os.geteuid() == 0 else [])
    result = read_limited(fs, *limits, "--concurrency", "0")
    assert result["indices"] == list(range(COUNT))
    assert fs.count("open") >= COUNT
