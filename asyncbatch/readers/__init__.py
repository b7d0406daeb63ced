"""Sample → bytes."""

from asyncbatch.readers.cache import Cache
from asyncbatch.readers.files import FileReader
from asyncbatch.readers.objects import ObjectReader

__all__ = ["Cache", "FileReader", "ObjectReader"]
