"""`single_threaded_opencv`: OpenCV's threads are off while anybody needs them off, and as they were afterwards."""

from __future__ import annotations

import threading

import cv2
import pytest

from asyncbatch.decoders.opencv_threads import single_threaded_opencv


@pytest.fixture(autouse=True)
def _three_threads():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    yield
    cv2.setNumThreads(before)


def test_off_and_on_again():
    """Within the block OpenCV uses the calling thread alone; after it the number of before."""
    with single_threaded_opencv():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 3


def test_the_last_one_restores():
    """Blocks may overlap in any order: the last to close restores."""
    first, second = single_threaded_opencv(), single_threaded_opencv()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cv2.getNumThreads() == 1
    second.__exit__(None, None, None)
    assert cv2.getNumThreads() == 3


def test_restored_after_an_error():
    """An exception in the block restores as well."""
    with pytest.raises(KeyError), single_threaded_opencv():
        raise KeyError
    assert cv2.getNumThreads() == 3


def test_what_somebody_set_meanwhile_stays():
    """A number that somebody set within the block is left alone."""
    with single_threaded_opencv():
        cv2.setNumThreads(2)
    assert cv2.getNumThreads() == 2


def test_many_threads():
    """Threads that enter and leave at once see one thread inside, and the number of before when all have left."""
    start, seen = threading.Barrier(8), []

    def work():
        start.wait()
        for _ in range(50):
            with single_threaded_opencv():
                seen.append(cv2.getNumThreads())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {1}
    assert cv2.getNumThreads() == 3
