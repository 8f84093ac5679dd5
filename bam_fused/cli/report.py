"""bam-fused report: tables and plots from results files, and what moved since a baseline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bam_fused.bench import plots, results, table
from bam_fused.bench.compare import compare
from bam_fused.bench.extras import MissingExtra
from bam_fused.bench.results import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results", nargs="*", type=Path, help="results files (default: every benchmarks/results/<device>/readme.json)"
    )
    parser.add_argument(
        "--against", type=Path, help="an earlier results file: print the ratios that moved beyond noise since; exit 1 if "
        "one got worse"
    )  # fmt: skip
    parser.add_argument("--no-plots", action="store_true", help="write no PNG (they need matplotlib)")


def plot(found: Results, folder: Path) -> list[Path]:
    """Save the plots and say where; without matplotlib say how to get it, which is no reason to fail."""
    try:
        paths = plots.save_all(found, folder)
    except MissingExtra as failure:
        print(f"no plots: {failure}", file=sys.stderr)
        return []
    for path in paths:
        print(f"written: {path}")
    return paths


def moved(found: Results, baseline: Results) -> bool:
    """Print the ratios that moved beyond noise since the baseline; whether one got worse."""
    comparison = compare(found, baseline)
    for line in (*comparison.moves, *comparison.missing):
        print(line)
    since = f"the baseline of {baseline['machine']['when']}"
    print(f"{comparison.compared} ratios compared with {since}, {len(comparison.moves)} moved beyond noise")
    return comparison.worse


def run(options: argparse.Namespace) -> int:
    paths = options.results or sorted(results.FOLDER.glob("*/readme.json"))
    if not paths:
        raise FileNotFoundError(f"no results in {results.FOLDER}: run `bam-fused bench --set readme` first")
    status = 0
    for path in paths:
        found = results.read(path)
        print(table.terminal(found) + "\n")
        if not options.no_plots:
            plot(found, path.parent)
        if options.against:
            status |= moved(found, results.read(options.against))
    return status
