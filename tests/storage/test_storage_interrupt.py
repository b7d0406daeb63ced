"""Ctrl-C at moments nobody chose, on slow files; `python tests/storage/interrupted.py --times 100` does more of it."""

from __future__ import annotations

import pytest
from interrupted import COUNT, complaints, interrupt, moments

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(110)


@pytest.mark.parametrize("moment", moments(9), ids=lambda moment: f"{1000 * moment:.0f}ms")
def test_ctrl_c_at_any_moment_ends_the_process(faultfs, moment):
    """While it starts or in mid-epoch: it ends within 2 s, by KeyboardInterrupt, with one traceback and no more."""
    result = interrupt(faultfs(COUNT), moment, hangs=False)
    assert complaints(result) == [], result


@pytest.mark.parametrize("moment", moments(3, seed=8), ids=lambda moment: f"{1000 * moment:.0f}ms")
def test_ctrl_c_during_hangs_ends_all_that_python_can_end(faultfs, moment):
    """The same while 8 files hang: within 2 s nothing is left but the threads that the kernel does not give back."""
    result = interrupt(faultfs(COUNT), moment, hangs=True)
    assert result["hung"] > 0
    assert complaints(result) == [], result
