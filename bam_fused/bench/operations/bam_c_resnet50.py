"""bam_c_resnet50: the paper's ResNet50 with a BAM in every block (its table 2), in the authors' arithmetic and fused.

BAM is a large share of it: it has 16 of them, three in a bam_resnet50.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import bam_fused
from bam_fused.bench.networks import describe
from bam_fused.bench.operations.bam import AuthorsBAM


def _with(model: nn.Module, kind: type[nn.Module], put: Callable[[Any], nn.Module]) -> nn.Module:
    """The model, with something put in the place of each module of a kind."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, put(child))
    return model


def _authors() -> nn.Module:
    torch.manual_seed(0)
    model = bam_fused.models.resnet50(attention="bam-c", official=True)
    return _with(model, bam_fused.BAM, lambda bam: AuthorsBAM(bam, mean=True))


def _fused(model: nn.Module) -> nn.Module:
    """A copy with the layers of each, a `BAM`, in its place."""
    return _with(copy.deepcopy(model), AuthorsBAM, lambda authors: authors.layers)


DESCRIPTION = describe("bam_c_resnet50", _authors, _fused)
