"""What the README shows of the benchmarks, between two HTML comments, and a page of every row beside the results.

    python benchmarks/readme.py                  of every benchmarks/results/<device>/readme.json, with their plots
    python benchmarks/readme.py FILE ...         of these

`bam-fused bench --set readme` measures first.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from bam_fused.bench import table
from bam_fused.bench.results import FOLDER, CaseResult, Results, figures, over_fused, read, row
from bam_fused.cli.report import plot

ROOT = Path(__file__).resolve().parents[1]

BEGIN = "<!-- benchmarks/readme.py: begin -->"
END = "<!-- benchmarks/readme.py: end -->"


def _line(case: CaseResult) -> list[str] | None:
    fused = row(case, "fused")
    if fused is None:
        return None
    ratios = [over_fused(case, name) for name in ("eager", "compile", "onnxruntime")]
    seconds = fused["seconds"]
    spread = f"{table.seconds(seconds['median'])} ({table.seconds(seconds['low'])}-{table.seconds(seconds['high'])})"
    shape = "x".join(map(str, case["shape"]))
    what = f"{case['operation']} {shape} {case['dtype']} {case['memory_format']}"
    return [what, spread, *(table.times(one["median"] if one else None) for one in ratios)]


def _traffic(case: CaseResult) -> list[str]:
    """The rate at which the bytes that must move do, where the map is no tiny one."""
    fused, clone = figures(case, "fused"), row(case, "clone")
    if "bytes_per_second" not in fused or case["shape"][1] <= 8:
        return ["-", "-"]
    rate = fused["bytes_per_second"]
    return [f"{rate / 1e9:.1f}", f"{rate / clone['bytes_per_second']:.0%}" if clone else "-"]


def _measured(results: Results) -> str:
    machine = results["machine"]
    return (
        f"Measured on {machine['device']} ({machine['threads']} threads, torch {machine['torch']}, "
        f"{machine['when'][:10]}) with `bam-fused bench --set {results['set']}`. Latency is the median with the 20 and "
        "80 % quantiles; the columns after it say how many times as long the others take in the same interleaved run "
        "(above 1x: bam_fused is faster); of a network torch.compile's column compares the two compiled."
    )


HEAD = ["", "bam_fused", "eager", "torch.compile", "ONNX Runtime"]


def section(results: Results, page: str) -> str:
    """The rows of one run that decide: the module's, its networks', and of each of its parts the first; `page` has all."""
    parts = [f"{_measured(results)} All rows: [{page}]({page})."]
    for mode in dict.fromkeys(mode for _, mode in table.groups(results)):
        lines = []
        for (operation, its_mode), cases in table.groups(results).items():
            if its_mode == mode:
                decide = cases if operation.startswith("bam") else cases[:1]
                lines += [line for case in decide if (line := _line(case))]
        parts.append(f"**{mode}**\n\n" + table.markdown_table(HEAD, lines))
    return "\n\n".join(parts)


def full(results: Results) -> str:
    """Every row of one run, with the machine and the command above: a page."""
    parts = [
        f"# {results['machine']['device']}\n\n{_measured(results)} GB/s counts the bytes that must move, beside what "
        "`x.clone()` reaches. Written by `benchmarks/readme.py`.",
    ]
    for (operation, mode), cases in table.groups(results).items():
        lines = [[*line, *_traffic(case)] for case in cases if (line := _line(case))]
        if lines:
            parts.append(f"## {operation}, {mode}\n\n" + table.markdown_table([*HEAD, "GB/s", "of clone"], lines))
    return "\n\n".join(parts) + "\n"


def refresh(readme: Path, sections: list[str], plots: list[Path]) -> None:
    """Write the sections between the two comments, the plots' addresses relative to the README; the rest stays as it is.

    Raises:
        ValueError: the README has not exactly one such pair of comments.
    """
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme} must hold the line {BEGIN} once and, after it, the line {END} once")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    pictures = [f"![{path.stem}]({Path(os.path.relpath(path, readme.parent)).as_posix()})" for path in plots]
    readme.write_text(before + BEGIN + "\n\n" + "\n\n".join([*sections, *pictures]) + "\n\n" + END + after)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, help="results files")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="the page that has the two comments")
    parser.add_argument("--no-plots", action="store_true", help="draw nothing and link no plot (they need matplotlib)")
    options = parser.parse_args(arguments)
    paths = options.results or sorted((ROOT / FOLDER).glob("*/readme.json"))
    sections, plots = [], []
    for path in paths:
        found, page = read(path), path.with_suffix(".md")
        page.write_text(full(found))
        sections.append(section(found, Path(os.path.relpath(page, options.readme.parent)).as_posix()))
        if not options.no_plots:
            plots += plot(found, path.parent)
    refresh(options.readme, sections, plots)
    print(f"written: {options.readme}")


if __name__ == "__main__":
    main()
