"""Files that change while they are read, or seem to."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numbered import SIZE, make_loader, name_of, names_of, read_all

import asyncbatch as ab

pytest_plugins = ("storagefixtures",)
pytestmark = pytest.mark.timeout(60)

CHANGES = [{"fault": "touch"}, {"fault": "grow", "size": 10}, {"fault": "truncate", "size": 40}]


def read_rows(loader):
    """Return {index: length} of what was delivered, and the errors that were let pass."""
    rows, errors = {}, []
    for batch in loader:
        rows |= dict(zip(batch.indices.tolist(), batch.images[:, 1].tolist(), strict=True))
        errors += batch.errors
    return rows, errors


def test_a_file_that_was_touched_while_it_was_read_is_read_again(faultfs):
    """Another mtime after the read than before makes the bytes doubtful: they are read afresh, and then delivered."""
    fs = faultfs(40, rules=[{"fault": "touch", "names": names_of(range(0, 40, 4)), "times": 1}])
    with make_loader(fs.path, 40) as loader:
        assert read_all(loader) == (list(range(40)), [])
        assert loader.stats().retries == fs.faults() == 10


@pytest.mark.parametrize("rule", CHANGES[1:])
def test_a_file_of_another_size_is_whole_or_an_error(faultfs, rule):
    """A file cut or grown on the way is what it now is, or `SampleChanged`, after a retry; never a mixture."""
    fs = faultfs(40, rules=[rule | {"names": names_of([7, 23]), "times": 1}])
    new_size = 40 if rule["fault"] == "truncate" else SIZE + 10
    with make_loader(fs.path, 40, on_error=ab.Skip(2)) as loader:
        rows, errors = read_rows(loader)
        assert loader.stats().retries >= 2
    assert all(isinstance(error, ab.SampleChanged) for error in errors)
    assert sorted([*rows, *(error.index for error in errors)]) == list(range(40))
    assert {rows[index] for index in rows if index in (7, 23)} <= {new_size}
    assert {rows[index] for index in rows if index not in (7, 23)} == {SIZE}
    assert fs.faults() == 2


def test_a_file_that_is_touched_all_the_time_is_read_twice(faultfs):
    """Where only the time of change moves, and two reads in a row gave the same bytes, these are the file's."""
    fs = faultfs(40, rules=[{"fault": "touch", "names": [name_of(25)]}])
    with make_loader(fs.path, 40) as loader:
        assert read_all(loader) == (list(range(40)), [])
        assert loader.stats().retries == 1
    assert fs.faults() == 2


def test_a_file_that_keeps_changing_is_an_error(faultfs):
    """A file that is another after each read is `SampleChanged` when the retries are used up."""
    fs = faultfs(40, rules=[{"fault": "grow", "size": 10, "names": [name_of(25)]}])
    with make_loader(fs.path, 40, reader={"retries": 2}, on_error=ab.Skip(1)) as loader:
        rows, (error,) = read_rows(loader)
    assert isinstance(error, ab.SampleChanged)
    assert error.index == 25
    assert 1 <= error.attempts <= 3
    assert len(rows) == 39
    assert fs.faults() == error.attempts


def test_an_mtime_that_means_nothing_is_lived_with(faultfs):
    """A mount that answers "now" for every mtime can still be read: not every file of it is changed."""
    fs = faultfs(100, mtime="now")
    with make_loader(fs.path, 100) as loader:
        assert read_all(loader) == (list(range(100)), [])
    assert fs.count("getattr") >= 100


def test_a_hole_is_not_a_picture(faultfs, tmp_path):
    """Bytes that became zeros on the way are no change to a reader; a picture's own checks make them an error."""
    noise = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    picture = cv2.imencode(".png", noise)[1].tobytes()
    for index in range(10):
        (tmp_path / f"{name_of(index)}.png").write_bytes(picture)
    hole = {"fault": "zeros", "offset": len(picture) // 2, "size": 200, "names": [f"{name_of(4)}.png"]}
    fs = faultfs(source=tmp_path, rules=[hole])
    loader = ab.Loader(str(fs.path), batch_size=10, image_size=(32, 32), on_error=ab.Skip(1))
    with loader:
        (batch,) = loader
    assert batch.indices.tolist() == [index for index in range(10) if index != 4]
    assert isinstance(batch.errors[0], ab.DecodeError)
    assert fs.faults() >= 1
