"""Results files: benchmarks/results/<device>/<set>.json, one JSON object per run with everything behind the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bam_fused.bench.run import Measured

SCHEMA = 1
FOLDER = Path("benchmarks", "results")

Results = dict[str, Any]


def assemble(machine: dict[str, Any], name: str, measured: Iterable[Measured]) -> Results:
    """A run as it is written to a file: schema, machine, set, then for each case its rows and who was absent and why."""
    cases = [{**one.case.key(), "rows": one.rows, "absent": one.absent} for one in measured]
    return {"schema": SCHEMA, "set": name, "machine": machine, "cases": cases}


def write(results: Results, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def read(path: Path) -> Results:
    """Read a results file.

    Raises:
        FileNotFoundError: there is none at `path`.
        ValueError: it is not a results file of this version.
    """
    results = json.loads(path.read_text())
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a results file of `bam-fused bench` (schema {SCHEMA})")
    return results


def identity(case: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two cases of two runs the same."""
    return (case["operation"], tuple(case["shape"]), case["dtype"], case["memory_format"], case["mode"])


def label(case: dict[str, Any]) -> str:
    operation, shape, *rest = identity(case)
    return " ".join((operation, f"({','.join(map(str, shape))})", *rest))


def row(case: dict[str, Any], competitor: str) -> dict[str, Any] | None:
    """A competitor's row of a case, None where it did not take part."""
    return next((row for row in case["rows"] if row["competitor"] == competitor), None)


def over_fused(case: dict[str, Any], competitor: str) -> dict[str, float] | None:
    """How many times as long as the fused one the competitor takes: median, low and high; None where not measured."""
    found = row(case, competitor)
    return found.get("over_fused") if found else None
