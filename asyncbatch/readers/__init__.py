"""Sample → bytes."""

from asyncbatch.readers.cache import Cache
from asyncbatch.readers.files import FileReader

__all__ = ["Cache", "FileReader"]
