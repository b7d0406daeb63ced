"""Every example runs as its docstring says."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from coloured import write_coloured
from test_train_data import draw, write_manifest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments, strict=True):
    """Run an example; `strict` makes warnings errors, which other people's libraries do not stand."""
    warnings = ["-W", "error"] if strict else []
    command = [sys.executable, *warnings, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "80"}
    )


@pytest.fixture
def folder(tmp_path):
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        draw(tmp_path / name, 20)
    return tmp_path


def test_iterate_folder(folder):
    """`iterate_folder.py` sees every picture of every class in both epochs."""
    done = run("iterate_folder.py", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("{'left': 20, 'right': 20}") == 2
    assert "80 pictures" in done.stdout


def test_async_training(folder, tmp_path):
    """`async_training.py` trains to the end on a manifest."""
    manifest = write_manifest(tmp_path / "train.txt", sorted(folder.rglob("*.*")))
    done = run("async_training.py", manifest)
    assert (done.returncode, done.stderr) == (0, "")
    assert "after 5 epochs of 3 batches the loss is 0.0" in done.stdout


@pytest.mark.framework
def test_albumentations_transform(folder):
    """`albumentations_transform.py` augments each batch of each epoch differently, and twice the same."""
    pytest.importorskip("albumentations", reason="pip install albumentations")
    first, second = (run("albumentations_transform.py", folder, strict=False) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    checksums = [line.rpartition(" ")[2] for line in first.stdout.splitlines()]
    assert len(checksums) == len(set(checksums)) == 6


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("coloured"), 60, size=64)


def weights(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.framework
def test_train_torch_goes_on_where_it_was_killed(coloured, tmp_path):
    """Killed by SIGKILL at three random steps, its weights are those of a run that nobody killed, bit for bit."""
    pytest.importorskip("torch", reason="pip install torch")
    whole = weights(run("train_torch.py", coloured, tmp_path / "whole.pt", 3, strict=False))
    rng = random.Random(7)  # noqa: S311 - not a secret
    arguments = (coloured, tmp_path / "killed.pt", 3)
    command = [sys.executable, str(EXAMPLES / "train_torch.py"), *map(str, arguments)]
    killed = 0
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            steps = rng.randint(2, 7)
            for line in process.stdout:
                steps -= line.startswith("epoch")
                if not steps:
                    process.kill()
                    killed += 1
                    break
    assert killed == 3
    last = run("train_torch.py", *arguments, strict=False)
    assert "going on in epoch" in last.stdout
    assert weights(last) == whole
    assert whole.startswith("weights ")


@pytest.mark.framework
def test_train_jax(coloured):
    """`train_jax.py` learns to tell the colours apart."""
    pytest.importorskip("jax", reason="pip install jax")
    done = run("train_jax.py", coloured, 30, strict=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].rpartition(" ")[2]) >= 0.9


@pytest.mark.framework
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras_images(coloured, monkeypatch, backend):
    """`keras_images.py` learns by the loop and by the loader."""
    pytest.importorskip(backend, reason=f"pip install {backend}")
    if find_spec("keras") is None:
        pytest.skip("pip install 'asyncbatch[keras]'")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    done = run("keras_images.py", coloured, 25, strict=False)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": accuracy ") for line in done.stdout.splitlines() if ": accuracy " in line)
    assert float(lines["Loader"].split()[0]) >= 0.9
    assert "train_data" in lines


@pytest.mark.framework
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras_sequence_classifier(monkeypatch, backend):
    """The tutorial's whole journey ends 30 points above a guess, or better."""
    for name in (backend, "sklearn"):
        pytest.importorskip(name, reason=f"pip install {name}")
    if find_spec("keras") is None:
        pytest.skip("pip install 'asyncbatch[keras]'")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    done = run("keras_sequence_classifier.py", 4, strict=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    accuracy, f1 = (float(part.split()[1].rstrip(";")) for part in last.split(", "))
    assert min(accuracy, f1) >= 0.8


@pytest.mark.framework
def test_digits_numpy(tmp_path):
    """Real handwritten digits, 95 % and more of them right."""
    pytest.importorskip("sklearn", reason="pip install scikit-learn")
    done = run("digits_numpy.py", tmp_path / "digits", strict=False)
    assert done.returncode == 0, done.stderr
    assert "of 360 digits right" in done.stdout
    assert float(done.stdout.split(": ")[1].split("%")[0]) >= 95


def test_remote_mount(folder, tmp_path):
    """`remote_mount.py` reads all, reports what it cannot, and says what it had to do."""
    done = run("remote_mount.py", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "40 pictures" in done.stdout
    assert "0 retries, 0 given up, 0 asked twice, 0 left out" in done.stdout
    replica = tmp_path / "replica"
    shutil.copytree(folder, replica, ignore=shutil.ignore_patterns("replica"))
    done = run("remote_mount.py", folder, replica)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.framework
def test_sharded_torchrun(coloured):
    """Two processes that torchrun starts share the pictures out, and end with the same weights as one."""
    pytest.importorskip("torch", reason="pip install torch")
    alone = run("sharded_torchrun.py", coloured, strict=False)
    assert alone.returncode == 0, alone.stderr
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(EXAMPLES / "sharded_torchrun.py"), str(coloured)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    lines = sorted(re.findall(r"rank \d of .*?weights [\d.]+", done.stdout))  # one may print into another's line
    assert [line.split(":")[0] for line in lines] == ["rank 0 of 2", "rank 1 of 2"]
    assert len({line.split("weights ")[1] for line in lines}) == 1
    # Averages of halves are those of the whole but for rounding, and for the last batch, which is filled up.
    assert float(lines[0].split()[-1]) == pytest.approx(float(alone.stdout.split()[-1]), rel=0.02)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_without_arguments_they_say_how_they_are_used(path):
    """No traceback: the docstring, which ends with the line to type, and a status that is no success."""
    done = run(path.name, strict=False)
    assert done.returncode == 1
    assert f"Usage: python examples/{path.name} " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_stay_short(path):
    """An example is one file of under 80 lines that says how it is used."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 80
    assert "Usage: python examples/" in text
