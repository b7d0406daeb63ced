"""Sample → bytes."""

from asyncbatch.readers.files import FileReader

__all__ = ["FileReader"]
