"""The CPU backend: the compiled library of csrc/cpu."""

from __future__ import annotations

import torch


def why_not(device: torch.device) -> str | None:
    """Why the CPU library cannot run on a device; None where it can."""
    return "not built yet"
