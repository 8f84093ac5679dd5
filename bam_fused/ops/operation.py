"""The way from a public function to a kernel, the same for every operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bam_fused import backends
from bam_fused.backends import BackendUnavailable
from bam_fused.ops.library import OPERATORS
from bam_fused.ops.tracing import wants_standard_operators


class Operation:
    """Runs an operator on the selected backend, under autograd where a gradient is wanted.

    Args:
        name: of the operator that runs it forward; its first argument is a tensor, on whose device all runs.
        autograd: an `autograd.Function` around the plain operator, which costs less per call than registering a formula
            with the operator. Its forward is given the kernel that was selected and then the operation's arguments. None
            where there is no backward: where a gradient is wanted the plain form runs.

    Good input is not checked: kernels refuse bad input too, but tersely, and only then the operator's own check is asked for
    the message; while PyTorch traces it is asked first, as a graph must not be built around an error.
    """

    def __init__(self, name: str, autograd: type[torch.autograd.Function] | None) -> None:
        operator = OPERATORS[name]
        self.name = name
        self.check, self.plain = operator.check, operator.plain
        self.autograd = autograd

    def __call__(self, *arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            self.check(*arguments)
        if wants_standard_operators():
            return self.plain(*arguments)
        try:
            kernel = backends.select(self.name, arguments[0].device)
            if torch.is_grad_enabled() and kernel is not self.plain and _any_requires_grad(arguments):
                if self.autograd is None:
                    return self.plain(*arguments)
                return self.autograd.apply(kernel, *arguments)
            return kernel(*arguments)
        except BackendUnavailable as failure:
            backends.cross_off(self.name, arguments[0].device, failure)
        except Exception:
            self.check(*arguments)
            raise
        return self(*arguments)


def _any_requires_grad(arguments: tuple[Any, ...]) -> bool:
    if torch.compiler.is_compiling():  # the compiler reads this, and not C
        return any(
            isinstance(tensor, Tensor) and tensor.requires_grad
            for argument in arguments
            for tensor in (argument if isinstance(argument, (list, tuple)) else (argument,))
        )
    wanted: bool = torch._C._any_requires_grad(*arguments)
    return wanted
