"""The benchmarks: their pictures, their contenders, and what the runner says of those that are missing or fail."""

from __future__ import annotations

from importlib.util import find_spec

import cv2
import numpy as np
import psutil
import pytest
import simplejpeg

from bench import data, report, runner
from bench.contenders._contend import GRID
from bench.data import Spec
from bench.suites import SUITES, Row, Suite

BATCH_SIZE = 8
TINY = Spec(count=68, width=100, height=75)
OPTIONAL = ("dataloader", "spdl")  # their packages are no part of the test extra
LARGE = {"dali": "nvidia", "grain": "grain", "litdata_raw": "litdata", "tf_data": "tensorflow"}  # tested where they are
CONTENDERS = sorted(
    contender
    for contender in {row.contender for row in SUITES["photos"].rows + SUITES["train_data"].rows}
    if contender not in LARGE or find_spec(LARGE[contender])
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return data.ensure(TINY, tmp_path_factory.mktemp("bench") / "pictures")


def run(contender, arguments):
    """Run a contender and return its line, which may say that it is absent, but not that it failed."""
    line = runner.run_once(contender, arguments, timeout=100)
    assert "failed" not in line, line["failed"]
    return line


@pytest.fixture
def common(pictures):
    return ("--data", str(pictures), "--batch-size", str(BATCH_SIZE), "--image-size", "64")


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class TestData:
    def test_is_a_pure_function_of_its_spec(self, tmp_path):
        """One spec gives the same bytes again, and another seed gives others under the same names."""
        spec = Spec(count=12, width=100, height=75)
        first, again = (files(data.ensure(spec, tmp_path / name)) for name in ("first", "again"))
        other = files(data.ensure(Spec(count=12, width=100, height=75, seed=8), tmp_path / "other"))
        assert first == again
        assert first.keys() == other.keys()
        assert all(first[name] != other[name] for name in first if name.endswith(".jpg"))

    @pytest.mark.parametrize("photographs", [data.PHOTOGRAPHS, {}], ids=["as installed", "without photographs"])
    def test_pictures_are_those_that_the_readme_describes(self, photographs, monkeypatch):
        """By default pictures are 4:2:0 JPEGs of 500 × 375 and some 50 to 110 KB, whatever their basis."""
        monkeypatch.setattr(data, "PHOTOGRAPHS", photographs)
        _, bases = data.basis(Spec())
        for index in range(4):
            encoded = data.picture(Spec(), index, bases)
            assert simplejpeg.decode_jpeg_header(encoded)[:2] == (375, 500)
            assert simplejpeg.decode_jpeg_header(encoded)[3] == "420"
            assert 40e3 < len(encoded) < 130e3

    def test_complete_set_is_used_again_and_a_broken_one_is_mended(self, tmp_path):
        """A set that is there is not written a second time; one with a picture cut short is made again."""
        spec = Spec(count=3, width=100, height=75)
        root = data.ensure(spec, tmp_path / "set")
        path = root / "class_0" / "000000.jpg"
        written, whole = path.stat().st_mtime_ns, files(root)
        assert data.ensure(spec, root) == root
        assert path.stat().st_mtime_ns == written
        path.write_bytes(path.read_bytes()[:-1])
        assert files(data.ensure(spec, root)) == whole

    def test_folder_with_other_files_is_left_alone(self, tmp_path):
        """The generator refuses a folder that holds anything but its own set, and writes nothing there."""
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(SystemExit, match="empty folder"):
            data.ensure(TINY, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


class TestContenders:
    @pytest.mark.parametrize(
        "contender",
        [pytest.param(name, marks=pytest.mark.framework if name in OPTIONAL else ()) for name in CONTENDERS],
    )
    def test_delivers_every_whole_batch_of_the_same_pictures(self, contender, common, pictures):
        """Each contender prints one line, and in it the images, labels and pixels that all must deliver."""
        line = run(contender, common)
        if "absent" in line:
            assert contender in OPTIONAL
            pytest.skip(f"{contender} is absent: {line['absent']}")
        _, labels = data.read_labels(pictures)
        assert line["name"] == contender
        assert line["images"] == 64  # of 68: the remainder is dropped
        assert line["batches"] == 64 // BATCH_SIZE
        assert line["label_sum"] == sum(labels[:64])
        assert line["mean_pixel"] == pytest.approx(delivered_mean(pictures), abs=3)  # of so few pixels, FFmpeg's scaler
        assert min(line[key] for key in ("seconds", "images_per_s", "first_batch_s", "cpu_s", "peak_rss_mb")) > 0

    def test_overhead_measures_each_of_its_costs(self, common):
        """The line of overhead has a cost for the pipeline, for reading alone, a batch, and a call of next."""
        line = run("overhead", common)
        costs = ("cpu_us_a_sample", "cpu_us_of_reading", "cpu_us_a_batch", "next_us")
        assert min(line[key] for key in costs) > 0

    def test_breaks_leave_nothing_behind(self, common):
        """The line of breaks shows as many threads and descriptors after its loops as before."""
        line = run("breaks", (*common, "--loops", "20"))
        assert line["settings"]["loops"] == 20
        assert line["threads_after"] == line["threads_before"]
        assert line["descriptors_after"] == line["descriptors_before"]


class TestRunner:
    def test_missing_and_failing_contenders_are_named(self, tmp_path, common, monkeypatch):
        """A package that is not there makes its row absent, a crash makes it failed, and the others still run."""
        (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        rows = (Row("loop by hand", "loop"), Row("DataLoader", "dataloader"), Row("crashing", "ceiling", (("--no",),)))
        result = runner.run_suite(Suite("", rows), pictures, common, rounds=2)
        assert [len(row["runs"]) for row in result["rows"].values()] == [2]
        assert result["missing"]["DataLoader"] == "absent: ImportError: no torch here"
        assert result["missing"]["crashing"].startswith("failed: ")

    def test_sweep_is_recorded_and_its_fastest_setting_is_used(self, common):
        """Every setting of a grid is tried, and the rounds run with the one that was fastest."""
        row = Row("ceiling", "ceiling", (("--threads", "1"), ("--threads", "2")))
        result = runner.run_suite(Suite("", (row,)), pictures, common, rounds=1)
        tried = {entry["options"]: max(entry["images_per_s"]) for entry in result["sweeps"]["ceiling"]}
        assert set(tried) == {"--threads 1", "--threads 2"}
        assert result["rows"]["ceiling"]["options"] == max(tried, key=tried.get)

    def test_process_that_takes_too_long_is_killed(self, common):
        """A contender past its time-out fails with that reason and leaves no process behind."""
        line = runner.run_once("loop", common, timeout=0.01)
        assert line == {"failed": "no result after 0.01 s"}
        assert psutil.Process().children(recursive=True) == []


class TestReport:
    def test_says_what_spoils_a_comparison(self):
        """Unlike samples, unlike pixels and a busy machine each give a warning; a sound result gives none."""
        sound = {"images": 64, "label_sum": 9, "mean_pixel": 100.0, "foreign_cpu_s": 0.0}
        assert report.warnings({"a": [sound], "b": [sound]}, [sound, sound]) == []
        for spoilt, word in [
            ({"images": 63}, "samples"),
            ({"mean_pixel": 101.0}, "pixels"),
            ({"foreign_cpu_s": 2.0}, "CPU"),
        ]:
            lines = [sound, {**sound, **spoilt}]
            (warning,) = report.warnings({"a": lines[:1], "b": lines[1:]}, lines)
            assert word in warning


def delivered_mean(pictures):
    """Return the mean of the pixels that the loop by hand delivers, on the grid that contenders report."""
    paths, _ = data.read_labels(pictures)
    images = np.stack([cv2.resize(cv2.imread(path), (64, 64)) for path in paths[:64]])
    return images[:, GRID // 2 :: GRID, GRID // 2 :: GRID].mean()
