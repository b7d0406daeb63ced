"""The curve: files a second and latency against the number of readers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from asyncbatch.cli.doctor_curve import times
from asyncbatch.cli.doctor_report import Report
from asyncbatch.cli.lettering import Lettering
from asyncbatch.cli.terminal import need

__all__ = ["draw_curve"]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"  # of Okabe and Ito: told apart by the colour-blind
LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # keeps lines out of letters
SIZE, DPI = (9.0, 6.4), 150


def draw_curve(path: Path, report: Report) -> None:
    """Write the measured levels as a PNG file: throughput above, latency below, on one axis of readers.

    Args:
        path: Where to write.
        report: What was measured; its first level has readings.
    """
    levels = [level for level in report.levels if level.readings]
    readers = [level.readers for level in levels]
    rates = [level.files_per_second for level in levels]
    latencies = [times([1e3 * reading.seconds for reading in level.readings]) for level in levels]
    found = report.found
    with need("matplotlib.style", "plot").context("default", after_reset=True):  # whatever the user's matplotlibrc says
        figure = need("matplotlib.figure", "plot").Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        need("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
        above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))

        ideal = [rates[0] * count for count in readers]
        above.plot(readers, ideal, color=GREY, linestyle=":", linewidth=1.2)
        above.plot(readers, rates, color=BLUE, marker="o", linewidth=2)
        top = 1.3 * max(rates)
        above.set_ylim(0, top)
        if len(levels) > 1:
            at, height, side = _beside(readers, ideal, 0.86 * top)  # above all that was measured, below the knee's
            above.annotate("if all ran at once", (at, height), (6 if side == "left" else -6, 0), ha=side,
                           va="center", textcoords="offset points", color=GREY, fontsize=9, bbox=LABEL)  # fmt: skip
        for count, rate in zip(readers, rates, strict=True):
            place = (0, 8 if rate < 0.15 * top else -15)  # off the axis
            above.annotate(f"{rate:,.0f}", (count, rate), place, textcoords="offset points", ha="center",
                           color=BLUE, fontsize=8, bbox=LABEL)  # fmt: skip
        above.axvline(found.readers, color=GREY, linewidth=0.8, linestyle="--")
        enough = f"knee: {found.readers} {'is' if found.readers == 1 else 'are'} enough"
        if found.limit == "latency":  # more than were tried would get more
            enough = f"no knee up to {found.readers}"
        side, away = ("left", 5) if 4 * found.readers <= readers[-1] or len(readers) == 1 else ("right", -5)
        above.annotate(enough, (found.readers, top), (away, -13), textcoords="offset points", color=GREY,
                       ha=side, fontsize=9, bbox=LABEL)  # fmt: skip
        above.set_ylabel("files a second")
        above.set_title(
            f"at most {found.files_per_second:,.0f} files/s, {found.bytes_per_second / 1e6:,.1f} MB/s, "
            + _gain(found.files_per_second / max(rates[0], 1e-9)),
            loc="left", fontsize=10, color=GREY,
        )  # fmt: skip

        below.fill_between(readers, [t.median for t in latencies], [t.p95 for t in latencies],
                           color=ORANGE, alpha=0.2, linewidth=0, label="median to 95th percentile")  # fmt: skip
        below.plot(readers, [t.median for t in latencies], color=ORANGE, marker="o", linewidth=2, label="median")
        below.axvline(found.readers, color=GREY, linewidth=0.8, linestyle="--")
        below.set_ylim(0, 1.4 * max(t.p95 for t in latencies))  # room for the legend
        below.set_ylabel("ms a file")
        below.legend(loc="upper left", frameon=False, fontsize=9)
        below.set_xlabel("files read at once")
        _axis(below, readers)
        for ax in (above, below):
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(axis="y", color="#E6E6E6", linewidth=0.8)
            ax.set_axisbelow(True)

        letters = Lettering(figure)
        kind = "" if report.mount is None else f" ({report.mount.kind})"
        title = letters.fit(f"{report.path}{kind}", SIZE[0] * DPI * 0.9, 13)
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", fontfamily=letters.families,
                        parse_math=False)  # fmt: skip
        figure.savefig(path, format="png", dpi=DPI)


def _beside(readers: list[int], ideal: list[float], height: float) -> tuple[float, float, str]:
    """Return where a line of doublings reaches a height, and on which side of it there is more room for words."""
    reached = math.log2(height / max(ideal[0], 1e-9))  # straight between two powers of two, and so a little before
    whole = math.floor(reached)
    at = 2.0 ** (whole + height / max(ideal[0] * 2.0**whole, 1e-9) - 1)
    if at >= readers[-1]:
        return float(readers[-1]), ideal[-1], "right"
    return at, height, "left" if at**2 < readers[-1] else "right"


def _gain(times_one: float) -> str:
    """Say how much more than one reader all of them get."""
    if times_one < 1.5:
        return "hardly more than one reader gets"
    return f"about {times_one:,.{1 if times_one < 3 else 0}f} times what one reader gets"


def _axis(ax: Any, readers: list[int]) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xticks(readers, [str(count) for count in readers])
    ax.minorticks_off()
    ax.set_xlim(readers[0] / 1.25, readers[-1] * 1.25)
