"""Mounts for a test, gone with it.

A plugin that the test modules here name, not a conftest.py: modules of that name would hide one another, and the tests
one folder up import theirs.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from faultmount import FaultMount, why_not
from numbered import write_files

_why_not = cache(why_not)


@pytest.fixture
def faultfs():
    """A function that mounts `count` numbered files, or a `source`, and returns the `FaultMount`.

    Not below tmp_path: that is closed to the other user that a test reads as, and pytest lists it later, which must not
    meet a mount.
    """
    if reason := _why_not():
        pytest.skip(reason)
    with ExitStack() as stack:

        def mount(count=0, *, source=None, **settings):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faultfs-")))
            folder.chmod(0o755)
            (folder / "mount").mkdir()
            if source is None:
                source = folder / "source"
                source.mkdir()
                write_files(source, count)
            return stack.enter_context(FaultMount(source, folder / "mount", **settings))

        yield mount
