"""The one script for the day a GPU is there: build, prove, measure; in parts, into one folder.

    python benchmarks/gpu_day.py                   all steps that are not done yet, for at most nine minutes
    python benchmarks/gpu_day.py --minutes 60      for an hour
    python benchmarks/gpu_day.py --step bench      that step, done or not
    python benchmarks/gpu_day.py --list            the steps and how they stand
    python benchmarks/gpu_day.py --dry-run         what would run; works without a GPU

Run it again until every step is done: each finished step is kept in benchmarks/results/<device>/gpu_day.json, with its
command, exit status, seconds and the end of its output, beside the device, driver, versions and commit. A step that failed
is kept as failed, the others go on, and the script's exit status says so. `bam-fused report` makes tables and plots of
the benchmarks in the same folder.

Needed: a CUDA build of PyTorch, nvcc, and the test extra; compute-sanitizer where its two steps shall run. The card's
settings are left as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bam_fused.bench.operations import DESCRIPTIONS  # noqa: E402 - found from anywhere

COPY_SIZES = tuple(megabytes * 1_000_000 for megabytes in (1, 4, 13, 26, 51, 103, 205, 411, 1000))  # bytes per tensor
OPERATIONS = tuple(DESCRIPTIONS)
TESTS = tuple(sorted(path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py"))))

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

COPY = """
import json, sys, torch
cache = 2 * torch.cuda.get_device_properties(0).L2_cache_size
flush = torch.empty(cache, dtype=torch.uint8, device="cuda")
for size in map(int, sys.argv[1:]):
    x = torch.randn(size // 2, device="cuda", dtype=torch.bfloat16)
    y = torch.empty_like(x)
    times = []
    for i in range(110):
        flush.fill_(i % 2)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(); y.copy_(x); stop.record(); stop.synchronize()
        times.append(start.elapsed_time(stop) * 1000)
    times = sorted(times[10:])
    print(json.dumps({"bytes": size, "median_us": times[50], "q20_us": times[20], "q80_us": times[80]}))
"""


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
    results: bool = False
    """Whether its output is lines of JSON, to be kept whole."""


def architecture() -> str:
    """This GPU's, as in TORCH_CUDA_ARCH_LIST."""
    return "{}.{}".format(*torch.cuda.get_device_capability()) if torch.cuda.is_available() else "9.0"


def steps(folder: Path) -> list[Step]:
    """The day in order: what proves comes before what measures."""
    python = sys.executable
    pytest = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    sizes = tuple(map(str, COPY_SIZES))
    copy = ROOT / "build" / "streaming_copy"
    number = architecture().replace(".", "")
    nvcc = ("nvcc", "-O3", f"-arch=sm_{number}", str(ROOT / "benchmarks/streaming_copy.cu"), "-o", str(copy))
    bench = (python, "-m", "bam_fused", "bench", "--set", "readme", "--device", "cuda")
    build = (python, "setup.py", "-q", "build_ext", "--inplace")
    kernels = "import json; from bam_fused.backends import cuda; [print(json.dumps(k)) for k in cuda.kernels()]"
    sanitizer = ("compute-sanitizer", "--error-exitcode", "9")
    # PyTorch's allocator keeps freed memory: memcheck would not see an access to it
    plain_memory = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
    return [
        Step("build cpu", build, 200, environment=(("BAM_FUSED_BUILD", "cpu"),)),
        Step("build cuda", build, 300, "nvcc", (("BAM_FUSED_BUILD", "cuda"), ("TORCH_CUDA_ARCH_LIST", architecture()))),
        Step("info", (python, "-m", "bam_fused", "info", "--json"), 60, results=True),
        Step("kernels", (python, "-c", kernels), 60, results=True),
        Step("tests on the device", (*pytest, "tests/cuda", "-m", "gpu"), 300),
        Step(
            "memcheck",
            (*sanitizer, "--tool", "memcheck", python, "-c", REDUCED),
            300,
            "compute-sanitizer",
            plain_memory,
        ),
        Step("racecheck", (*sanitizer, "--tool", "racecheck", python, "-c", REDUCED), 500, "compute-sanitizer"),
        *(Step(f"tests {name}", (*pytest, f"tests/{name}"), 540) for name in TESTS),
        Step("tests of building", (*pytest, "tests/test_build.py"), 300),
        Step("build streaming copy", nvcc, 60, "nvcc"),
        Step("streaming copy", (str(copy), *sizes), 120, results=True),
        Step("copy_", (python, "-c", COPY, *sizes), 120, results=True),
        *(
            Step(
                f"bench {operation}",
                (*bench, "--operation", operation, "--output", str(folder / operation), "--no-plots"),
                540,
            )
            for operation in OPERATIONS
        ),
        Step("report", (python, "benchmarks/gpu_day.py", "--merge", "--output", str(folder)), 120),
    ]


def machine() -> dict[str, Any]:
    """What has to stand beside every figure."""
    from bam_fused.bench import machine as of

    def said(*command: str) -> str | None:
        if shutil.which(command[0]) is None:
            return None
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or None

    cuda = torch.cuda.is_available()
    return {
        "device": of.device_name(torch.device("cuda" if cuda else "cpu")),
        "driver": said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "commit": said("git", "rev-parse", "HEAD"),
        "changed files": said("git", "status", "--short"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda of torch": torch.version.cuda,
        "triton": of.package_version("triton"),
        "toolkit": (said("nvcc", "--version") or "").splitlines()[-1:],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def run_step(step: Step) -> dict[str, Any]:
    """Run a step; what becomes of it, as it is kept."""
    (ROOT / "build").mkdir(exist_ok=True)
    started = time.monotonic()
    environment = os.environ | dict(step.environment) | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    try:
        done = subprocess.run(
            step.command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=step.seconds
        )
        status, output, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        status, output, errors = (
            124,
            *(
                str(text or b"", "utf-8", "replace") if isinstance(text, bytes) else text or ""
                for text in (late.stdout, late.stderr)
            ),
        )
    except OSError as missing:
        status, output, errors = 127, "", str(missing)
    entry: dict[str, Any] = {
        "status": "done" if status == 0 else "failed",
        "exit": status,
        "seconds": round(time.monotonic() - started, 1),
        "command": list(step.command),
        "output": (output + errors)[-4000:],
    }
    if step.results and status == 0:
        entry["results"] = parse(output)
    return entry


def merge(folder: Path) -> None:
    """One readme.json of the operations' results, as `bam-fused report` reads it, and its tables and plots."""
    from bam_fused.bench import results

    parts = [results.read(folder / operation / "readme.json") for operation in OPERATIONS]
    cases = [case for part in parts for case in part["cases"]]
    results.write({**parts[0], "cases": cases}, folder / "readme.json")
    command = (sys.executable, "-m", "bam_fused", "report", str(folder / "readme.json"))
    subprocess.run(command, cwd=ROOT, check=True)


def parse(output: str) -> list[Any]:
    """JSON from a step's output: one document, or one per line."""
    try:
        return [json.loads(output)]
    except ValueError:
        return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def write(path: Path, record: dict[str, Any]) -> None:
    """All at once, so that an interrupted run leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.rename(path)


def skipped(step: Step) -> str | None:
    if step.needs is not None and shutil.which(step.needs) is None:
        return f"{step.needs} is not on PATH"
    return None


def go(path: Path, plan: list[Step], minutes: float) -> int:
    """Run the steps of a plan that are not done and still fit; 0 where none has failed."""
    end = time.monotonic() + 60 * minutes
    record = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "steps": {}}
    for step in plan:
        reason = skipped(step)
        if record["steps"].get(step.name, {}).get("status") == "done":
            continue
        if reason is None and time.monotonic() + min(step.seconds, 60 * minutes) > end + 1:
            print(f"{step.name}: not started, {step.seconds} s may not be left; run again")
            continue
        record["steps"][step.name] = {"status": "skipped", "why": reason} if reason else run_step(step)
        write(path, record)
        entry = record["steps"][step.name]
        print(f"{step.name}: {entry['status']} {entry.get('why', '')}", flush=True)
        if entry["status"] == "failed":
            print(entry["output"][-1500:], flush=True)
    return int(any(entry["status"] == "failed" for entry in record["steps"].values()))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="start nothing that may not end within this time")
    parser.add_argument("--step", action="append", help="only the steps whose names begin so, done or not")
    parser.add_argument("--list", action="store_true", help="the steps and how they stand")
    parser.add_argument("--dry-run", action="store_true", help="print the commands; nothing runs")
    parser.add_argument("--merge", action="store_true", help="only put the operations' results together")
    parser.add_argument("--output", type=Path, help="folder (benchmarks/results/<device>)")
    options = parser.parse_args(arguments)
    from bam_fused.bench.machine import slug

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = (options.output or ROOT / "benchmarks" / "results" / slug(device)).resolve()
    path = folder / "gpu_day.json"
    plan = steps(folder)
    if options.merge:
        merge(folder)
        return 0
    if options.step:
        plan = [step for step in plan if step.name.startswith(tuple(options.step))]
        if not plan:
            parser.error(f"no step begins with {options.step}; see --list")
    if options.list or options.dry_run:
        known = json.loads(path.read_text())["steps"] if path.exists() else {}
        for step in plan:
            state = known.get(step.name, {}).get("status", "to do")
            print(f"{step.name}: {state}, at most {step.seconds} s" + (f"; {why}" if (why := skipped(step)) else ""))
            if options.dry_run:
                print("   ", " ".join(part if len(part) < 120 else "'...'" for part in step.command))
        return 0
    if device.type != "cuda":
        parser.error("no CUDA device (--dry-run shows what would run)")
    if options.step and path.exists():
        record = json.loads(path.read_text())
        for step in plan:
            record["steps"].pop(step.name, None)
        write(path, record)
    return go(path, plan, options.minutes)


if __name__ == "__main__":
    sys.exit(main())
