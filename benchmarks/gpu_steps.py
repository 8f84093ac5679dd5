"""The steps of gpu_day.py: what the first call has to bring back comes first. Tests that need no device run elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
COPY_SIZES = tuple(megabytes * 1_000_000 for megabytes in (1, 4, 13, 26, 51, 103, 205, 411, 1000))  # bytes per tensor
INTERPRETED = "triton_interpret"  # the mark of tests that a device runs compiled, and Triton's interpreter elsewhere
BY_OPERATORS = 'usefixtures("triton_backend")'  # theirs; a test without it looks into the interpreter
TRITON_TESTS = tuple(
    str(path.relative_to(ROOT))
    for path in sorted((ROOT / "tests" / "backends" / "triton").glob("test_*.py"))
    if all(text in path.read_text() for text in (f"mark.{INTERPRETED}", BY_OPERATORS))
)

REDUCED = """
import torch, bam_fused
from bam_fused.bench.operations import DESCRIPTIONS
for dtype in (torch.float32, torch.bfloat16, torch.float64):
    for shape in ((2, 64, 56, 56), (2, 32, 14, 14), (3, 40, 7, 7), (1, 16, 5, 3), (2, 16, 19, 19)):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(shape, device="cuda", dtype=dtype).contiguous(memory_format=layout)
            for description in DESCRIPTIONS.values():
                for operator, samples in description.operators.items():
                    if "cuda" in bam_fused.ops.OPERATORS[operator].backends:
                        for arguments in samples(x):
                            getattr(torch.ops.bam_fused, operator)(*arguments)
torch.cuda.synchronize()
print("done")
"""

REDUCED_TRITON = """
import torch, bam_fused
from bam_fused.bench.operations import DESCRIPTIONS
for shape in ((2, 64, 19, 13), (3, 40, 7, 7)):
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(shape, device="cuda", dtype=torch.bfloat16).contiguous(memory_format=layout)
        for description in DESCRIPTIONS.values():
            for operator, samples in description.operators.items():
                if "triton" in bam_fused.ops.OPERATORS[operator].backends:
                    for arguments in samples(x):
                        getattr(torch.ops.bam_fused, operator).triton(*arguments)
torch.cuda.synchronize()
print("done")
"""

PROFILED = """
import torch, bam_fused
x = torch.randn(32, 256, 56, 56, device="cuda", dtype=torch.bfloat16)
channel, spatial = torch.randn_like(x[:, :, 0, 0]), torch.randn_like(x[:, :1])
gate, backward, pool = (getattr(torch.ops.bam_fused, n) for n in ("gate", "gate_backward", "global_avg_pool"))
gate(x, channel, spatial, "sum"), backward(x, x, channel, spatial, "sum")
pool(x), pool(x.contiguous(memory_format=torch.channels_last))
torch.cuda.synchronize()
"""
METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_issued.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__grid_size",
    "launch__occupancy_limit_registers",
)


@dataclass(frozen=True)
class Step:
    """One part of the day: a command that ends within its limit."""

    name: str
    command: tuple[str, ...]
    seconds: int
    """The limit, and what has to be left for it to start."""
    needs: str | None = None
    """A program without which the step is skipped."""
    environment: tuple[tuple[str, str], ...] = ()
    keeps: bool = False
    """Whether its whole output is kept, as JSON where its lines are JSON."""
    product: str | None = None
    """A pattern of files from the root that it makes: without one, a step that was done on another machine runs again."""
    cases: bool = False
    """Whether it measures case by case (gpu_cases.py): it is told how long it may go on, and goes on in the next call."""


def architecture() -> str:
    """This GPU's, as in TORCH_CUDA_ARCH_LIST."""
    return "{}.{}".format(*torch.cuda.get_device_capability()) if torch.cuda.is_available() else "9.0"


def steps(folder: Path) -> list[Step]:
    """The day in order, with a command for each step; what is measured goes into the folder."""
    python = sys.executable
    side_by_side = ("-n", "8") if find_spec("xdist") else ()  # compiling is most of a test's time
    pytest = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *side_by_side)
    copy, library = "build/streaming_copy", "bam_fused/backends/cuda/libbam_fused_cuda.so"
    number = architecture().replace(".", "")
    nvcc = ("nvcc", "-O3", f"-arch=sm_{number}", "benchmarks/streaming_copy.cu", "-o", copy)
    build = (python, "setup.py", "-q", "build_ext", "--inplace")
    one_architecture = (("BAM_FUSED_BUILD", "cuda"), ("TORCH_CUDA_ARCH_LIST", architecture()))
    sanitizer = ("compute-sanitizer", "--error-exitcode", "9", "--tool")
    # PyTorch's allocator keeps freed memory: memcheck would not see an access to it
    plain_memory = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
    ncu = (
        "ncu",
        "--clock-control",
        "none",
        "--kernel-name",
        "regex:gate|pool",
        "--csv",
        "--metrics",
        ",".join(METRICS),
    )

    def cases(what: str) -> Step:
        command = (python, "benchmarks/gpu_cases.py", what, "--output", str(folder / f"{what}.jsonl"))
        return Step(what, command, 60, cases=True)

    return [
        Step("build cuda", build, 400, "nvcc", one_architecture, product=library),
        Step("info", (python, "-m", "bam_fused", "info", "--json"), 60, keeps=True),
        Step("tests on the device", (*pytest, "tests/cuda", "-m", "gpu"), 200),
        Step("build streaming copy", nvcc, 60, "nvcc", product=copy),
        Step("streaming copy", (copy, *map(str, COPY_SIZES)), 60, keeps=True),
        cases("kernels"),
        Step("tests of Triton on the device", (*pytest, "tests/backends/triton", "-m", "gpu"), 300),
        Step("memcheck", (*sanitizer, "memcheck", python, "-c", REDUCED), 300, "compute-sanitizer", plain_memory),
        Step(
            "memcheck of Triton",
            (*sanitizer, "memcheck", python, "-c", REDUCED_TRITON),
            300,
            "compute-sanitizer",
            plain_memory,
        ),
        Step("racecheck", (*sanitizer, "racecheck", python, "-c", REDUCED), 500, "compute-sanitizer"),
        Step("ncu", (*ncu, python, "-c", PROFILED), 200, "ncu", keeps=True),
        cases("competitors"),
        *(Step(f"{path} on the device", (*pytest, path, "-m", INTERPRETED), 540) for path in TRITON_TESTS),
    ]
