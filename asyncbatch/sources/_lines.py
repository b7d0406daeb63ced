"""The lines of a text that a user made, numbered, and refused in kind words where they are no text at all."""

from __future__ import annotations

import codecs
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from asyncbatch._errors import SourceError
from asyncbatch.sources._paths import file_mode

__all__ = ["Lines", "read_text", "shortened", "split_lines"]

_HEAD_BYTES = 1 << 16  # binary formats show what they are within far less
_LINE_BYTES = 1 << 20  # room for a vector of 50,000 floats; a longer line is another kind of file
_SHOWN = 100


def shortened(text: str) -> str:
    """Return `text` as an error message can bear it."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a file that say something.

    Attributes:
        file: The file's path.
        numbers: Their places in the file, counted from 1.
        texts: The lines without their ends.
    """

    file: str
    numbers: list[int]
    texts: list[str]

    def error(self, index: int, reason: str) -> SourceError:
        """Make the error that names the file, the line's number, what is wrong with it, and its text."""
        return SourceError(
            f"{self.file}, line {self.numbers[index]}: {reason}. The line: {shortened(self.texts[index])!r}"
        )


def read_text(file: str) -> bytes:
    """Read a text file.

    Raises:
        SourceError: It is not a regular file, cannot be read, or is plainly no UTF-8 text. A binary file is refused
            without reading on.
    """
    mode = file_mode(file)
    if stat.S_ISDIR(mode):
        raise SourceError(
            f"{file!r} is a folder, not a list of pictures; for the pictures in it write sources.folder({file!r})"
        )
    if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
        raise SourceError(f"{file!r} is a pipe or a device; write the lines to a file first and give that")
    try:
        with Path(file).open("rb") as stream:
            head = stream.read(_LINE_BYTES + 1)
            _refuse_binary(file, head[:_HEAD_BYTES])
            if b"\n" not in head:
                split_lines(file, head)  # which refuses what has no line ends, before gigabytes of it are read
            return head + stream.read()
    except OSError as error:
        raise SourceError(f"{file!r} cannot be read: {error.strerror}") from error


def split_lines(file: str, data: bytes) -> Lines:
    """Find the lines of a text that are neither blank nor comments, which begin with "#".

    Lines end in LF or CR LF; the text is UTF-8, with or without byte order mark.

    Raises:
        SourceError: It is no UTF-8 text, or has a line of over 1 MiB.
    """
    lines = Lines(file, [], [])
    for number, line in enumerate(BytesIO(data), start=1):
        if len(line) > _LINE_BYTES:
            raise SourceError(
                f"{file}, line {number}: longer than {_LINE_BYTES:,} bytes, so that this seems to be another kind "
                "of file. A manifest has a picture and its label on each line: cat.jpg 3"
            )
        text = _decoded(file, number, line)
        start = text.lstrip(" \t")
        if start and not start.startswith("#"):
            lines.numbers.append(number)
            lines.texts.append(text)
    return lines


def _refuse_binary(file: str, head: bytes) -> None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceError(f"{file!r} is UTF-16 text; save it as UTF-8: iconv -f UTF-16 -t UTF-8 old.txt > new.txt")
    try:
        # Without `final` a character that the head's end cuts in two is no error.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        if b"\0" in head:
            raise SourceError(
                f"{file!r} is a binary file, not a list of pictures. A manifest is a text with a picture and its label "
                "on each line: cat.jpg 3"
            ) from error


def _decoded(file: str, number: int, line: bytes) -> str:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    line = line.rstrip(b"\r\n")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        shown = shortened(line.decode(errors="backslashreplace"))
        raise SourceError(
            f"{file}, line {number}: byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8. Save "
            f"the file as UTF-8: iconv -f latin1 -t UTF-8 old.txt > new.txt. The line: {shown!r}"
        ) from error
    if "\0" in text or "\r" in text:
        found = (
            "a NUL character, as binary files do" if "\0" in text else "a carriage return, as old Macintosh files do"
        )
        raise SourceError(
            f"{file}, line {number}: holds {found}; a manifest is a plain text with Unix or Windows line ends. "
            f"The line: {shortened(text)!r}"
        )
    return text
