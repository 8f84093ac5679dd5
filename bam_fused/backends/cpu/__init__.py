"""The CPU backend: the compiled library of csrc/cpu, whose operators PyTorch's dispatcher finds by itself."""

from __future__ import annotations

import torch

from bam_fused.backends.build_record import load_library

library, _reason = load_library("cpu")


def why_not(device: torch.device) -> str | None:
    """Why the CPU library cannot run on a device; None where it can."""
    if device.type != "cpu":
        return f"it serves CPU tensors, not {device.type}"
    return _reason


def build_info() -> dict[str, str]:
    """What the library was built with and which instruction set it uses; empty where it is missing."""
    if library is None:
        return {}
    return {**library.build_info(), "instruction_set": library.instruction_set()}
