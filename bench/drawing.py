"""Draws the pictures a second of each contender: a bar for the median, a line from the least to the greatest run."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from bench.report import median

_OURS, _OTHERS, _CEILING = "#2f6db3", "#b9bec6", "#e8eaee"


def draw(result: dict[str, Any], path: Path) -> bool:
    """Write a PNG; False if the result has no speeds, and nothing was written."""
    rows = {name: row["runs"] for name, row in result["rows"].items() if "images_per_s" in row["runs"][0]}
    if not rows:
        return False
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where there is something to draw

    figure = Figure(figsize=(9, 1.5 + 0.36 * len(rows)), dpi=110, layout="constrained")
    axes = figure.subplots()
    for place, (name, runs) in enumerate(rows.items()):
        speeds = sorted(run["images_per_s"] for run in runs)
        middle = median(runs, "images_per_s")
        colour = _OURS if name.startswith("asyncbatch") else _CEILING if name.startswith("ceiling") else _OTHERS
        axes.barh(place, middle, color=colour, edgecolor="#8b919b" if colour == _CEILING else "none", linewidth=0.8)
        axes.plot([speeds[0], speeds[-1]], [place, place], color="#30343b", linewidth=1.2)
        axes.annotate(
            f"{middle:,.0f}", (speeds[-1], place), (5, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.set_xlabel("pictures a second, median and range")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(textwrap.fill(result["about"], 90), fontsize=11, loc="left")
    machine = result["machine"]
    figure.supxlabel(
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; {result['rounds']} interleaved runs; "
        f"python -m bench {result['benchmark']}",
        fontsize=7.5, color="#6a707a",
    )  # fmt: skip
    figure.savefig(path)
    return True
