"""The progress bar of the benchmarks."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


class Progress(tqdm):
    """tqdm on terminals only, and without the thread that it starts to watch slow loops."""

    monitor_interval = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, disable=None, **kwargs)
