"""bam_fused: BAM, the Bottleneck Attention Module, at the speed at which the feature map can be moved."""

import importlib
from types import ModuleType

from bam_fused import functional, reference
from bam_fused.backends import BackendUnavailable, use_backend
from bam_fused.functional import *  # noqa: F403 - the operations, as that module lists them
from bam_fused.modules import BAM
from bam_fused.surgery import insert_bam, replace_bam, restore_bam
from bam_fused.version import __version__

__all__ = [
    "BAM",
    "BackendUnavailable",
    "__version__",
    "insert_bam",
    "reference",
    "replace_bam",
    "restore_bam",
    "use_backend",
    *functional.__all__,
]

_ON_FIRST_USE = ("models", "visualize")


def __getattr__(name: str) -> ModuleType:
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"bam_fused.{name}")
    raise AttributeError(f"module 'bam_fused' has no attribute {name!r}")
