"""Parameters and multiply-adds of the paper's networks beside the paper's numbers, as a markdown table.

    python benchmarks/paper_table.py > benchmarks/paper_table.md

Networks are built and run on the meta device, which takes seconds and no memory. A difference is written down with its
reason; no network is bent to remove one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bam_fused import models
from bam_fused.bench.table import markdown_table

Network = Callable[..., nn.Module]

FORMULA = "formula, note 1"
ROUNDED_TWICE = "the paper's digit is this number rounded twice"
TABLE_1 = "the paper's table 2 prints {table2}, as here"
MOBILENET_192 = "note 2"
SQUEEZENET = "note 3"

NOTES = """\
1. Equations 3 and 4 give the numbers here. 2.5 C parameters more for each module of C channels (r = 16; 8 C / r + 2 C in
   general: hidden BatchNorms and one more BatchNorm of C channels) would print as the paper does in every row with this
   note, but not for ResNeXt29 8x64d + BAM-C and MobileNet + BAM, where the equations do. The paper describes no such layers.
2. 192 x 192 images give the numbers here. The paper's belong to no image size: 193 to 200 pixels, the next larger maps, give
   0.484 to 0.488 without BAM.
3. SqueezeNet v1.1 is as its authors and torchvision have it. Padding to maps of 56, 28 and 14, taking the mean before the
   classifier and counting the biases gives the paper's 0.290 and 0.304.
"""


@dataclass(frozen=True)
class Row:
    """One row of the paper: a network of `bam_fused.models`, what the paper prints (None: nothing) and why that differs."""

    name: str
    network: Network
    size: int
    options: dict[str, Any]
    params: str | None
    gmacs: str | None
    note: str = ""


def row(
    name: str, network: Network, params: str | None = None, gmacs: str | None = None, note: str = "", **options: Any
) -> Row:
    """A row at the network's usual image size; `size` among the options overrides it."""
    size = options.pop("size", 32 if network.__name__.startswith("cifar") else 224)
    return Row(name, network, size, options, params, gmacs, note)


HEAD = ("network", "params here", "exactly", "params paper", "GMACs here", "GMACs paper", "agrees")
ROWS: dict[str, tuple[Row, ...]] = {
    "ImageNet (paper, table 3b)": (
        row("ResNet18", models.resnet18, "11.69", "1.81"),
        row("ResNet18 + BAM", models.resnet18, "11.71", "1.82", attention="bam"),
        row("ResNet50", models.resnet50, "25.56", "3.86"),
        row("ResNet50 + BAM", models.resnet50, "25.92", "3.94", attention="bam"),
        row("ResNet101", models.resnet101, "44.55", "7.57"),
        row("ResNet101 + BAM", models.resnet101, "44.91", "7.65", attention="bam"),
        row("WideResNet18 w=1.5", models.wideresnet18, "25.88", "3.87", widen=1.5),
        row("WideResNet18 w=1.5 + BAM", models.wideresnet18, "25.93", "3.88", widen=1.5, attention="bam"),
        row("WideResNet18 w=2.0", models.wideresnet18, "45.62", "6.70", widen=2.0),
        row("WideResNet18 w=2.0 + BAM", models.wideresnet18, "45.71", "6.72", widen=2.0, attention="bam"),
        row("ResNeXt50 32x4d", models.resnext50, "25.03", "3.77"),
        row("ResNeXt50 32x4d + BAM", models.resnext50, "25.39", "3.85", attention="bam"),
        row("MobileNet", models.mobilenet, "4.23", "0.569"),
        row("MobileNet + BAM", models.mobilenet, "4.32", "0.589", attention="bam"),
        row("MobileNet a=0.7", models.mobilenet, "2.30", "0.283", alpha=0.7),
        row("MobileNet a=0.7 + BAM", models.mobilenet, "2.34", "0.292", alpha=0.7, attention="bam"),
        row("MobileNet 192/224", models.mobilenet, "4.23", "0.439", MOBILENET_192, size=192),
        row("MobileNet 192/224 + BAM", models.mobilenet, "4.32", "0.456", MOBILENET_192, size=192, attention="bam"),
        row("SqueezeNet v1.1", models.squeezenet, "1.24", "0.290", SQUEEZENET),
        row("SqueezeNet v1.1 + BAM", models.squeezenet, "1.26", "0.304", SQUEEZENET, attention="bam"),
    ),
    "CIFAR-100, at the bottlenecks and in every block (paper, table 2; 16x64d: table 5)": (
        row("ResNet50", models.cifar_resnet50, "23.71", "1.22"),
        row("ResNet50 + BAM-C", models.cifar_resnet50, "28.98", "1.37", FORMULA, attention="bam-c"),
        row("ResNet50 + BAM", models.cifar_resnet50, "24.07", "1.25", attention="bam"),
        row("PreResNet110", models.cifar_preresnet110, "1.73", "0.245"),
        row("PreResNet110 + BAM-C", models.cifar_preresnet110, "2.17", "0.275", FORMULA, attention="bam-c"),
        row("PreResNet110 + BAM", models.cifar_preresnet110, "1.73", "0.246", attention="bam"),
        row("WideResNet28 w=8", models.cifar_wideresnet28, "23.40", "3.36"),
        row("WideResNet28 w=8 + BAM-C", models.cifar_wideresnet28, "23.78", "3.39", FORMULA, attention="bam-c"),
        row("WideResNet28 w=8 + BAM", models.cifar_wideresnet28, "23.42", "3.37", ROUNDED_TWICE, attention="bam"),
        row("ResNeXt29 8x64d", models.cifar_resnext29, "34.52", "4.99", ROUNDED_TWICE),
        row("ResNeXt29 8x64d + BAM-C", models.cifar_resnext29, "35.60", "5.07", attention="bam-c"),
        row("ResNeXt29 8x64d + BAM", models.cifar_resnext29, "34.61", "5.00", attention="bam"),
        row("ResNeXt29 16x64d", models.cifar_resnext29, "68.25", "9.88", cardinality=16),
        row("ResNeXt29 16x64d + BAM", models.cifar_resnext29, "68.34", "9.9", FORMULA, cardinality=16, attention="bam"),
        row("DenseNet-BC 100 k=12", models.cifar_densenet100),
        row("DenseNet-BC 100 k=12 + BAM", models.cifar_densenet100, attention="bam"),
    ),
    "CIFAR-100, Squeeze-and-Excitation in every block (paper, table 5)": (
        row("ResNet50 + SE", models.cifar_resnet50, "26.24", "1.23", attention="se"),
        row("PreResNet110 + SE", models.cifar_preresnet110, "1.93", "0.245", attention="se"),
        row("WideResNet28 w=8 + SE", models.cifar_wideresnet28, "23.58", "3.36", attention="se"),
        row(
            "ResNeXt29 16x64d + SE", models.cifar_resnext29, "68.81", "9.88",
            "68.77 with the biases that the other three SE rows need, 68.76 without; the paper's 0.04 M more unexplained",
            cardinality=16, attention="se",
        ),
    ),
    "CIFAR-100, ablations (paper, table 1)": (
        *(
            row(f"ResNet50 + BAM d={dilation}", models.cifar_resnet50, "24.07", None, attention="bam", dilation=dilation)
            for dilation in (1, 2, 4, 6)
        ),
        row("ResNet50 + BAM r=4", models.cifar_resnet50, "26.30", None, FORMULA, attention="bam", reduction=4),
        row("ResNet50 + BAM r=8", models.cifar_resnet50, "24.62", None, FORMULA, attention="bam", reduction=8),
        row("ResNet50 + BAM r=16", models.cifar_resnet50, "24.07", None, attention="bam", reduction=16),
        row("ResNet50 + BAM r=32", models.cifar_resnet50, "23.87", None, FORMULA, attention="bam", reduction=32),
        row("ResNet50 + channel branch", models.cifar_resnet50, attention="bam", branches="channel"),
        row("ResNet50 + spatial branch", models.cifar_resnet50, attention="bam", branches="spatial"),
        row("ResNet50 + BAM, maximum", models.cifar_resnet50, attention="bam", combine="max"),
        row("ResNet50 + BAM, product", models.cifar_resnet50, attention="bam", combine="product"),
        row("ResNet50", models.cifar_resnet50, "23.68", None, TABLE_1.format(table2="23.71")),
        row("WideResNet28 w=8 + BAM", models.cifar_wideresnet28, "23.56", None, TABLE_1.format(table2="23.42"),
            attention="bam"),
        row("ResNeXt29 8x64d", models.cifar_resnext29, "34.4", None,
            "the paper's table 2 prints 34.52, as here; 34.4 is the network with 10 classes"),
        row("ResNeXt29 8x64d + BAM", models.cifar_resnext29, "34.61", None, attention="bam"),
    ),
    "The authors' code: product, BatchNorm in the hidden layers, none at the end (its own count, ImageNet)": (
        row("ResNet18 + BAM", models.resnet18, "11.712503", None, attention="bam", official=True),
        row("ResNet34 + BAM", models.resnet34, "21.820663", None, attention="bam", official=True),
        row("ResNet50 + BAM", models.resnet50, "25.915099", None, attention="bam", official=True, stride_on="3x3"),
        row("ResNet101 + BAM", models.resnet101, "44.907227", None, attention="bam", official=True, stride_on="3x3"),
    ),
}  # fmt: skip


def count(network: nn.Module, size: int) -> tuple[int, int]:
    """The parameters of a network on the meta device, and its multiply-adds on one RGB image of size x size.

    Multiply-adds are those of convolutions and linear layers, as the paper counts; biases, normalisation, activations and
    the gate add none.
    """
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, size, size, device="meta"))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


@functools.cache
def measure(table: str, index: int) -> tuple[int, int]:
    """Parameters and multiply-adds of the row's network."""
    entry = ROWS[table][index]
    with torch.device("meta"):
        network = entry.network(**entry.options)
    return count(network, entry.size)


def as_printed(value: int, unit: int, paper: str | None, digits: int) -> str:
    """`value` in units of `unit` with as many decimals as the paper prints, or `digits` where it prints none."""
    if paper is not None:
        digits = len(paper.partition(".")[2])
    return str((Decimal(value) / unit).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def agreement(table: str, index: int) -> tuple[str, str, bool]:
    """Parameters in millions and multiply-adds in billions, as strings, and whether they are the paper's."""
    entry = ROWS[table][index]
    params, macs = measure(table, index)
    printed = as_printed(params, 10**6, entry.params, 2), as_printed(macs, 10**9, entry.gmacs, 3)
    same = entry.params in (None, printed[0]) and entry.gmacs in (None, printed[1])
    return *printed, same


def markdown() -> str:
    """The whole table; columns "here" are computed, columns "paper" are the paper's."""
    lines = [
        "# The paper's networks, counted",
        "",
        "Written by `python benchmarks/paper_table.py`. Parameters in millions and multiply-adds in billions (what the",
        "paper calls GFLOPs) of `bam_fused.models`, with as many decimals as the paper prints, - where it prints nothing.",
    ]
    for table, entries in ROWS.items():
        lines += ["", f"## {table}", ""]
        rows = []
        for index, entry in enumerate(entries):
            params, gmacs, same = agreement(table, index)
            says_something = entry.params or entry.gmacs
            verdict = ("yes" if same else "no: " + entry.note) if says_something else "-"
            exact = f"{measure(table, index)[0]:,}"
            rows.append([entry.name, params, exact, entry.params or "-", gmacs, entry.gmacs or "-", verdict])
        lines.append(markdown_table(HEAD, rows))
    return "\n".join(lines) + "\n\n" + NOTES


if __name__ == "__main__":
    print(markdown(), end="")
