"""The way from a public function to a kernel, the same for every operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C import _any_requires_grad, _are_functorch_transforms_active, _get_tracing_state
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from bam_fused import backends
from bam_fused.backends import BackendUnavailable, Choice
from bam_fused.ops.library import OPERATORS, Operator


class Operation:
    """Runs an operator on the selected backend, under autograd where a gradient is wanted.

    Args:
        operator: what runs it forward; its first argument is a tensor, on whose device all runs.
        autograd: an `autograd.Function` around the operator, which costs less per call than registering a formula
            with the operator. Its forward is given the kernel and the choice of backend that it comes from, and then the
            operation's arguments; its backward hands the choice to `run_backward`. None where there is no backward: where a
            gradient is wanted the plain form runs.

    Good input is not checked: kernels refuse bad input too, but tersely, and only then the operator's own check is asked for
    the message; while PyTorch traces it is asked first, as a graph must not be built around an error.
    """

    def __init__(self, operator: Operator, autograd: type[torch.autograd.Function] | None) -> None:
        self.name = operator.name
        self.check, self.plain = operator.check, operator.plain
        self.autograd = autograd

    def __call__(self, *arguments: Any) -> Any:
        """The operation's result. What happens at every call is written out here: a tiny one takes microseconds."""
        if is_compiling():
            return self._while_tracing(*arguments)
        if _get_tracing_state() is not None or _are_functorch_transforms_active() or forward_ad._current_level >= 0:
            return self._in_standard_operators(*arguments)
        choice = backends.in_force()
        try:
            device = arguments[0].device
            kernel = choice.kernels.get((self.name, device)) or backends.select(self.name, device, choice)
            if torch.is_grad_enabled() and kernel is not self.plain and _any_requires_grad(*arguments):
                return self._differentiably(kernel, choice, *arguments)
            return kernel(*arguments)
        except BackendUnavailable as failure:
            backends.cross_off(self.name, device, choice, failure)
        except Exception:
            self.check(*arguments)
            raise
        return self(*arguments)

    def _differentiably(self, kernel: Any, choice: Choice, *arguments: Any) -> Any:
        if self.autograd is None:
            choice.refuse(self.name, "it has no backward of its own")
            return self.plain(*arguments)
        return self.autograd.apply(kernel, choice, *arguments)

    def _in_standard_operators(self, *arguments: Any) -> Any:
        """While torch.jit traces, whose result must run without bam_fused, and under transforms that know none of ours."""
        if _get_tracing_state() is None:
            why = "transforms of torch.func and forward-mode differentiation take standard operators"
            backends.current().refuse(self.name, why)
        return self.plain(*arguments)

    def _while_tracing(self, *arguments: Any) -> Any:
        """The same for torch.compile, which guards on what it reads here, and torch.export."""
        self.check(*arguments)
        if is_exporting():  # the artefact must run without bam_fused
            return self.plain(*arguments)
        if wants_standard_operators():
            return self._in_standard_operators(*arguments)
        choice = backends.current()
        kernel = backends.select(self.name, arguments[0].device, choice)
        if torch.is_grad_enabled() and kernel is not self.plain and _some_require_grad(arguments):
            return self._differentiably(kernel, choice, *arguments)
        return kernel(*arguments)


def is_exporting() -> bool:
    """Whether torch.export traces; by its flag, as torch.compile takes PyTorch's own function for True before torch 2.12."""
    return torch.compiler._is_exporting_flag


def wants_standard_operators() -> bool:
    """Whether PyTorch traces with torch.jit or transforms what is computed, in ways that know none of our operators."""
    return _get_tracing_state() is not None or _are_functorch_transforms_active() or forward_ad._current_level >= 0


def run_backward(name: str, choice: Choice, *arguments: Any) -> Any:
    """Run a backward operator on the backend of its forward's choice, or its plain form if it is differentiated again.

    The choice is the forward's, as autograd may run the backward in a thread of its own, where no block is in force.
    """
    if torch.is_grad_enabled() and not is_compiling():
        choice.refuse(name, "a second derivative takes formulas that can be differentiated again")
        return OPERATORS[name].plain(*arguments)
    return backends.run(name, *arguments, choice=choice)


def _some_require_grad(arguments: tuple[Any, ...]) -> bool:
    return any(
        isinstance(tensor, Tensor) and tensor.requires_grad
        for argument in arguments
        for tensor in (argument if isinstance(argument, (list, tuple)) else (argument,))
    )
