"""The CUDA backend: the compiled library of csrc/cuda."""

from __future__ import annotations

import torch


def why_not(device: torch.device) -> str | None:
    """Why the CUDA library cannot run on a device; None where it can."""
    return "not built yet"
