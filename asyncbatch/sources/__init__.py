"""What there is: a source lists samples and reads none of them."""

from __future__ import annotations

from asyncbatch.sources._arrays import arrays
from asyncbatch.sources._choose import as_source as as_source  # for Loader; users name the source they mean
from asyncbatch.sources._folder import folder
from asyncbatch.sources._items import items
from asyncbatch.sources._manifest import manifest
from asyncbatch.sources._objects import ObjectSource as ObjectSource  # for Loader, to know it by
from asyncbatch.sources._objects import objects
from asyncbatch.sources._parquet import parquet
from asyncbatch.sources._tar import tar

__all__ = ["arrays", "folder", "items", "manifest", "objects", "parquet", "tar"]
