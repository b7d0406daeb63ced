"""Statistics as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncbatch._advice import advice, duration
from asyncbatch._errors import ConfigError

if TYPE_CHECKING:
    from asyncbatch.stats import Stats

__all__ = ["draw_stats"]

# The palette of Okabe and Ito, which the colour-blind can tell apart.
_COLOURS = {"computing": "#009E73", "reading": "#0072B2", "decoding": "#E69F00", "hand-off": "#999999"}


def draw_stats(stats: Stats, path: str | os.PathLike[str] | None) -> Any:
    """Draw where the caller's time went above how long reads took; return the figure."""
    try:
        from matplotlib import style  # noqa: PLC0415 - an extra, which takes a second to import
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'asyncbatch[plot]'", name="matplotlib") from error

    with style.context("default", after_reset=True):  # whatever the user's matplotlibrc says
        figure = Figure(figsize=(9, 5.4), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        time, reads = figure.subplots(2, height_ratios=[1, 4])
        _draw_time(time, stats)
        _draw_reads(reads, stats)
        what = f"{stats.samples:,} samples in {duration(stats.seconds)}" if stats.batches else "nothing delivered yet"
        figure.suptitle(what, x=0.01, ha="left", fontsize=12, fontweight="bold")
        figure.supxlabel(_wrapped(advice(stats)) if stats.batches else "", x=0.01, ha="left", fontsize=9)
        if path is not None:
            if not Path(path).parent.is_dir():
                raise ConfigError(f"there is no folder {str(Path(path).parent)!r} to write the plot into; make it")
            figure.savefig(path)
    return figure


def _draw_time(ax: Any, stats: Stats) -> None:
    parts = {
        "computing": stats.compute_seconds,
        "reading": stats.wait_reading,
        "decoding": stats.wait_decoding,
        "hand-off": stats.wait_handoff,
    }
    left, whole = 0.0, stats.seconds or 1.0
    for name, seconds in parts.items():
        share = 100 * seconds / whole
        label = name if name == "computing" else f"waiting for {name}"
        ax.barh(0, share, left=left, color=_COLOURS[name], label=f"{label} {share:.0f} %")
        left += share
    ax.set_xlim(0, 100)
    ax.set_yticks([])
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    ax.set_title("where the caller's time went", loc="left", fontsize=10)
    ax.legend(loc="upper left", bbox_to_anchor=(-0.01, 0.02), ncols=len(parts), frameon=False, fontsize=9)


def _draw_reads(ax: Any, stats: Stats) -> None:
    latency = stats.read_latency
    ax.set_title(f"how long {latency.count:,} reads took", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    if not latency.count:
        ax.set_axis_off()
        return
    bounds = [1e3 * bound for bound, _ in latency.buckets]
    lower = [bound / 2**0.25 for bound in bounds]
    widths = [bound - low for bound, low in zip(bounds, lower, strict=True)]
    counts = [count for _, count in latency.buckets]
    ax.bar(lower, counts, widths, align="edge", color=_COLOURS["reading"], edgecolor="white", linewidth=0.5)
    ax.set_xscale("log")
    if max(counts) > 50 * min(counts):
        ax.set_yscale("log")
        ax.set_ylim(0.7)
    for share, name in ((0.5, "half"), (0.99, "99 of 100")):
        seconds = latency.quantile(share)
        ax.axvline(1e3 * seconds, color="black", linewidth=0.8, linestyle="--")
        ax.annotate(
            f"{name}: {duration(seconds)}", (1e3 * seconds, 1), xycoords=("data", "axes fraction"),
            xytext=(3, -2), textcoords="offset points", va="top", fontsize=8,
        )  # fmt: skip
    ax.set_xlabel("milliseconds of a read")
    ax.set_ylabel("reads")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _wrapped(text: str, width: int = 120) -> str:
    import textwrap  # noqa: PLC0415 - needed for this alone

    return textwrap.fill(text, width)
