"""Out of memory in a compiled library's operator, as PyTorch's own operators tell of it.

An error on its way through the stable ABI loses its class. Before torch 2.13 it loses its words too, and PyTorch prints
them to stderr, with some thirty lines of stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

TOLD = torch.__version__ >= "2.13"
"""Whether a library hears from PyTorch why an allocation has failed, and throws that on (csrc/shared/stable.h)."""


def tried_first(operator: Callable[..., Any], results: Callable[..., Any]) -> Callable[..., Any]:
    """The operator where PyTorch does not tell: its results are allocated beforehand, where PyTorch's error is raised."""

    def run(*arguments: Any) -> Any:
        results(*arguments)
        return operator(*arguments)

    return run


def typed(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The operator with `torch.OutOfMemoryError` where CUDA's memory is short, which arrives as a plain RuntimeError."""

    def run(*arguments: Any) -> Any:
        try:
            return operator(*arguments)
        except RuntimeError as failure:
            if type(failure) is RuntimeError and str(failure).startswith("CUDA out of memory"):
                raise torch.OutOfMemoryError(*failure.args) from None
            raise

    return run
