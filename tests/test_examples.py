"""Every example runs as its docstring says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
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
