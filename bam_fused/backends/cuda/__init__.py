"""The CUDA backend: the compiled library of csrc/cuda, whose operators PyTorch's dispatcher finds by itself.

It is loaded only where PyTorch was built with CUDA, as it needs PyTorch's own CUDA library.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from bam_fused.backends.build_record import Library, load_library

library: Library | None = None
_reason: str | None = f"this PyTorch ({torch.__version__}) was built without CUDA"
if torch.version.cuda is not None:
    library, _reason = load_library("cuda")


def why_not(device: torch.device) -> str | None:
    """Why the CUDA library cannot run on a device; None where it can."""
    if device.type != "cuda":
        return f"it serves CUDA tensors, not {device.type}"
    if _reason is not None:
        return _reason
    if not torch.cuda.is_available():
        return "no CUDA device"
    return None


def build_info() -> dict[str, str]:
    """What the library was built with and for; empty where it is missing."""
    return library.build_info() if library is not None else {}


def kernels(device: int = 0) -> list[dict[str, Any]]:
    """Each kernel's registers, shared and local (spilled) bytes per thread, and resident blocks, on a CUDA device.

    Raises:
        RuntimeError: the library is missing, or there is no such device.
    """
    if library is None:
        raise RuntimeError(f"the CUDA library cannot say: {_reason}")
    return [json.loads(kernel) for kernel in library.operators.kernels(device)]
