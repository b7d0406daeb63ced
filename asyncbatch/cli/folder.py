"""The folder that the demo writes into: only its own is written over, and nothing else in it is touched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from asyncbatch.cli.pictures import KINDS
from asyncbatch.cli.terminal import CommandError

__all__ = ["DemoFolder"]

_FOLDER = re.compile(rf"(train|test)(/({'|'.join(KINDS)}))?")
_PICTURE = re.compile(rf"(train|test)/({'|'.join(KINDS)})/\2-\d{{4,}}\.jpg")
_MADE_BY = '"made_by": "asyncbatch demo"'
_OTHER = "name a new folder: asyncbatch demo --out NEW"


class DemoFolder:
    """Names the demo's files.

    Args:
        root: The folder; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train = root / "train"
        self.test = root / "test"
        self.sheet = root / "contact-sheet.png"
        self.timeline = root / "timeline.png"
        self.record = root / "demo.json"

    def prepare(self, settings: Mapping[str, object]) -> None:
        """Make the folder, or empty it of an earlier demo's files, and mark it as the demo's.

        Raises:
            CommandError: It is no folder, cannot be written to, or holds anything that the demo did not make.
        """
        try:
            self._prepare(settings)
        except OSError as error:
            what = error.strerror or "it cannot be used"
            raise CommandError(f"{error.filename or self.root} cannot be written to: {what}; {_OTHER}") from error

    def _prepare(self, settings: Mapping[str, object]) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise CommandError(f"{self.root} is a file; {_OTHER}")
        self.root.mkdir(parents=True, exist_ok=True)
        if not self._is_ours() and any(self.root.iterdir()):
            raise CommandError(f"{self.root} is not empty and was not made by the demo; {_OTHER}")
        found = list(self.root.rglob("*"))
        for path in found:
            if not self._made(path):
                raise CommandError(f"{path} was not made by the demo, which would have to clear it away; {_OTHER}")
        for path in found:
            if path.is_file():
                path.unlink()
        self.mark(settings)

    def _is_ours(self) -> bool:
        if not self.record.is_file() or self.record.is_symlink():
            return False
        with self.record.open(encoding="utf-8", errors="replace") as file:
            return _MADE_BY in file.read(100)

    def _made(self, path: Path) -> bool:
        """Tell whether the demo makes such a file or folder; it makes no links."""
        name = path.relative_to(self.root).as_posix()
        if path.is_symlink():
            return False
        if path.is_dir():
            return _FOLDER.fullmatch(name) is not None
        return path in (self.sheet, self.timeline, self.record) or _PICTURE.fullmatch(name) is not None

    def mark(self, results: Mapping[str, object]) -> None:
        """Write down what is known of this demo; the file also marks the folder as the demo's."""
        self.record.write_text(json.dumps({"made_by": "asyncbatch demo", **results}, indent=2) + "\n", encoding="utf-8")

    def listing(self) -> str:
        """Return the files and what they hold, a line each."""
        what = {
            self.sheet: "pictures as the model sees them, and what it says",
            self.timeline: "reading, decoding, computing and waiting over time",
            self.record: "settings and results",
        }
        width = max(len(str(path)) for path in what)
        return "\n".join(f"{path!s:<{width}}  {text}" for path, text in what.items())
