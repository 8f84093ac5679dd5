"""Layers under autocast, by the paths that read their tensors and do not call them.

Autocast runs convolutions and Linear layers in its dtype, whatever their tensors are. A path may do so by itself where x,
which autocast leaves as it is, has that dtype already: it then reads float32 tensors as what autocast would make of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def why_not(x: Tensor) -> str | None:
    """Why autocast is in the way; None where it is off on x's device, or x has its dtype."""
    kind = "cpu" if x.is_cpu else x.device.type
    if torch.is_autocast_enabled(kind) and x.dtype is not torch.get_autocast_dtype(kind):
        return f"autocast is on, and x is {x.dtype}, not {torch.get_autocast_dtype(kind)}"
    return None


def runs_in_dtype_of(x: Tensor, tensor: Tensor) -> bool:
    """Whether a layer with this tensor computes in x's dtype, where `why_not` has nothing against x."""
    return tensor.dtype is x.dtype or (tensor.dtype is torch.float32 and torch.is_autocast_enabled(x.device.type))
