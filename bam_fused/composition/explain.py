"""Which paths a module takes in inference and in training, for those who ask: reports, and `bam-fused info`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from bam_fused.composition.path import Path, path_of
from bam_fused.composition.plan import plan_of


class Paths(NamedTuple):
    """The paths of one module on a small feature map of its own dtype, on its own device."""

    inference: Path
    """In eval mode, without gradients."""
    training: Path
    """In training mode, with a gradient wanted of x and of the parameters as they stand."""


def paths_of(module: nn.Module) -> Paths:
    """The paths of a `BAM`, or of a module that `replace_bam` has given the fused forward; nothing is run.

    Raises:
        ValueError: module is neither.
    """
    plan = plan_of(module)
    if plan is None:
        raise ValueError(f"module must be a BAM or a replaced one, got {type(module).__name__}")
    like = next((tensor for tensor in module.parameters() if tensor.is_floating_point()), torch.empty(()))
    modes = [(inner, inner.training) for inner in module.modules()]
    found = []
    try:
        for training in (False, True):
            for inner, _ in modes:
                inner.training = training
            with torch.set_grad_enabled(training):
                x = torch.empty(
                    (2, plan.channels, 14, 14), device=like.device, dtype=like.dtype, requires_grad=training
                )
                found.append(path_of(module, plan, x)._replace(run=None))  # a report holds no module
    finally:
        for inner, mode in modes:
            inner.training = mode
    return Paths(*found)
