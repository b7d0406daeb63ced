"""Turns a result into the table that is printed: medians, with the least and the greatest run beside them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

OTHERS = ("loop by hand", "DataLoader", "SPDL", "torchdata", "tf.data", "DALI", "Grain", "LitData", "s3fs")
# FFmpeg's decoder and scalers differ from OpenCV's by up to 0.4 of 255; wrong levels, as of video, by many times that.
MEAN_TOLERANCE = 0.5

Lines = list[dict[str, Any]]


def report(result: dict[str, Any]) -> str:
    machine, data = result["machine"], result["data"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    parts = [
        f"{result['benchmark']}: {result['about']}",
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; {packages}",
        f"{data['count']} pictures of {data['width']}×{data['height']}, mean {data['mean_kb']} KB",
        f"{result['rounds']} rounds: median (least–greatest)",
        "",
    ]
    rows = result["rows"]
    timed = {name: row["runs"] for name, row in rows.items() if "images_per_s" in row["runs"][0]}
    parts += throughput_table(rows, timed) if timed else []
    parts += [line for name, row in rows.items() if name not in timed for line in plain_fields(name, row["runs"])]
    parts += [f"{name} – {reason}" for name, reason in result["missing"].items()]
    parts += warnings(timed, [line for row in rows.values() for line in row["runs"]])
    return "\n".join(parts)


def throughput_table(rows: dict[str, Any], timed: dict[str, Lines]) -> list[str]:
    speeds = {name: median(lines, "images_per_s") for name, lines in timed.items()}
    others = [speed for name, speed in speeds.items() if name.startswith(OTHERS)]
    references = {
        "× loop": speeds.get("loop by hand"),
        "× best other": max(others) if len(others) > 1 else None,
        "× ceiling": speeds.get("ceiling"),
    }
    references = {title: speed for title, speed in references.items() if speed}
    header = ["", "img/s", *references, "first batch ms", "CPU ms/img", "peak MB", "mean pixel", "settings"]
    table = [header]
    for name, lines in timed.items():
        table.append(
            [
                name,
                spread(lines, "images_per_s"),
                *(f"{speeds[name] / speed:.2f}" for speed in references.values()),
                f"{1e3 * median(lines, 'first_batch_s'):.0f}",
                f"{1e3 * median(lines, lambda line: line['cpu_s'] / line['images']):.2f}",
                memory(lines),
                f"{lines[0]['mean_pixel']:.2f}",
                rows[name]["options"] or "defaults",
            ]
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def plain_fields(name: str, lines: Lines) -> list[str]:
    fields = [key for key, value in lines[0].items() if isinstance(value, int | float) and key != "foreign_cpu_s"]
    return [f"{name}: {key} {spread(lines, key, digits=1)}" for key in fields]


def warnings(timed: dict[str, Lines], lines: Lines) -> list[str]:
    """Say what would make the figures worthless: contenders that did unlike things, or a busy machine."""
    found = []
    whole = [line for lines in timed.values() for line in lines if not line.get("settings", {}).get("batches")]
    counts = {(line["images"], line["label_sum"]) for line in whole}
    if len(counts) > 1:
        found.append(f"WARNING: not all delivered the same samples: (images, sum of labels) were {sorted(counts)}")
    means = [line["mean_pixel"] for line in whole]
    if means and max(means) - min(means) > MEAN_TOLERANCE:
        found.append(f"WARNING: mean pixels differ by more than {MEAN_TOLERANCE}: {min(means)} to {max(means)}")
    foreign = [line["foreign_cpu_s"] for line in lines if line.get("foreign_cpu_s", 0) > 0.5]
    if foreign:
        found.append(
            f"WARNING: other processes worked during {len(foreign)} of {len(lines)} runs, for up to "
            f"{max(foreign):.1f} s of CPU time: do not quote these figures"
        )
    return found


def median(lines: Lines, field: str | Callable[[dict[str, Any]], float]) -> float:
    return statistics.median(line[field] if isinstance(field, str) else field(line) for line in lines)


def spread(lines: Lines, field: str, digits: int = 0) -> str:
    if "_by_" in field or field.startswith("linear"):  # ratios
        digits = 2
    values = sorted(line[field] for line in lines)
    text = f"{statistics.median(values):,.{digits}f}"
    return text if values[0] == values[-1] else f"{text} ({values[0]:,.{digits}f}–{values[-1]:,.{digits}f})"


def memory(lines: Lines) -> str:
    child = median(lines, "child_peak_rss_mb")
    return f"{median(lines, 'peak_rss_mb'):.0f}" + (f" + {child:.0f}/worker" if child else "")
