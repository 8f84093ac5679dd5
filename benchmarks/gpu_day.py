"""The one script for the day a GPU is there: build, prove, measure; in calls of ten minutes, into one folder.

    python benchmarks/gpu_day.py --output FOLDER                    all that is not done yet, for at most nine minutes
    python benchmarks/gpu_day.py --output NEW --resume FOLDER       go on from what an earlier call left in FOLDER
    python benchmarks/gpu_day.py --step competitors                 that step, done or not
    python benchmarks/gpu_day.py --list                             the steps and how they stand
    python benchmarks/gpu_day.py --dry-run                          what would run; works without a GPU
    python benchmarks/gpu_day.py --report FOLDER                    readme.json, tables and plots of it; works without a GPU

The machine may be gone between two calls: only the folder (benchmarks/results/<device> unless said otherwise) has to be
kept, a handful of files. What is built is built again where it is missing; every other step that is done stays done. A step
that failed is kept as failed, the others go on, and the exit status says so. Figures are lines of JSON, written as they are
measured (gpu_cases.py), so that a killed run loses one case.

Needed: a CUDA build of PyTorch, nvcc, pytest and hypothesis; compute-sanitizer and ncu where their steps shall run. Where a
package is missing that only some case needs, its step is smaller. The card's settings are left as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from gpu_lines import UNFINISHED, read  # noqa: E402 - found from anywhere
from gpu_steps import Step, steps  # noqa: E402

from bam_fused.bench.table import markdown_table  # noqa: E402


def machine() -> dict[str, Any]:
    """What has to stand beside every figure."""
    from bam_fused.bench import machine as of

    def said(*command: str) -> str | None:
        if shutil.which(command[0]) is None:
            return None
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or None

    return {
        **of.describe(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "driver": said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "commit": said("git", "rev-parse", "HEAD"),
        "changed files": said("git", "status", "--short"),
        "cuda of torch": torch.version.cuda,
        "toolkit": (said("nvcc", "--version") or "").splitlines()[-1:],
    }


def run_step(step: Step, seconds: float) -> dict[str, Any]:
    """Run a step for at most so long; what becomes of it, as it is kept."""
    (ROOT / "build").mkdir(exist_ok=True)
    started = time.monotonic()
    environment = os.environ | dict(step.environment) | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = (*step.command, "--seconds", f"{seconds:.0f}") if step.cases else step.command
    grace = 30 if step.cases else 0  # the case it is at may end
    output = ""
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds + grace)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its children too: they would keep the device, and the pipe
            output, _ = process.communicate()
            status = 124
    except OSError as missing:
        output, status = str(missing), 127
    state = "done" if status == 0 else "unfinished" if step.cases and status in (UNFINISHED, 124) else "failed"
    entry: dict[str, Any] = {
        "status": state,
        "exit": status,
        "seconds": round(time.monotonic() - started, 1),
        "command": list(command),
        "output": output if step.keeps else output[-4000:],
    }
    if step.keeps and status == 0 and (parsed := parse(output)):
        entry |= {"output": "", "results": parsed}
    return entry


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


def is_done(step: Step, record: dict[str, Any]) -> bool:
    """Whether a step needs not run: it was done, and what it makes is here."""
    there = step.product is None or any(ROOT.glob(step.product))
    return there and record["steps"].get(step.name, {}).get("status") == "done"


def go(path: Path, plan: list[Step], minutes: float, clock: Callable[[], float] = time.monotonic) -> int:
    """Run the steps of a plan that are not done and still fit; 0 where none has failed."""
    end = clock() + 60 * minutes
    record = json.loads(path.read_text()) if path.exists() else {"machines": [], "steps": {}}
    record["machines"].append(machine())
    for step in plan:
        if is_done(step, record):
            continue
        reason = skipped(step)
        left = end - clock()
        if reason is None and left < min(step.seconds, 60 * minutes - 1):
            print(f"{step.name}: not started, {step.seconds} s may not be left; run again")
            continue
        seconds = left - 30 if step.cases else min(step.seconds, left)
        entry = {"status": "skipped", "why": reason} if reason else run_step(step, seconds)
        record["steps"][step.name] = {**entry, "machine": len(record["machines"]) - 1}
        write(path, record)
        print(f"{step.name}: {entry['status']} {entry.get('why', '')}", flush=True)
        if entry["status"] == "failed":
            print(entry["output"][-1500:], flush=True)
    return int(any(entry["status"] == "failed" for entry in record["steps"].values()))


def report(folder: Path) -> None:
    """A page of the kernels, and a readme.json of the competitors, as `bam-fused report` reads it, with tables and plots."""
    from bam_fused.bench import results

    cases = [
        {k: v for k, v in line.items() if k != "name"} for line in read(folder / "competitors.jsonl") if "rows" in line
    ]
    described = json.loads((folder / "gpu_day.json").read_text())["machines"][-1]
    (folder / "kernels.md").write_text(kernels_page(read(folder / "kernels.jsonl")))
    results.write(results.assemble(described, "gpu", cast(list[results.CaseResult], cases)), folder / "readme.json")
    command = (sys.executable, "-m", "bam_fused", "report", str(folder / "readme.json"))
    subprocess.run(command, cwd=ROOT, check=True)


def kernels_page(lines: list[dict[str, Any]]) -> str:
    """The kernels step as Markdown: a line for each feature map, a column for each operator and backend."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines:
        if "seconds" in line:
            *what, shape, dtype, layout = line["name"].split()
            found.setdefault(f"{shape} {dtype} {layout}", {})[" ".join(what)] = line
    columns = list(dict.fromkeys(column for cells in found.values() for column in cells))

    def cell(cells: dict[str, dict[str, Any]], column: str) -> str:
        if column not in cells:
            return "-"
        rate, of_copy = (cells[one].get("bytes_per_second") for one in (column, "copy_"))
        share = f", {rate / of_copy:.0%}" if rate and of_copy and column != "copy_" else ""
        return f"{cells[column]['seconds']['median'] * 1e6:.1f} us{share}"

    rows = [[name, *(cell(cells, column) for column in columns)] for name, cells in found.items()]
    text = (
        "# Kernels, each alone\n\n"
        "By the step `kernels` of `benchmarks/gpu_day.py`: the median time of a graph's replay, a launch included, after\n"
        "the level-2 cache was flushed. The share is of the rate at which `copy_` moves the same map: useful bytes (gate\n"
        "2 passes over x, its backward 3, the pool 1) over time.\n\n"
    )
    return text + markdown_table(["", *columns], rows) + "\n"


def resume(earlier: Path, folder: Path) -> None:
    """Bring what an earlier call left into the folder, unless it is there."""
    for file in earlier.iterdir():
        if file.suffix in (".json", ".jsonl") and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)


def main(arguments: list[str] | None = None, clock: Callable[[], float] = time.monotonic) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="start nothing that may not end within this time")
    parser.add_argument("--step", action="append", help="only the steps whose names begin so, done or not")
    parser.add_argument("--list", action="store_true", help="the steps and how they stand")
    parser.add_argument("--dry-run", action="store_true", help="print the commands; nothing runs")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="only put this folder's results together")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="what an earlier call left")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="(benchmarks/results/<device>)")
    options = parser.parse_args(arguments)
    if options.report:
        report(options.report)
        return 0
    from bam_fused.bench.machine import slug

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = (options.output or ROOT / "benchmarks" / "results" / slug(device)).resolve()
    path = folder / "gpu_day.json"
    plan = steps(folder)
    if options.step:
        plan = [step for step in plan if step.name.startswith(tuple(options.step))]
        if not plan:
            parser.error(f"no step begins with {options.step}; see --list")
    if options.list or options.dry_run:
        show(plan, options.resume / "gpu_day.json" if options.resume else path, commands=options.dry_run)
        return 0
    if device.type != "cuda":
        parser.error("no CUDA device (--dry-run shows what would run)")
    folder.mkdir(parents=True, exist_ok=True)
    if options.resume:
        resume(options.resume, folder)
    if options.step and path.exists():
        record = json.loads(path.read_text())
        for step in plan:
            record["steps"].pop(step.name, None)
        write(path, record)
    return go(path, plan, options.minutes, clock)


def show(plan: list[Step], path: Path, *, commands: bool) -> None:
    """Print the steps and how they stand."""
    known = json.loads(path.read_text())["steps"] if path.exists() else {}
    for step in plan:
        state = known.get(step.name, {}).get("status", "to do")
        limit = "as long as there is time" if step.cases else f"at most {step.seconds} s"
        print(f"{step.name}: {state}, {limit}" + (f"; {why}" if (why := skipped(step)) else ""))
        if commands:
            print("   ", " ".join(part if len(part) < 120 else "'...'" for part in step.command))


if __name__ == "__main__":
    sys.exit(main())
