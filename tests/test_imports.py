"""The house: what is public, and who may know whom."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import asyncbatch

PACKAGE = Path(asyncbatch.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

LEAVES = {"_types", "_errors", "_arguments", "_mailbox", "_priority", "_chunked", "_buckets"}
"""What every stage may know."""

STAGES = ("sampling", "sources", "readers", "decoders")


def imported(path):
    """Return the parts of asyncbatch that a module imports, by their first name below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "asyncbatch":
            names = [alias.name for alias in node.names] if node.module == "asyncbatch" else [node.module.split(".")[1]]
            found.update(names)
        elif isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("asyncbatch"))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_stages_know_no_other_stage(stage):
    """A stage imports the shared words and itself, nothing else of the package."""
    paths = sorted((PACKAGE / stage).glob("*.py"))
    assert paths
    for path in paths:
        assert imported(path) <= LEAVES | {stage}, path.name


def test_commands_know_public_names_only():
    """The command line uses the library as a user would."""
    public = {*asyncbatch.__all__, "adapters", "cli", "", "__version__"}
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        assert imported(path) <= public, path.name


def test_adapters_know_public_names_only():
    """They could be anybody's, and what anybody needs for one is public."""
    public = {*asyncbatch.__all__, "adapters"}
    paths = sorted((PACKAGE / "adapters").glob("*.py"))
    assert len(paths) > 4
    for path in paths:
        assert imported(path) <= public, path.name


def test_only_the_pipeline_knows_reading_and_decoding():
    """Stages meet in one place: the assembly and the hand-off know neither sources nor readers."""
    assert imported(PACKAGE / "_handoff.py") <= LEAVES
    assert imported(PACKAGE / "_window.py") <= LEAVES
    assert imported(PACKAGE / "_assembly.py") <= LEAVES | {"_made", "_planning", "_memory", "_seating"}


def test_public_names_are_sorted_and_there():
    """`__all__` is the sorted list of what a user may import."""
    assert asyncbatch.__all__ == sorted(asyncbatch.__all__)
    for name in asyncbatch.__all__:
        assert hasattr(asyncbatch, name)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_small(path):
    """A module that grows past 300 lines is two ideas."""
    assert len(path.read_text("utf-8").splitlines()) <= 300


def test_core_imports_no_extra():
    """`import asyncbatch` brings in no framework, no plotting and no command line."""
    script = "import sys, asyncbatch; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    names = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in names
    extras = {
        "torch",
        "jax",
        "keras",
        "prometheus_client",
        "matplotlib",
        "tqdm",
        "albumentations",
        "torchvision",
        "PIL",
        "obstore",
        "psutil",
        "pyarrow",
        "ray",
    }
    assert not extras & set(names)
    assert "asyncbatch.cli" not in names


def test_version_is_that_of_the_distribution():
    """The version in the code is the one that was installed, where it was."""
    metadata = importlib.import_module("importlib.metadata")
    try:
        installed = metadata.version("asyncbatch")
    except metadata.PackageNotFoundError:
        pytest.skip("asyncbatch is not installed here, only importable")
    assert installed == asyncbatch.__version__
