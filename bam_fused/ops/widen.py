"""The compute type of the plain forms."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64, else float32: what kernels and plain forms compute in before they round once."""
    return compute_type(x.dtype)


def compute_type(dtype: torch.dtype) -> torch.dtype:
    """The same of a dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32
