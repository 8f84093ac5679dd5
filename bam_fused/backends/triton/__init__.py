"""The Triton backend: kernels that are compiled on first use, nothing at install time."""

from __future__ import annotations

import torch


def why_not(device: torch.device) -> str | None:
    """Why Triton cannot run on a device; None where it can."""
    return "not built yet"
