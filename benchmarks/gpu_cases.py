"""One case after the other, each a JSON line as soon as it is measured: a run that is killed loses one case.

    python benchmarks/gpu_cases.py kernels --output kernels.jsonl --seconds 300

    kernels       every operator of the CUDA library and of Triton, by graph replay, and copy_, at the paper's shapes
    competitors   eager, torch.compile and the rest against the fused one: `bam-fused bench --set gpu`

Run again with the same output, it goes on after the last line. A case is announced before it starts; one that was started
twice and never ended (it hung, or took the process with it) is passed over and says so. Exit status 75: some are left.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from gpu_lines import Line, Task, go  # noqa: E402 - found from anywhere

from bam_fused.bench import competitors, run, sets, timing  # noqa: E402
from bam_fused.bench.cases import FORMATS, TINY  # noqa: E402
from bam_fused.bench.operations import DESCRIPTIONS  # noqa: E402
from bam_fused.ops import OPERATORS  # noqa: E402

SHAPES = tuple(
    (n, *stage)
    for n in (32, 8, 256, 1)
    for stage in ((256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7))
)  # fmt: skip
OF_REDUCTIONS = ("dilated_conv", "dilated_conv_weight_grad", "branches", "branches_backward")
"""Operators that are given the reduction of a feature map, with a sixteenth of its channels, in its place."""
QUICK = timing.Effort(seconds=1.0, least=20, most=200)


def kernels(device: torch.device, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> Iterator[Task]:
    """Every kernel alone, by its operator's overload; the largest gain of knowledge first."""
    for shape in shapes:
        for dtype in (torch.bfloat16, torch.float32):
            for layout in FORMATS:
                name = f"{'x'.join(map(str, shape))} {str(dtype)[6:]} {layout}"
                yield f"copy_ {name}", partial(_copy, shape, dtype, layout, device)
                for description in DESCRIPTIONS.values():
                    for operator in description.operators:
                        for backend in OPERATORS[operator].backends:
                            if (backend == "cpu") == (device.type == "cpu"):
                                yield (
                                    f"{operator} {backend} {name}",
                                    partial(_kernel, operator, backend, shape, dtype, layout, device),
                                )


def _feature_map(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> torch.Tensor:
    return torch.randn(shape, device=device, dtype=dtype).contiguous(memory_format=FORMATS[layout])


def _kernel(
    operator: str, backend: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device
) -> Line:
    description = next(one for one in DESCRIPTIONS.values() if operator in one.operators)
    if operator in OF_REDUCTIONS:
        n, c, h, w = shape
        shape = (n, max(1, c // 16), h, w)
    x = _feature_map(shape, dtype, layout, device)
    arguments = next(description.operators[operator](x))
    overload = "triton" if backend == "triton" else "compiled"
    kernel = getattr(getattr(torch.ops.bam_fused, operator), overload)
    direction = "forward" if operator == next(iter(description.operators)) else "backward"
    passes = description.floor.get(direction)
    return _timed(lambda: kernel(*arguments), x, passes)


def _copy(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> Line:
    x = _feature_map(shape, dtype, layout, device)
    out = torch.empty_like(x)
    return _timed(lambda: (out.copy_(x),), x, 2)


def _timed(call: Callable[[], Any], x: torch.Tensor, passes: float | None) -> Line:
    """Seconds of a replay of the call's graph (of the call, on a CPU), and what that moves."""
    replay = competitors.graphed(call) if x.device.type == "cuda" else call
    seconds = timing.Quantiles.of(timing.interleave({"call": replay}, x.device, QUICK)["call"])
    line: Line = {"seconds": asdict(seconds)}
    if passes:
        line["floor_passes"] = passes
        line["bytes_per_second"] = passes * x.numel() * x.itemsize / seconds.median
    return line


def contest(device: torch.device, name: str) -> Iterator[Task]:
    """The cases of a set."""
    plan = run.Plan(effort=timing.Effort(seconds=1.5, least=7), onnx=False)
    for case in sets.cases_of(name):
        yield case.label(), partial(_case, case, device, plan)


def _case(case: Any, device: torch.device, plan: run.Plan) -> Line:
    (measured,) = run.run([case], device, plan, lambda label: None)
    return {**measured.result()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kernels", "competitors"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=540, help="start nothing that may not end within this time")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="one small shape, to see that all works")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.what == "kernels":
        tasks = kernels(device, (TINY,) if options.tiny else SHAPES)
    else:
        tasks = contest(device, "tiny" if options.tiny else "gpu")
    return go(tasks, options.output, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
