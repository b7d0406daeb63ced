"""Everything that passes, at once, on many files; `python tests/storage/storm.py` does the same with 10,000."""

from __future__ import annotations

import pytest
from storm import RULES, storm

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(110)

COUNT = 2000  # a few seconds; each kind of fault is met several times


def test_a_storm_of_faults_loses_nothing(faultfs):
    """3 % of faults of four kinds: all delivered, order unchanged, and as many retries as there were faults."""
    result = storm(faultfs(COUNT), COUNT)
    assert (result["delivered"], result["in_order"], result["errors"]) == (COUNT, True, 0)
    assert result["retries"] == result["faults"]
    assert len(result["faults_by_kind"]) == len(RULES)
    assert COUNT * 0.015 < result["faults"] < COUNT * 0.06
