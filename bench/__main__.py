"""The benchmarks' command: `python -m bench [photos|train_data|…|all]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import data, machine
from bench.drawing import draw
from bench.report import report
from bench.runner import run_suite
from bench.suites import SUITES

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    args = arguments().parse_args()
    names = list(SUITES) if args.benchmark == "all" else [args.benchmark]
    if args.out and len(names) > 1:
        raise SystemExit(f"--out names one file and there are {len(names)} benchmarks: leave it out, or run them apart")
    for name in names:
        pictures = SUITES[name].pictures
        root = data.ensure(replace(pictures, count=args.count or pictures.count), args.data)
        if SUITES[name].tars:
            data.pack(root)
        result = run(name, root, args)
        out = args.out or RESULTS / f"{name}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        picture = out.with_suffix(".png")
        drawn = f", drawn in {picture}" if draw(result, picture) else ""
        print(report(result), f"\nwritten to {out}{drawn}\n")


def run(name: str, root: Path, args: argparse.Namespace) -> dict[str, Any]:
    suite = SUITES[name]
    settings = {
        "batch_size": args.batch_size or suite.batch_size,
        "image_size": args.image_size or suite.image_size,
        "epochs": args.epochs or suite.epochs,
        "dtype": suite.dtype,
    }
    common = [text for key, value in settings.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    outcome = run_suite(suite, root, tuple(common), args.rounds or suite.rounds)
    return {
        "benchmark": name,
        "about": suite.about,
        "machine": machine.describe(),
        "data": describe_data(root),
        "settings": settings,
        **outcome,
    }


def describe_data(root: Path) -> dict[str, Any]:
    record = data.read_record(root)
    spec = record["spec"]
    return {**spec, "mean_kb": round(record["bytes"] / spec["count"] / 1000, 1), "basis": record["basis"]}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmark", nargs="?", choices=[*SUITES, "all"], default="photos")
    parser.add_argument("--data", type=Path, help="folder of the pictures; default: a cache in the temporary folder")
    parser.add_argument("--count", type=int, help="pictures, made where they are missing")
    parser.add_argument("--rounds", type=int, help="how often each contender is timed; default: 5, breaks 1")
    parser.add_argument("--batch-size", type=int, help="default: 32, large 8")
    parser.add_argument("--image-size", type=int, help="height and width delivered, in pixels; default: 224, tiny 28")
    parser.add_argument("--epochs", type=int, help="of each timed run; more make start-up matter less")
    parser.add_argument("--out", type=Path, help="where the result goes; default: bench/results/NAME.json")
    return parser


if __name__ == "__main__":
    main()
