"""bam-fused bench: the benchmark table on this machine, competitors side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from bam_fused.bench import machine, results, table
from bam_fused.bench.cases import Case
from bam_fused.bench.competitors import COMPILE_MODES
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.run import Plan
from bam_fused.bench.run import run as measure_all
from bam_fused.bench.sets import SETS, cases_of
from bam_fused.bench.timing import Effort
from bam_fused.cli import report
from bam_fused.cli.progress import Progress

SECONDS = {"tiny": 0.05, "quick": 1.5, "readme": 1.5, "gpu": 1.5, "full": 4.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        choices=SETS,
        default="quick",
        help="quick: under two minutes on two cores (the default); readme, gpu: what the README's tables show, under ten "
        "minutes; full: every shape, dtype, format and mode, hours; tiny: seconds, to see that all works",
    )
    parser.add_argument("--full", dest="set", action="store_const", const="full", help="the same as --set full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda[:i]")
    parser.add_argument("--threads", type=int, help="threads on the CPU (default: as PyTorch has it)")
    parser.add_argument("--seconds", type=float, help="time for the rounds of one case")
    parser.add_argument(
        "--operation", action="append", choices=tuple(DESCRIPTIONS), help="only this one (may be repeated)"
    )
    parser.add_argument("--only", action="append", help="only this competitor (may be repeated), beside fused")
    parser.add_argument(
        "--compile-mode", action="append", choices=COMPILE_MODES, help="of torch.compile (may be repeated)"
    )
    parser.add_argument(
        "--output", type=Path, help="folder for the JSON, tables and plots (benchmarks/results/<device>)"
    )
    parser.add_argument(
        "--against", type=Path, help="an earlier results file of this device: print the ratios that moved since; exit 1 if "
        "one got worse"
    )  # fmt: skip
    parser.add_argument("--no-plots", action="store_true", help="write no PNG (they need matplotlib)")


def plan_of(options: argparse.Namespace) -> Plan:
    """How to measure, from the options and the set."""
    modes = tuple(options.compile_mode or (COMPILE_MODES if options.set == "full" else COMPILE_MODES[:1]))
    return Plan(
        effort=Effort(seconds=options.seconds or SECONDS[options.set], least=2 if options.set == "tiny" else 7),
        compile_modes=modes,
        only=("fused", *options.only) if options.only else (),
    )


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    return [case for case in cases_of(options.set) if not options.operation or case.operation in options.operation]


def run(options: argparse.Namespace) -> int:
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    baseline = results.read(options.against) if options.against else None  # before this run may overwrite it
    described = machine.describe(device)
    if described["load_per_core_before"] > 0.3:
        print("Other work is running on this machine: the figures will be worse than it can do.", file=sys.stderr)
    cases = chosen_cases(options)
    progress = Progress(len(cases))
    measured = measure_all(cases, device, plan_of(options), progress)
    found = results.assemble(described, options.set, (one.result() for one in measured))
    progress.close()
    print(table.terminal(found))
    folder = options.output or results.FOLDER / described["slug"]
    path = results.write(found, folder / f"{options.set}.json")
    print(f"\nwritten: {path}")
    if not options.no_plots:
        report.plot(found, folder)
    worse = report.moved(found, baseline) if baseline else False
    return int(worse or not all(results.row(case, "fused") for case in found["cases"]))
