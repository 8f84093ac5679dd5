"""The ledger's lines: each operation forward and backward, as eager, torch.compile and this package move it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bam_fused.bench.cases import Case, Shape
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.problem import Competitor
from traffic.counter import DispatchCounter, Traffic
from traffic.inductor import counting

SHAPE: Shape = (2, 256, 28, 28)
OPERATIONS = tuple(name for name, description in DESCRIPTIONS.items() if not description.network)
_NAMES = dict.fromkeys(name for operation in OPERATIONS for name in DESCRIPTIONS[operation].competitors)
COLUMNS = (*(name for name in _NAMES if name != "fused"), "compile", "fused")


@dataclass(frozen=True)
class Entry:
    """One line and column: an operation in one direction, as one competitor runs it."""

    operation: str
    direction: str
    competitor: str
    passes: float
    """Bytes read and written over the bytes of x."""
    launches: int
    floor: float | None


def count(competitor: Competitor, inputs: tuple[Tensor, ...], compiled: bool) -> dict[str, Traffic]:
    """What a competitor moves forward and backward; `compiled` runs it under torch.compile."""
    traffic = {direction: Traffic() for direction in ("forward", "backward")}
    leaves = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    wanted = (*leaves, *competitor.parameters)
    if not compiled:
        with DispatchCounter(traffic["forward"]):
            output = competitor.function(*leaves)
        grad = torch.randn_like(output)
        with DispatchCounter(traffic["backward"]):
            torch.autograd.grad(output, wanted, grad)
        return traffic
    now = "forward"
    with counting(lambda: traffic[now]):
        output = torch.compile(competitor.function, dynamic=False, fullgraph=True)(*leaves)
        now = "backward"
        torch.autograd.grad(output, wanted, torch.randn_like(output))
    return traffic


def entries(operation: str, memory_format: str = "NCHW", compile_too: bool = True) -> Iterator[Entry]:
    """The lines of one operation in training, float32, on the CPU."""
    case = Case(operation, SHAPE, memory_format=memory_format, mode="forward+backward")
    problem = DESCRIPTIONS[operation].problem(case, torch.device("cpu"))
    assert problem.to_compile is not None
    runs = [(name, competitor, False) for name, competitor in problem.competitors.items()]
    if compile_too:
        runs.append(("compile", problem.competitors[problem.to_compile], True))
    for name, competitor, compiled in runs:
        for direction, traffic in count(competitor, problem.inputs, compiled).items():
            floor = DESCRIPTIONS[operation].floor.get(direction)
            yield Entry(operation, direction, name, traffic.bytes / case.x_bytes, traffic.launches, floor)


def table(found: list[Entry]) -> tuple[list[str], list[list[str]]]:
    """Passes over x (launches) of each competitor beside the floor: head and rows."""
    names = [name for name in COLUMNS if any(entry.competitor == name for entry in found)]
    lines: dict[tuple[str, str], dict[str, Entry]] = {}
    for entry in found:
        lines.setdefault((entry.operation, entry.direction), {})[entry.competitor] = entry
    rows = []
    for (operation, direction), by_name in lines.items():
        cells = [f"{by_name[name].passes:.2f} ({by_name[name].launches})" if name in by_name else "-" for name in names]
        floor = next(iter(by_name.values())).floor
        rows.append([f"{operation} {direction}", *cells, "-" if floor is None else f"{floor:g}"])
    return ["passes over x (launches)", *names, "floor"], rows
