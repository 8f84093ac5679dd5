"""The one `torch.library.Library` that defines the operators `torch.ops.bam_fused.*`, and what is defined beside each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bam_fused import backends
from bam_fused.backends import triton

LIBRARY = torch.library.Library("bam_fused", "DEF")

TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.flexible_layout)
OVERLOADS = ("compiled", "triton")
"""Those with kernels: the libraries', by device, and Triton's. Neither differentiates."""


@dataclass(frozen=True)
class Operator:
    """One operator of the dispatcher, in all its overloads."""

    name: str
    signature: str
    """Its schema behind the name: arguments and results."""
    check: Callable[..., object]
    """Raises TypeError or ValueError for arguments that it cannot take."""
    plain: Callable[..., Any]
    """The same in PyTorch's operators, checked: what the eager backend runs, and what can be differentiated again."""
    backends: tuple[str, ...]
    """Who has a kernel for it, beside eager."""


OPERATORS: dict[str, Operator] = {}
"""Every operator that is defined, by name."""


def register(operator: Operator, fake: Callable[..., Any]) -> None:
    """Register an operator's kernel overloads, with their fake kernel (shapes, dtypes and strides alone).

    Its kernels take tensors of every stride order, and its results' strides follow from its arguments': so Inductor, which
    runs convolutions in NHWC, hands their results on as they are instead of copying them into the order of eager mode.

    The `compiled` overload also gets the plain form, for devices without a compiled kernel, so that a graph that holds the
    operator runs anywhere; the `triton` overload gets Triton's kernel, which loads itself when called. Neither
    differentiates: that is left to the default overload, which `define` gives.
    """
    name = operator.name
    LIBRARY.define(f"{name}{operator.signature}", tags=TAGS)
    for overload in OVERLOADS:
        LIBRARY.define(f"{name}.{overload}{operator.signature}", tags=TAGS)
        torch.library.register_fake(f"bam_fused::{name}.{overload}", after(operator.check, fake), lib=LIBRARY)
    LIBRARY.impl(f"{name}.compiled", operator.plain, "CompositeExplicitAutograd")
    LIBRARY.impl(f"{name}.triton", triton.kernel(name), "CompositeExplicitAutograd")
    backends.out_of_memory.type_in_graphs(getattr(torch.ops.bam_fused, name).compiled, fake)
    OPERATORS[name] = operator
    _tell_backends(operator, fake)


def _tell_backends(operator: Operator, results: Callable[..., Any]) -> None:
    backends.RESULTS[operator.name] = results
    backends.eager.KERNELS[operator.name] = operator.plain
    backends.SERVED[operator.name] = (*operator.backends, "eager")


def after(check: Callable[..., object], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that checks its arguments first."""

    def checked(*arguments: Any) -> Any:
        check(*arguments)
        return function(*arguments)

    return checked
