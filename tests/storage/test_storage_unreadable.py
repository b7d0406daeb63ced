"""Twenty files of a thousand that stay unreadable; `python tests/storage/unreadable.py --count 10000` has ten times it.

What is promised is worked out in `unreadable.check` from the list of bad files alone.
"""

from __future__ import annotations

import pytest
from unreadable import BAD, BATCH, RETRIES, check, expected_errors

import asyncbatch as ab

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(60)

COUNT = 1000
FAULTS = BAD // 2 * (1 + (RETRIES + 1))  # each is tried as often as it is reported to have been


def test_raise_names_the_first_in_its_turn(faultfs):
    """With "raise", all batches before the first bad file's are delivered, and then an error that names it."""
    result = check(faultfs(COUNT), COUNT, "raise")
    assert result["wrong"] == [], result
    first = min(expected_errors(COUNT))
    assert result["delivered"] == first - first % BATCH > 0
    assert result["raised"].startswith("ReadError: ")


def test_skip_delivers_the_others_and_reports_each(faultfs):
    """With `Skip(20)`, the other 980 are delivered, and 20 reports have index, key, errno and attempts."""
    result = check(faultfs(COUNT), COUNT, ab.Skip(BAD))
    assert result["wrong"] == [], result
    assert (result["delivered"], result["reports"], result["raised"]) == (COUNT - BAD, BAD, None)
    assert result["faults"] == FAULTS


def test_skip_of_one_less_raises_in_the_loop(faultfs):
    """With `Skip(19)`, the twentieth raises in the loop, in its turn, and the error has all twenty."""
    result = check(faultfs(COUNT), COUNT, ab.Skip(BAD - 1))
    assert result["wrong"] == [], result
    assert result["raised"].startswith("ErrorLimitExceeded: ")
    assert 0 < result["reports"] < BAD
