"""bam_c_resnet50: the paper's ResNet50 with a BAM in every block (its table 2), in the authors' arithmetic and fused.

BAM is a large share of it: it has 16 of them, three in a bam_resnet50.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

import bam_fused
from bam_fused.bench.networks import describe
from bam_fused.bench.operations.bam import AuthorsBAM


def _authors() -> nn.Module:
    torch.manual_seed(0)
    model = bam_fused.models.resnet50(attention="bam-c", official=True)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, bam_fused.BAM):
                setattr(parent, name, AuthorsBAM(child, mean=True))
    return model


def _fused(model: nn.Module) -> nn.Module:
    """A copy with the `BAM` that each of the authors' was made from, in their place."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, AuthorsBAM):
                setattr(parent, name, child.layers)
    return model


DESCRIPTION = describe("bam_c_resnet50", _authors, _fused)
