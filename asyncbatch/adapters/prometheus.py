"""A loader's statistics for Prometheus: `pip install 'asyncbatch[metrics]'`."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from asyncbatch import ConfigError, Loader, Stats
from asyncbatch.adapters._missing import missing

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
except ImportError as error:
    raise missing("prometheus_client", "pip install 'asyncbatch[metrics]'", error) from error

__all__ = ["LoaderMetrics"]

# What goes up and down; everything else only grows.
_NOW = ("lost_threads", "concurrency", "group", "decode_threads", "bytes_ahead", "samples_ahead", "read_ahead")

_BOUNDS = tuple(2.0**power for power in range(-14, 8))  # 61 µs to 128 s

_HELP = {
    "batches": "Batches delivered to the caller",
    "samples": "Samples delivered to the caller",
    "bytes_read": "Bytes that came from storage",
    "read_seconds": "Time that the reads took, summed over all that were under way at once",
    "decode_seconds": "Time that decoding took, summed over the threads",
    "wait_seconds": "Time that the caller waited for batches",
    "wait_reading": "Seconds of that until the batch's bytes had come",
    "wait_decoding": "Seconds of that from then on until the batch was complete",
    "wait_handoff": "Seconds of that while the batch was there already",
    "compute_seconds": "Time that the caller was busy between batches",
    "retries": "Reads tried again after an error that may pass",
    "timeouts": "Reads given up because they were past their deadline",
    "hedges": "Reads asked of a second replica because the first was slow",
    "direct": "Samples that one thread read and decoded in one go, because the storage answered at once",
    "cache_hits": "Samples that the cache had",
    "cache_misses": "Samples that the cache had not",
    "cache_bytes": "Bytes that came from the cache, besides those from storage",
    "cache_corrupt": "Entries of the cache that were damaged and fetched again",
    "lost_threads": "Threads stuck in a read that was given up, now",
    "concurrency": "Reads that may be under way at once, now",
    "group": "Files that a thread reads in one go, now",
    "decode_threads": "Samples that are decoded at once",
    "bytes_ahead": "Bytes that were read, or are known to come, and are not decoded yet, now",
    "samples_ahead": "Samples that were read and are not decoded yet, now",
    "read_ahead": "The budget for these bytes",
    "skipped": "Samples left out by on_error=Skip",
    "replaced": "Samples that a stand-in took the place of by on_error=Replace",
}


class LoaderMetrics:
    """Exports `Loader.stats()` at every scrape; nothing is done between them.

    The metrics are `asyncbatch_NAME_total` for what only grows, such as `asyncbatch_wait_seconds_total`,
    `asyncbatch_NAME` for what is of now, such as `asyncbatch_concurrency`, and a histogram
    `asyncbatch_read_seconds_each`, each with a label `loader`. The share of time spent waiting:
    `rate(asyncbatch_wait_seconds_total[5m])`.

    Args:
        loader: Whose. It is not kept alive; once it is gone nothing is exported.
        name: The value of the label, such as "train". A loader that had it before is not exported any more.
        registry: Where it is registered. Default: the one that `prometheus_client.start_http_server` serves.

    Raises:
        ConfigError: What was given is no loader.
    """

    def __init__(self, loader: Loader, name: str = "train", registry: CollectorRegistry = REGISTRY) -> None:
        if not isinstance(loader, Loader):
            raise ConfigError(f"loader must be an asyncbatch.Loader, got {loader!r}; write LoaderMetrics(ab.Loader(…))")
        self._loader = weakref.ref(loader)
        if not isinstance(name, str):
            raise ConfigError(f"name must be a text, such as 'train', got {name!r}")
        self.name = name
        self._registry = registry
        _shared(registry).add(self)

    def close(self) -> None:
        """Export nothing any more."""
        _shared(self._registry).remove(self)

    def read(self) -> tuple[str, Stats] | None:
        """Return the label and the statistics now; None if the loader is gone."""
        loader = self._loader()
        return None if loader is None else (self.name, loader.stats())


class _Collector:
    """Collects for all loaders of a registry, since each metric may be there only once."""

    def __init__(self) -> None:
        self._loaders: list[LoaderMetrics] = []

    def add(self, metrics: LoaderMetrics) -> None:
        others = [one for one in self._loaders if one.read() is not None and one.name != metrics.name]
        self._loaders = [*others, metrics]

    def remove(self, metrics: LoaderMetrics) -> None:
        self._loaders = [one for one in self._loaders if one is not metrics]

    def describe(self) -> Iterator[Any]:
        return iter(())

    def collect(self) -> Iterator[Any]:
        read = [found for one in self._loaders if (found := one.read()) is not None]
        for field in fields(Stats):
            if field.name not in _HELP:
                continue  # the errors themselves, and what has a form of its own
            kind = GaugeMetricFamily if field.name in _NOW else CounterMetricFamily
            family = kind(f"asyncbatch_{field.name}", _HELP[field.name], labels=["loader"])
            for name, stats in read:
                family.add_metric([name], getattr(stats, field.name))
            yield family
        latency = HistogramMetricFamily("asyncbatch_read_seconds_each", "How long each read took", labels=["loader"])
        for name, stats in read:
            latency.add_metric([name], _cumulative(stats), stats.read_seconds)
        yield latency


def _cumulative(stats: Stats) -> list[tuple[str, float]]:
    """Return how many reads took at most so long, by bounds that are the same at every scrape, as Prometheus wants."""
    buckets = stats.read_latency.buckets
    below = [(str(bound), float(sum(count for other, count in buckets if other <= bound))) for bound in _BOUNDS]
    return [*below, ("+Inf", float(stats.read_latency.count))]


_collectors: weakref.WeakKeyDictionary[CollectorRegistry, _Collector] = weakref.WeakKeyDictionary()


def _shared(registry: CollectorRegistry) -> _Collector:
    collector = _collectors.get(registry)
    if collector is None:
        collector = _collectors[registry] = _Collector()
        registry.register(collector)
    return collector
