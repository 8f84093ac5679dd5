"""The section of the README that the benchmarks write: a table between two HTML comments, never edited by hand."""

from __future__ import annotations

import os
from pathlib import Path

from bam_fused.bench import table
from bam_fused.bench.results import CaseResult, Results, over_fused, row

BEGIN = "<!-- bam-fused report: begin -->"
END = "<!-- bam-fused report: end -->"


def _line(case: CaseResult) -> list[str] | None:
    fused, clone = row(case, "fused"), row(case, "clone")
    if fused is None:
        return None
    ratios = [over_fused(case, name) for name in ("eager", "compile", "onnxruntime")]
    seconds = fused["seconds"]
    spread = f"{table.seconds(seconds['median'])} ({table.seconds(seconds['low'])}-{table.seconds(seconds['high'])})"
    rate = f"{fused['bytes_per_second'] / 1e9:.1f}" if "bytes_per_second" in fused and case["shape"][1] > 8 else "-"
    share = f"{fused['bytes_per_second'] / clone['bytes_per_second']:.0%}" if rate != "-" and clone else "-"
    shape = "x".join(map(str, case["shape"]))
    what = f"{shape} {case['dtype']} {case['memory_format']}"
    return [what, spread, *(table.times(one["median"] if one else None) for one in ratios), rate, share]


def section(results: Results) -> str:
    """The Markdown of one run: per operation and mode a table, with the machine and the command above."""
    machine = results["machine"]
    parts = [
        f"Measured on {machine['device']} ({machine['threads']} threads, torch {machine['torch']}, "
        f"{machine['when'][:10]}) with `bam-fused bench --set {results['set']}`. Latency is the median with the 20 and "
        "80 % quantiles; the columns after it say how many times as long the others take in the same interleaved run "
        "(above 1x: bam_fused is faster). GB/s counts the bytes that must move, beside what `x.clone()` reaches.",
    ]
    head = ["shape", "bam_fused", "eager", "torch.compile", "ONNX Runtime", "GB/s", "of clone"]
    for (operation, mode), cases in table.groups(results).items():
        lines = [line for case in cases if (line := _line(case))]
        if lines:
            parts.append(f"**{operation}, {mode}**\n\n" + table.markdown_table(head, lines))
    return "\n\n".join(parts)


def has_section(page: Path) -> bool:
    """Whether the file is there and has the section's first comment."""
    return page.is_file() and BEGIN in page.read_text()


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
