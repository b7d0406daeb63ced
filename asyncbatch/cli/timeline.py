"""The timeline: what was read, decoded, awaited and computed when, one contender above the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import asyncbatch as ab
from asyncbatch.cli.race import Run
from asyncbatch.cli.terminal import need, percent

__all__ = ["draw_timeline"]

# The palette of Okabe and Ito, which the colour-blind can tell apart; waiting is light because nothing happens in it.
STAGES = {
    "read": ("reading", "#0072B2"),
    "decode": ("decoding", "#E69F00"),
    "compute": ("computing", "#009E73"),
    "wait": ("waiting for a batch", "#D9D9D9"),
}
# A white seam tells one read from the next in its lane; the other stages have gaps of their own.
SEAM = {stage: {"edgecolor": "white", "linewidth": 0.3 if stage == "read" else 0} for stage in STAGES}
BANDS = {"read": ("read",), "decode": ("decode",), "caller": ("compute", "wait")}


def draw_timeline(path: Path, runs: Mapping[str, Run], seconds: float, title: str) -> None:
    """Write a timeline of the first seconds of some runs as a PNG file, on one time axis.

    Args:
        path: Where to write.
        runs: The runs, top to bottom, by what to call them.
        seconds: How much of them to show.
        title: What is seen.
    """
    with need("matplotlib.style", "plot").context("default", after_reset=True):  # whatever the user's matplotlibrc says
        figure = need("matplotlib.figure", "plot").Figure(figsize=(12, 6.8), dpi=150, layout="constrained")
        need("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
        panels = [_Panel(run, seconds) for run in runs.values()]
        figure.get_layout_engine().set(hspace=0.06)
        axes = figure.subplots(
            len(panels), sharex=True, squeeze=False, height_ratios=[panel.height + 1 for panel in panels]
        )[:, 0]
        for ax, panel, name in zip(axes, panels, runs, strict=True):
            panel.draw(ax)
            ax.set_title(name, loc="left", fontsize=11)
        for ax in axes[:-1]:
            ax.spines["bottom"].set_visible(False)
            ax.tick_params(axis="x", length=0)
        axes[-1].set_xlabel("time since the start (s)")
        axes[-1].set_xlim(0, seconds)
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        patch = need("matplotlib.patches", "plot").Patch
        figure.legend(
            handles=[patch(color=colour, label=label) for label, colour in STAGES.values()],
            loc="outside lower center", ncols=len(STAGES), frameon=False,
        )  # fmt: skip
        figure.savefig(path, format="png")


class _Panel:
    """One run's bands of lanes."""

    def __init__(self, run: Run, seconds: float) -> None:
        self._run = run
        shown = [span for span in run.spans if span.start < run.start + seconds]
        self._bands = {band: [s for s in shown if s.stage in stages] for band, stages in BANDS.items()}
        self._lanes = {band: 1 + max((s.lane for s in spans), default=0) for band, spans in self._bands.items()}
        # Many lanes are drawn thinner, but take more room than few.
        self._heights = {band: 1 + 0.5 * float(np.log2(lanes)) for band, lanes in self._lanes.items()}
        self.height = sum(self._heights.values()) + 0.4 * len(BANDS)

    def draw(self, ax: Any) -> None:
        bottom, ticks, labels = 0.0, [], []
        for band, spans in self._bands.items():
            height, lanes = self._heights[band], self._lanes[band]
            thickness = height / lanes
            for stage in BANDS[band]:
                for lane in range(lanes):
                    bars = [self._bar(s) for s in spans if s.stage == stage and s.lane == lane]
                    y = bottom + lane * thickness
                    ax.broken_barh(bars, (y, thickness * 0.92), facecolors=STAGES[stage][1], snap=False, **SEAM[stage])
            ticks.append(bottom + height / 2)
            labels.append(self._label(band))
            bottom += height + 0.4
        ax.set_ylim(bottom - 0.2, -0.2)  # reading on top, the caller at the bottom
        ax.set_yticks(ticks, labels)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)

    def _bar(self, span: ab.Span) -> tuple[float, float]:
        return span.start - self._run.start, span.stop - span.start

    def _label(self, band: str) -> str:
        if band == "caller":
            return f"training step,\nwaiting {percent(self._run.waiting)} of the time"
        lanes = self._lanes[band]
        return f"{STAGES[band][0]},\n{'one at a time' if lanes == 1 else f'up to {lanes} at once'}"
