"""bam-fused demo: a real model on a real photograph: replace, check, time, plot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from bam_fused import backends
from bam_fused.bench import demo, machine, plots
from bam_fused.bench.demo import Difference, Subject, Timed
from bam_fused.bench.extras import need
from bam_fused.bench.table import seconds, size, times
from bam_fused.cli.progress import Progress
from bam_fused.text_table import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda[:i]")
    parser.add_argument("--output", type=Path, default=Path("bam-fused-demo.png"), help="where the plot goes")
    parser.add_argument("--batch", type=int, default=4, help="crops in the batch (default 4)")
    parser.add_argument("--seconds", type=float, default=45, help="time for all timings together (default 45)")


def _check(options: argparse.Namespace) -> None:
    if options.batch < 2:
        raise ValueError(f"--batch must be at least 2, as BatchNorm cannot train on one, got {options.batch}")
    for module in ("matplotlib", "pytorchcv", "skimage"):  # before minutes of work, not after
        need(module, "demo")


def _backend(device: torch.device) -> str:
    """What runs the gate on a device, or why nothing but eager PyTorch does."""
    current = backends.current_backend()
    names = backends.auto_order("gate", device) if current == "auto" else (current,)
    reasons = {name: reason for name in names if (reason := backends.why_not(name, "gate", device)) is not None}
    able = next((name for name in names if name not in reasons), "eager")
    return f"eager PyTorch, which is no faster {reasons or ''}" if able == "eager" else f"the {able} backend"


def _difference_table(found: list[Difference]) -> str:
    rows = [
        [one.what, *(f"{value:.1e}" for value in (one.largest, one.relative, one.original_off, one.replaced_off))]
        for one in found
    ]
    head = [
        "original against replaced",
        "largest difference",
        "relative",
        "original off float64",
        "replaced off float64",
    ]
    return text_table(head, rows, numbers=True)


def _time_table(head: str, found: list[Timed]) -> str:
    rows = []
    for one in found:
        speed_up = f"{times(one.speed_up.median)} ({one.speed_up.low:.2f}-{one.speed_up.high:.2f})"
        peaks = [size(peak) for peak in one.peaks] if one.peaks else []
        rows.append([one.what, seconds(one.original.median), seconds(one.replaced.median), speed_up, *peaks])
    columns = [head, "original", "replaced", "speed-up (20-80 %)"]
    return text_table([*columns, "peak, original", "peak, replaced"][: len(rows[0])], rows, numbers=True)


def _what_bam_is(networks: list[Timed], bams: list[Timed]) -> str:
    """The honest sentence: how much of the network there is to be made faster."""
    share = demo.bam_share(networks[1], bams)
    before, after = (sum(getattr(bam, which).median for bam in bams) for which in ("original", "replaced"))
    return (
        f"The BAMs are {share:.0%} of the original network's time ({networks[1].what}); they are now "
        f"{before / after:.2f}x as fast.\nThe rest is convolutions that this package leaves alone: with BAMs that cost "
        f"nothing the network would be {1 / (1 - min(share, 0.99)):.2f}x as fast."
    )


def _plot(subject: Subject, networks: list[Timed], bams: list[Timed], outputs: float, path: Path) -> Path:
    def bars(axis: Any, timed: list[Timed], title: str) -> None:
        series: dict[str, list[float | None]] = {
            "original": [1.0 for _ in timed],
            "replaced": [1 / one.speed_up.median for one in timed],
        }
        labels = [one.what.replace(", ", "\n", 1) for one in timed]
        plots.horizontal_bars(axis, labels, series, lambda value: f"{value:.2f}")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("time, the original's = 1 (shorter is better)")

    def draw(axes: Any) -> None:
        picture, whole, alone, peak = axes[0]
        picture.imshow(subject.picture.clamp(0, 1).numpy())
        picture.set_axis_off()
        picture.set_title(f"both give the same output,\nto {outputs:.0e} of its largest value", fontsize=10)
        bars(whole, networks, "whole network")
        bars(alone, bams, "each BAM alone, inference")
        series: dict[str, list[float | None]] = {
            which: [one.peaks[i] / 1e6 if one.peaks else None for one in networks]
            for i, which in enumerate(("original", "replaced"))
        }
        labels = [one.what.replace(", ", "\n", 1) for one in networks]
        plots.horizontal_bars(peak, labels, series, lambda value: f"{value:.0f}")
        peak.set_title("peak memory", fontsize=10)
        peak.set_xlabel("MB beyond what stood before (shorter is better)")

    title = f"bam_resnet50, original and after replace_bam: {machine.device_name(subject.device)}"
    return plots.save(plots.figure(17, 4.2, 1, 4, title, draw), path)


def run(options: argparse.Namespace) -> int:
    _check(options)
    device = torch.device(options.device)
    progress = Progress(5 + 3)
    progress("building bam_resnet50 and calibrating its BatchNorm on the photograph")
    subject = demo.prepare(options.batch, device)
    if not subject.report.replaced:
        print(subject.report)
        return 1
    progress("comparing outputs and gradients")
    differences = demo.differences(subject)
    networks = demo.whole_network(subject, 0.75 * options.seconds, progress)
    bams = demo.each_bam(subject, 0.25 * options.seconds, progress)
    progress.close()

    print("bam_resnet50 of pytorchcv, random weights, BatchNorm calibrated on the photograph (chelsea, CC0) at")
    print(f"224 x 224; float32, {torch.get_num_threads()} threads; the gate runs on {_backend(device)}\n")
    print(subject.report, end="\n\n")
    print(_difference_table(differences), end="\n\n")
    print(_time_table("whole network", networks), end="\n\n")
    print(_time_table(f"each BAM alone, inference, batch of {options.batch}", bams), end="\n\n")
    print(_what_bam_is(networks, bams))
    print(
        "Differences are relative to the largest value. Times are medians of interleaved rounds; a training step is\n"
        "forward, backward and SGD. Peak memory: the most that PyTorch's allocator held beyond what stood before."
    )
    outputs = max(difference.relative for difference in differences if difference.what.startswith("output"))
    print(f"\nwritten: {_plot(subject, networks, bams, outputs, options.output)}")
    return 0
