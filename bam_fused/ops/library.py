"""The one `torch.library.Library` that defines the operators, and what is defined beside each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bam_fused.backends import triton

LIBRARY = torch.library.Library("bam_fused", "DEF")

OVERLOADS = ("", ".triton")  # the compiled libraries', by device, and Triton's


def define(operation: str, signature: str, fake: Callable[..., Any], eager: Callable[..., Any]) -> None:
    """Define an operator in every overload, with its fake kernel (shapes, dtypes and strides alone).

    The default overload also gets the eager function as its kernel for devices without a compiled one, so that a graph
    that holds the operator runs anywhere; the `triton` overload gets Triton's kernel, which loads itself when called.
    """
    for overload in OVERLOADS:
        LIBRARY.define(f"{operation}{overload}{signature}", tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.register_fake(f"bam_fused::{operation}{overload}", fake, lib=LIBRARY)
    LIBRARY.impl(operation, eager, "CompositeExplicitAutograd")
    LIBRARY.impl(f"{operation}.triton", triton.kernel(operation), "CompositeExplicitAutograd")
