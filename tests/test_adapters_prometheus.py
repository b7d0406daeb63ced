"""`adapters.prometheus`: what a real scrape over HTTP returns."""

from __future__ import annotations

import gc
import re
import urllib.request

import numpy as np
import pytest
from coloured import write_coloured

import asyncbatch as ab

prometheus_client = pytest.importorskip("prometheus_client", reason="pip install 'asyncbatch[metrics]'")
from asyncbatch.adapters.prometheus import LoaderMetrics  # noqa: E402 - it needs prometheus_client


def make_loader(count):
    return ab.Loader(ab.sources.arrays(np.arange(count)[:, None]), batch_size=4)


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry()


@pytest.fixture
def scrape(registry):
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)

    def get():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    yield get
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_scrape_returns_what_stats_says(registry, scrape):
    """Two loaders by their names, each number as documented, and anew at each scrape."""
    with make_loader(20) as train, make_loader(8) as valid:
        LoaderMetrics(train, registry=registry)
        LoaderMetrics(valid, "valid", registry)
        list(train)
        first = scrape()
        assert first['asyncbatch_batches_total{loader="train"}'] == "5.0"
        assert first['asyncbatch_samples_total{loader="train"}'] == "20.0"
        assert first['asyncbatch_batches_total{loader="valid"}'] == "0.0"
        assert float(first['asyncbatch_wait_seconds_total{loader="train"}']) == pytest.approx(
            train.stats().wait_seconds
        )
        list(train)
        list(valid)
        second = scrape()
        assert second['asyncbatch_batches_total{loader="train"}'] == "10.0"
        assert second['asyncbatch_batches_total{loader="valid"}'] == "2.0"
    names = {name.split("{")[0] for name in first}
    assert names == {
        *(f"asyncbatch_{name}_total" for name in (
            "batches", "samples", "bytes_read", "read_seconds", "decode_seconds", "wait_seconds", "wait_reading",
            "wait_decoding", "wait_handoff", "compute_seconds", "retries", "timeouts", "hedges", "direct", "skipped",
            "replaced", "cache_hits", "cache_misses", "cache_bytes", "cache_corrupt",
        )),
        *(f"asyncbatch_{name}" for name in (
            "lost_threads", "concurrency", "group", "decode_threads", "bytes_ahead", "samples_ahead",
            "read_ahead", "read_seconds_each_bucket", "read_seconds_each_count", "read_seconds_each_sum",
        )),
    }  # fmt: skip


def loaders(found):
    return {re.search(r'loader="(\w+)"', name)[1] for name in found}


def test_reads_are_a_histogram(registry, scrape, tmp_path):
    """Cumulative, by bounds that stay, with the sum of the seconds."""
    with ab.Loader(write_coloured(tmp_path, 40), batch_size=8, image_size=24) as loader:
        LoaderMetrics(loader, registry=registry)
        list(loader)
        found, stats = scrape(), loader.stats()
    name = "asyncbatch_read_seconds_each_"
    counts = [float(value) for key, value in found.items() if key.startswith(name + "bucket")]
    assert counts == sorted(counts)
    assert len(counts) == 23
    assert counts[-1] == float(found[name + 'count{loader="train"}']) == 40
    assert float(found[name + 'sum{loader="train"}']) == pytest.approx(stats.read_seconds)


def test_what_is_gone_is_not_exported(registry, scrape):
    """A loader that was dropped, and one whose metrics were closed."""
    dropped, kept = make_loader(4), make_loader(4)
    LoaderMetrics(dropped, "dropped", registry)
    metrics = LoaderMetrics(kept, "kept", registry)
    assert loaders(scrape()) == {"dropped", "kept"}
    dropped.close()
    del dropped
    gc.collect()
    assert loaders(scrape()) == {"kept"}
    metrics.close()
    assert scrape() == {}


def test_a_name_is_exported_once(registry, scrape):
    """A notebook's cell that runs again takes the place of what it made before."""
    with make_loader(4) as first, make_loader(8) as second:
        LoaderMetrics(first, registry=registry)
        LoaderMetrics(second, registry=registry)
        list(second)
        found = scrape()
        assert found['asyncbatch_samples_total{loader="train"}'] == "8.0"
    with pytest.raises(ab.ConfigError, match="name must be a text"):
        LoaderMetrics(first, 3, registry)


def test_what_is_no_loader(registry):
    with pytest.raises(ab.ConfigError, match=r"write LoaderMetrics\(ab\.Loader"):
        LoaderMetrics("train.txt", registry=registry)
