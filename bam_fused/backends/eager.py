"""The eager backend: the operations in plain PyTorch, for every device, every transform of PyTorch and double backward.

Its kernels are the plain forms that stand with each operation in bam_fused/functional; bam_fused.ops.define enters them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

KERNELS: dict[str, Callable[..., Any]] = {}
"""By operator. Each checks its arguments, as nothing after it does."""


def why_not(device: torch.device) -> str | None:
    """None: plain PyTorch runs wherever the tensors are."""
    return None


def kernel(operator: str) -> Callable[..., Any]:
    """The plain form of an operator."""
    return KERNELS[operator]
