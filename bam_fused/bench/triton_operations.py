"""Triton's kernels by operation, with arguments to run them on, for tuning and for compiling ahead of time."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from torch import Tensor

from bam_fused.backends.triton.launch import describe
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.ops import OPERATORS

_MODULES = {
    name: importlib.import_module(f"bam_fused.backends.triton.{name}")
    for description in DESCRIPTIONS.values()
    for name in description.operators
    if "triton" in OPERATORS[name].backends
}
MODULES: dict[str, ModuleType] = {name: module for name, module in _MODULES.items() if hasattr(module, "prepare")}


def sample_arguments(operation: str, x: Tensor) -> tuple[Any, ...]:
    """What to call an operation with on a feature map (N, C, H, W): the first variant of its description."""
    samples = next(one.operators[operation] for one in DESCRIPTIONS.values() if operation in one.operators)
    return next(samples(x))


def prepare(operation: str, arguments: tuple[Any, ...]) -> Any:
    """What the operation would launch for these arguments: its `Prepared`.

    Raises:
        ValueError: it would launch nothing, or make a tensor contiguous first.
    """
    prepared = MODULES[operation].prepare(*(describe(a) if isinstance(a, Tensor) else a for a in arguments))
    if prepared is None:
        raise ValueError(
            f"{operation} launches nothing for these arguments: they are empty, or no view of them is dense"
        )
    return prepared


def forget() -> None:
    """Have the next calls choose their configs again."""
    for module in MODULES.values():
        module.prepare.cache_clear()
