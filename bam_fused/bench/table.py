"""Tables of results, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bam_fused.bench.results import MEMORY, CaseResult, Results, figures, over_fused, row
from bam_fused.text_table import Row, text_table


def markdown_table(head: Row, rows: Sequence[Row]) -> str:
    """A table in GitHub's Markdown; the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def seconds(value: float) -> str:
    """A latency with three figures and its unit."""
    scaled, unit = (value * 1e6, "us") if value < 1e-3 else (value * 1e3, "ms") if value < 10 else (value, "s")
    return f"{scaled:.3g} {unit}" if scaled < 1000 else f"{scaled:.0f} {unit}"


def size(count: float) -> str:
    """Bytes with three figures and their unit (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def times(value: float | None) -> str:
    """A ratio, "-" where there is none."""
    return "-" if value is None else f"{value:.2f}x"


def competitors_of(cases: Iterable[CaseResult]) -> list[str]:
    """Every competitor of some cases, in the order in which they first come."""
    return list(dict.fromkeys(row["competitor"] for case in cases for row in case["rows"]))


def _shape(case: CaseResult) -> str:
    return f"({','.join(map(str, case['shape']))}) {case['dtype']} {case['memory_format']}"


def latency_table(cases: Sequence[CaseResult]) -> tuple[list[str], list[list[str]]]:
    """One line per case: the median latency of each competitor and how many times as long as the fused one it takes."""
    names = competitors_of(cases)
    rows = []
    for case in cases:
        fused = figures(case, "fused")
        rate = f"{fused['bytes_per_second'] / 1e9:.1f} GB/s" if "bytes_per_second" in fused else "-"
        rows.append([_shape(case), *(_latency(case, name) for name in names), rate])
    return ["shape", *names, "fused, useful"], rows


def _latency(case: CaseResult, name: str) -> str:
    found, over = row(case, name), over_fused(case, name)
    if found is None:
        return "-"
    return seconds(found["seconds"]["median"]) + (f" {times(over['median'])}" if over else "")


def memory_table(cases: Sequence[CaseResult]) -> tuple[list[str], list[list[str]]]:
    """One line per case: peak and saved bytes of each competitor that has them."""
    names = [name for name in competitors_of(cases) if any("peak_bytes" in figures(case, name) for case in cases)]
    rows = []
    for case in cases:
        cells = [_shape(case)]
        for name in names:
            found = figures(case, name)
            cells += [size(found[key]) if key in found else "-" for key in MEMORY]
        rows.append(cells)
    return ["shape", *(f"{name} {what}" for name in names for what in ("peak", "saved"))], rows


def groups(results: Results) -> dict[tuple[str, str], list[CaseResult]]:
    """The cases that have figures, by operation and mode, in the order of the run."""
    found: dict[tuple[str, str], list[CaseResult]] = {}
    for case in results["cases"]:
        if case["rows"]:
            found.setdefault((case["operation"], case["mode"]), []).append(case)
    return found


def absences(results: Results) -> list[str]:
    """Who took no part and why: one line per competitor and reason, with the number of cases."""
    counts: dict[str, int] = {}
    for case in results["cases"]:
        for name, reason in case["absent"].items():
            line = f"{case['operation']}: {name}: {reason}"
            counts[line] = counts.get(line, 0) + 1
    return [f"{line} ({count} case{'s' * (count > 1)})" for line, count in counts.items()]


def terminal(results: Results) -> str:
    """Everything that a run prints at its end."""
    machine = results["machine"]
    parts = [
        f"{machine['device']}; torch {machine['torch']}, bam_fused {machine['bam_fused']}, {machine['threads']} threads"
    ]
    for (operation, mode), cases in groups(results).items():
        head = (
            f"\n{operation}, {mode}: median latency, and how many times as long as fused (above 1: fused is faster)\n"
        )
        parts.append(head + text_table(*latency_table(cases), numbers=True))
        if any("peak_bytes" in figures(case, "fused") for case in cases):
            parts.append(
                f"\n{operation}, {mode}: peak and saved memory\n" + text_table(*memory_table(cases), numbers=True)
            )
    missing = absences(results)
    if missing:
        parts.append("\nabsent:\n  " + "\n  ".join(missing))
    return "\n".join(parts)
