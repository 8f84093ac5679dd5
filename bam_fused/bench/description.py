"""What there is to know of an operation beside how it runs: how its operators are called, its floor, who competes, where.

Each file of operations/ describes one operation, or one module that is made of several; tests, ledger, benchmarks, ahead-of-
time compilation and tuning iterate over these descriptions (`bam_fused.bench.operations.DESCRIPTIONS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bam_fused.bench.cases import Case
from bam_fused.bench.problem import Problem

Samples = Callable[[Tensor], Iterator[tuple[Any, ...]]]
"""Arguments of an operator, drawn for a feature map x (any device, meta too; any dtype, size and memory format): one tuple
for every variant of its options, weights and optional tensors included. Where there is a gradient it comes in x's format."""


@dataclass(frozen=True)
class Description:
    """One operation, or a module or network of several."""

    problem: Callable[[Case, torch.device], Problem]
    """Makes a case concrete: tensors, competitors, reference."""
    competitors: tuple[str, ...]
    """The names of the problem's competitors, known without building it."""
    operators: Mapping[str, Samples] = field(default_factory=dict)
    """Its operators `torch.ops.bam_fused.<name>`, forward first, and how each is called; most modules have none."""
    floor: Mapping[str, float] = field(default_factory=dict)
    """By direction ("forward", "backward") the bytes that must move, in passes over x; empty where none was worked out."""
    cases: Mapping[str, tuple[Case, ...]] = field(default_factory=dict)
    """What is measured in the sets "quick", "readme" and "gpu", beside what every operation is in "tiny" and "full"."""
    network: bool = False
    """Whether x is a batch of images: no ledger, no copy of x as a ceiling, and not at a feature map's shapes."""

    def passes(self, mode: str) -> float | None:
        """The floor of a mode: of the forward, or of forward and backward together."""
        if not self.floor:
            return None
        return self.floor["forward"] + (self.floor["backward"] if mode == "forward+backward" else 0)
