"""Defining an operation: its operator in the dispatcher, and the way to a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bam_fused.ops.library import LIBRARY, Operator, after, register
from bam_fused.ops.operation import Operation


def define(
    name: str,
    signature: str,
    *,
    check: Callable[..., object],
    fake: Callable[..., Any],
    plain: Callable[..., Any],
    autograd: type[torch.autograd.Function] | None = None,
    backends: tuple[str, ...] = ("cpu", "cuda", "triton"),
) -> Operation:
    """Define an operator in every overload; `torch.ops.bam_fused.<name>` is the operation that this returns.

    So whoever calls that directly gets gradients, transforms and the backend in force as from the public function.

    Args:
        name: of the operator.
        signature: its schema behind the name.
        check: raises TypeError or ValueError for arguments that it cannot take.
        fake: allocates its results, with the true strides. It and `plain` are called with arguments that pass `check`.
        plain: the same in PyTorch's operators.
        autograd: as in `Operation`.
        backends: who has a kernel for it, beside eager.
    """
    operator = Operator(name, signature, check, after(check, plain), backends)
    register(operator, fake)
    operation = Operation(operator, autograd)
    LIBRARY.impl(name, operation, "CompositeImplicitAutograd")
    return operation
