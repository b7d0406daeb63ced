"""Promise 4: what a caller that stops finds in memory is the budget; `python tests/storage/stopped.py` waits longer."""

from __future__ import annotations

import pytest
from stopped import DECODE_THREADS, in_a_child, write_sizes

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(110)

# In MB. A file may be over the budget, decoding has copies, what the allocator keeps is nobody's, and there are the
# threads' stacks.
BUDGET, SLACK = 64, 40


@pytest.fixture
def mount(faultfs, tmp_path):
    write_sizes(tmp_path)
    return faultfs(source=tmp_path)


def bound(figures):
    """Return the most that memory may grow, in MB."""
    return BUDGET + DECODE_THREADS * figures["largest_mb"] + SLACK


@pytest.mark.parametrize("lengths", [True, False], ids=["sizes known", "sizes unknown"])
def test_a_caller_that_stops_finds_the_budget(mount, lengths):
    """Whether or not sizes are known beforehand: 64 MB and little more at the peak, and all is whole."""
    figures = in_a_child(mount.path, "64MB", 3.0, lengths=lengths)
    assert figures["mb"] > 4 * bound(figures)  # or there was not enough to read
    assert figures["stayed_still"]
    assert figures["whole"]
    assert figures["peak_growth_mb"] < bound(figures), figures
    assert figures["peak_growth_of_all_mb"] < bound(figures), figures  # nor does the allocator keep what was freed


def test_a_larger_budget_is_seen(mount):
    """The same with 512 MB grows beyond that bound: what is measured is what the budget bounds."""
    figures = in_a_child(mount.path, "512MB", 5.0, lengths=True)
    assert figures["whole"]
    assert figures["peak_growth_mb"] > 2 * bound(figures), figures
