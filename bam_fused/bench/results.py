"""Results files: benchmarks/results/<device>/<set>.json, one JSON object per run with everything behind the tables.

The types below are the schema. Reading a file imports nothing that measures or competes.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

SCHEMA = 1
FOLDER = Path("benchmarks", "results")

MemoryKey = Literal["peak_bytes", "saved_bytes"]
MEMORY: tuple[MemoryKey, ...] = ("peak_bytes", "saved_bytes")


class Spread(TypedDict):
    """Median with the 20 and 80 % quantiles."""

    median: float
    low: float
    high: float


class Figures(TypedDict, total=False):
    """What is known of a competitor beside its time; bytes of memory and kernels are not counted everywhere."""

    error: float
    """Against float64, as check.py takes it."""
    peak_bytes: int
    saved_bytes: int
    launches: int
    host_s: float
    """Seconds of the host per call, on a GPU."""
    floor_passes: float
    bytes_per_second: float
    """The bytes that must move, over the median."""
    over_fused: Spread
    """How many times as long as the fused one it takes."""


class Row(Figures):
    """A competitor in one case."""

    competitor: str
    seconds: Spread
    rounds: int


class CaseResult(TypedDict):
    """One case: a row per competitor, and who is absent and why."""

    operation: str
    shape: list[int]
    dtype: str
    memory_format: str
    mode: str
    rows: list[Row]
    absent: dict[str, str]


class Machine(TypedDict):
    """What a run was taken on."""

    device: str
    slug: str
    """The device's name as a folder name."""
    type: str
    threads: int
    bam_fused: str
    torch: str
    triton: str | None
    onnxruntime: str | None
    python: str
    system: str
    load_per_core_before: float
    when: str


class Results(TypedDict):
    """A run. A file may hold more than is said here, which whoever wrote it knows about."""

    schema: int
    set: str
    machine: Machine
    cases: list[CaseResult]


def assemble(machine: Machine, name: str, cases: Iterable[CaseResult]) -> Results:
    """A run as it is written to a file."""
    return {"schema": SCHEMA, "set": name, "machine": machine, "cases": list(cases)}


def write(results: Results, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def read(path: Path) -> Results:
    """Read a results file.

    Raises:
        FileNotFoundError: there is none at `path`.
        ValueError: it is not a results file of this version; the message names the first thing that is wrong.
    """
    results = json.loads(path.read_text())
    if not isinstance(results, dict) or results.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a results file of `bam-fused bench` (schema {SCHEMA})")
    if wrong := _wrong(results, Results, "results"):
        raise ValueError(f"{path} is not a results file of `bam-fused bench` (schema {SCHEMA}): {wrong}")
    return cast(Results, results)


def _wrong(value: Any, kind: Any, name: str) -> str | None:
    """What keeps a value out of a type of the schema, None if nothing does."""
    inner = typing.get_args(kind)
    if typing.is_typeddict(kind):
        if not isinstance(value, dict):
            return f"{name} must be an object, got {value!r}"
        if missing := sorted(kind.__required_keys__ - value.keys()):
            return f"{name} has no {missing[0]}"
        pairs = [(value[key], one, f"{name}.{key}") for key, one in typing.get_type_hints(kind).items() if key in value]
    elif typing.get_origin(kind) is list and isinstance(value, list):
        pairs = [(item, inner[0], f"{name}[{index}]") for index, item in enumerate(value)]
    elif typing.get_origin(kind) is dict and isinstance(value, dict):
        pairs = [(item, inner[1], f"{name}.{key}") for key, item in value.items()]
    elif typing.get_origin(kind) is types.UnionType:
        return min((_wrong(value, one, name) for one in inner), key=lambda wrong: wrong is not None)
    else:
        plain = (int, float) if kind is float else typing.get_origin(kind) or kind
        fits = isinstance(value, plain) and not isinstance(value, bool)
        return None if fits else f"{name} must be {getattr(kind, '__name__', kind)}, got {value!r}"
    return next(filter(None, (_wrong(*pair) for pair in pairs)), None)


def identity(case: CaseResult) -> tuple[Any, ...]:
    """What makes two cases of two runs the same."""
    return (case["operation"], tuple(case["shape"]), case["dtype"], case["memory_format"], case["mode"])


def label(case: CaseResult) -> str:
    operation, shape, *rest = identity(case)
    return " ".join((operation, f"({','.join(map(str, shape))})", *rest))


def row(case: CaseResult, competitor: str) -> Row | None:
    """A competitor's row of a case, None where it did not take part."""
    return next((row for row in case["rows"] if row["competitor"] == competitor), None)


def figures(case: CaseResult, competitor: str) -> Figures:
    """What is known of a competitor in a case; nothing where it did not take part."""
    return row(case, competitor) or {}


def over_fused(case: CaseResult, competitor: str) -> Spread | None:
    """How many times as long as the fused one the competitor takes; None where not measured."""
    found = row(case, competitor)
    return found.get("over_fused") if found else None
