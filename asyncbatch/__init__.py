"""asyncbatch: an asynchronous prefetching loader for training images on slow storage.

`Loader("train.txt", batch_size=32, image_size=(224, 224))` is iterable by `for` and by `async for`.
"""

from asyncbatch import making, sampling, sources
from asyncbatch._errors import (
    AsyncbatchError,
    ConfigError,
    DecodeError,
    ErrorLimitExceeded,
    LoaderClosed,
    ReadError,
    SampleChanged,
    SampleError,
    SourceError,
    StateMismatch,
    StorageUnresponsive,
)
from asyncbatch._iterator import BatchIterator
from asyncbatch._types import (
    Batch,
    Decoder,
    Hook,
    ItemSource,
    MemorySource,
    ReadCounters,
    Reader,
    ReaderFactory,
    Sample,
    Source,
    Span,
)
from asyncbatch.compat import train_data
from asyncbatch.decoders import CenterCrop, ImageDecoder, RandomHorizontalFlip, RandomResizedCrop, Resize
from asyncbatch.loader import Loader
from asyncbatch.on_error import Replace, Skip
from asyncbatch.readers import Cache, FileReader, ObjectReader
from asyncbatch.stats import ReadLatency, SlowRead, Stats

__version__ = "0.1.0"

__all__ = [
    "AsyncbatchError",
    "Batch",
    "BatchIterator",
    "Cache",
    "CenterCrop",
    "ConfigError",
    "DecodeError",
    "Decoder",
    "ErrorLimitExceeded",
    "FileReader",
    "Hook",
    "ImageDecoder",
    "ItemSource",
    "Loader",
    "LoaderClosed",
    "MemorySource",
    "ObjectReader",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "ReadCounters",
    "ReadError",
    "ReadLatency",
    "Reader",
    "ReaderFactory",
    "Replace",
    "Resize",
    "Sample",
    "SampleChanged",
    "SampleError",
    "Skip",
    "SlowRead",
    "Source",
    "SourceError",
    "Span",
    "StateMismatch",
    "Stats",
    "StorageUnresponsive",
    "making",
    "sampling",
    "sources",
    "train_data",
]
