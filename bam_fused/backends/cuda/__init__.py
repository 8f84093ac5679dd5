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
    built, (major, minor) = build_info().get("architectures", ""), torch.cuda.get_device_capability(device)
    if not has_code_for(built, (major, minor)):
        return f"the library was built for {built}, and {torch.cuda.get_device_name(device)} is {major}.{minor}"
    return None


# What torch.compiler.assume_constant_result does, without importing the compiler: it calls `why_not` and keeps the answer.
why_not._dynamo_marked_constant = True  # type: ignore[attr-defined]


def has_code_for(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether a library built for these architectures, as in TORCH_CUDA_ARCH_LIST, runs on a device of this capability.

    Machine code runs on later minors of its major, PTX ("+PTX") is compiled by the driver for everything later; code for
    "9.0a" and the like runs on that one alone.
    """
    return any(_serves(architecture, capability) for architecture in architectures.split())


def _serves(architecture: str, capability: tuple[int, int]) -> bool:
    number = architecture.removesuffix("+PTX")
    major, minor = (int(part) for part in number.rstrip("af").split("."))
    if number.endswith("a"):
        return (major, minor) == capability
    compiled_later = number != architecture and (major, minor) <= capability
    return compiled_later or (major == capability[0] and minor <= capability[1])


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
