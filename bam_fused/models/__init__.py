"""The paper's networks in plain PyTorch, each with ``attention=None``, ``"bam"``, ``"bam-c"`` or ``"se"``.

Every function takes `num_classes` and passes further keyword arguments to `BAM`, so that the paper's ablations are
arguments: ``branches="channel"``, ``combine="max"``, ``reduction=4``, ``dilation=1``. Defaults are the paper's.
`load_official` reads the authors' checkpoints, and ``import bam_fused.models.timm`` registers BAM networks with timm.
"""

from bam_fused.models.densenet import cifar_densenet100
from bam_fused.models.mobilenet import mobilenet
from bam_fused.models.official import load_official
from bam_fused.models.preresnet import cifar_preresnet110, cifar_wideresnet28
from bam_fused.models.resnet import (
    cifar_resnet50,
    cifar_resnext29,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnext50,
    wideresnet18,
)
from bam_fused.models.squeezenet import squeezenet

__all__ = [
    "cifar_densenet100",
    "cifar_preresnet110",
    "cifar_resnet50",
    "cifar_resnext29",
    "cifar_wideresnet28",
    "load_official",
    "mobilenet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50",
    "squeezenet",
    "wideresnet18",
]
