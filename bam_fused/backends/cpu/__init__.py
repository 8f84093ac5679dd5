"""The CPU backend: the compiled library of csrc/cpu, whose operators PyTorch's dispatcher finds by itself."""

from __future__ import annotations

from typing import Any

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
    return {**library.build_info(), "instruction_set": instruction_set()}


def instruction_set() -> str:
    """The instruction set that the kernels use.

    Raises:
        RuntimeError: the library is missing.
    """
    return str(_operators().instruction_set())


def instruction_sets() -> list[str]:
    """Those that this processor can run, widest first: of "avx512_bf16", "avx512", "avx2", "baseline".

    Raises:
        RuntimeError: the library is missing.
    """
    return list(_operators().instruction_sets())


def use_instruction_set(name: str) -> None:
    """Use another one from now on, in the whole process: for tests and for comparing.

    Raises:
        ValueError: this processor cannot run it.
        RuntimeError: the library is missing.
    """
    if not _operators().use_instruction_set(name):
        raise ValueError(f"instruction_set must be one of {tuple(instruction_sets())} on this processor, got {name!r}")


def _operators() -> Any:
    if library is None:
        raise RuntimeError(f"the CPU library cannot say: {_reason}")
    return library.operators
