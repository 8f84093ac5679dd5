"""Run cases: build, check, time interleaved, measure memory; one row per competitor and case."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from bam_fused.bench import check, competitors, memory, timing
from bam_fused.bench.cases import Case
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.problem import Competitor, Problem, caller, forward_call
from bam_fused.bench.results import CaseResult, Figures, Row
from bam_fused.bench.timing import Call, Effort, Quantiles

CEILINGS = ("copy", "clone")
"""Not competitors: a streaming copy into warm memory, and into a fresh output as every competitor has to write one."""
GRAPH = " (graph)"
"""What the name of a competitor ends with that is replayed from a CUDA graph; it is compared with the fused one's graph."""


COMPILED = "fused (compile)"
"""A whole network after `replace_bam`, compiled: the compiled original is compared with it, as both leave the rest alike."""


@dataclass(frozen=True)
class Plan:
    """What to measure beside the eager and fused competitors, and for how long."""

    effort: Effort
    compile_modes: tuple[str, ...] = ("default",)
    onnx: bool = True
    memory: bool = True
    only: tuple[str, ...] = ()
    """Names of the competitors to keep; empty for all of them."""


@dataclass
class Measured:
    """One case: a row per competitor, the samples behind them, and who is absent and why."""

    case: Case
    rows: list[Row] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def row(self, competitor: str) -> Row | None:
        return next((row for row in self.rows if row["competitor"] == competitor), None)

    def result(self) -> CaseResult:
        """As it stands in a results file."""
        case = self.case
        return {
            "operation": case.operation,
            "shape": list(case.shape),
            "dtype": case.dtype,
            "memory_format": case.memory_format,
            "mode": case.mode,
            "rows": self.rows,
            "absent": self.absent,
        }


def _reason(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}".splitlines()[0]


def _entrants(case: Case, problem: Problem, plan: Plan) -> dict[str, Callable[[], Competitor]]:
    entrants: dict[str, Callable[[], Competitor]] = {
        name: (lambda competitor=competitor: competitor)  # type: ignore[misc]
        for name, competitor in problem.competitors.items()
    }
    if problem.to_compile is not None:
        base = problem.competitors[problem.to_compile]
        for mode in plan.compile_modes:
            name = "compile" if mode == "default" else f"compile ({mode})"
            entrants[name] = lambda mode=mode: competitors.compiled(base, mode)  # type: ignore[misc]
        if DESCRIPTIONS[case.operation].network and plan.compile_modes:
            ours = problem.competitors["fused"]
            entrants[COMPILED] = lambda: competitors.compiled(ours, plan.compile_modes[0])
        elif plan.onnx:
            entrants["onnxruntime"] = lambda: competitors.onnx_runtime(case, base, problem.inputs)
    return {name: build for name, build in entrants.items() if not plan.only or name in plan.only}


def measure(case: Case, device: torch.device, plan: Plan) -> Measured:
    """Measure one case; a competitor that is absent or wrong is named in `absent` with the reason."""
    measured = Measured(case)
    torch.manual_seed(0)
    problem = DESCRIPTIONS[case.operation].problem(case, device)
    reference = check.expected(case, problem)
    calls: dict[str, Call] = {}
    figures: dict[str, Figures] = {}
    for name, build in _entrants(case, problem, plan).items():
        try:
            competitor = build()
            call = caller(case, competitor, problem.inputs)
            off = check.verify(call(), reference, case.torch_dtype, problem)
        except Exception as failure:  # whatever it is: the others go on, and the results say why this one is not there
            measured.absent[name] = _reason(failure)
            continue
        calls[name] = call
        figures[name] = {"error": off}
        if plan.memory:
            figures[name] |= _memory(case, name, competitor, problem, call, device)
        if device.type == "cuda":
            figures[name] |= {"launches": memory.launches(call), "host_s": timing.host_seconds(call, device)}
            try:
                replay = competitors.graphed(call)
                figures[name + GRAPH] = {"error": check.verify(replay(), reference, case.torch_dtype, problem)}
                calls[name + GRAPH] = replay
            except Exception as failure:
                measured.absent[name + GRAPH] = _reason(failure)
    del reference
    calls |= _ceilings(case, problem)
    measured.samples = timing.interleave(calls, device, plan.effort)
    _add_rows(measured, figures)
    return measured


def _memory(
    case: Case, name: str, competitor: Competitor, problem: Problem, call: Call, device: torch.device
) -> Figures:
    if name == "onnxruntime":
        return {}  # it does not allocate through PyTorch
    figures: Figures = {"peak_bytes": memory.peak_bytes(call, device)}
    if case.mode != "inference":
        forward = forward_call(competitor, problem.inputs)
        figures["saved_bytes"] = memory.saved_bytes(forward, competitor.parameters)
    return figures


def _ceilings(case: Case, problem: Problem) -> dict[str, Call]:
    """The copies, which say how fast this machine moves a tensor of x's size; a whole network has no such ceiling."""
    if DESCRIPTIONS[case.operation].network:
        return {}
    x = problem.inputs[0]
    warm = torch.empty_like(x)
    return {"copy": lambda: warm.copy_(x), "clone": lambda: x.clone()}


def _add_rows(measured: Measured, figures: dict[str, Figures]) -> None:
    samples, case = measured.samples, measured.case
    for name, times in samples.items():
        latency = Quantiles.of(times)
        row: Row = {"competitor": name, "seconds": latency.spread(), "rounds": len(times), **figures.get(name, {})}
        passes = 2.0 if name in CEILINGS else DESCRIPTIONS[case.operation].passes(case.mode)
        if passes:
            row["floor_passes"] = passes
            row["bytes_per_second"] = passes * case.x_bytes / latency.median
        ours = "fused" + GRAPH if name.endswith(GRAPH) else "fused"
        if name.startswith("compile") and COMPILED in samples:
            ours = COMPILED
        if name != ours and ours in samples:
            row["over_fused"] = timing.ratio(times, samples[ours]).spread()
        measured.rows.append(row)


def run(
    cases: Iterable[Case], device: torch.device, plan: Plan, progress: Callable[[str], object]
) -> Iterable[Measured]:
    """Measure cases one after the other; `progress` is told what comes next. A case that cannot be built says why."""
    for case in cases:
        progress(case.label())
        try:
            yield measure(case, device, plan)
        except Exception as failure:  # a missing package, memory: the other cases go on
            yield Measured(case, absent={"everybody": _reason(failure)})
