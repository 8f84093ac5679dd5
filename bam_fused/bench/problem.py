"""One case made concrete: its tensors, the functions that compete on them, and how a mode calls a function."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bam_fused.bench.cases import FORMATS, Case
from bam_fused.bench.timing import Call

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Competitor:
    """A function of the problem's inputs; a module's own parameters are leaves as well."""

    function: Function
    parameters: tuple[Tensor, ...] = ()


@dataclass
class Problem:
    """The tensors of one case and the functions that compete on them."""

    inputs: tuple[Tensor, ...]
    reference: Competitor
    """In float64, called with the inputs in float64."""
    competitors: dict[str, Competitor]
    to_compile: str | None
    """The competitor whose arithmetic torch.compile and ONNX Runtime get: the kindest eager one."""
    slack: float = 1.0
    """How many times the tolerance of one operation the result may be off: layers add up."""
    by_norm: bool = False
    """Judge the output and all gradients together by their norms and not by their largest errors: what a deep network
    needs, where rounding in one layer turns ReLUs of the next on and off."""


def feature_map(case: Case, device: torch.device) -> Tensor:
    """A fresh random input in the case's dtype and memory format."""
    x = torch.randn(case.shape, device=device, dtype=case.torch_dtype)
    return x.contiguous(memory_format=FORMATS[case.memory_format])


def of_module(module: nn.Module) -> Competitor:
    """A module as a competitor."""
    return Competitor(module, tuple(module.parameters()))


def place(module: nn.Module, case: Case, device: torch.device) -> None:
    """Move a module to the device, the dtype and the memory format of the case."""
    move: Callable[..., nn.Module] = module.to
    move(device=device, dtype=case.torch_dtype, memory_format=FORMATS[case.memory_format])


def in_float64(module: nn.Module) -> Competitor:
    """A copy of a module in float64, to be the reference."""
    return of_module(copy.deepcopy(module).double())


def caller(case: Case, competitor: Competitor, inputs: tuple[Tensor, ...]) -> Callable[[], tuple[Any, ...]]:
    """A call of no arguments that does what the case's mode asks; it returns the output, then the gradients."""
    function = competitor.function
    if case.mode == "inference":
        inputs = tuple(tensor.detach() for tensor in inputs)

        def infer() -> tuple[Any, ...]:
            with torch.no_grad():
                return (function(*inputs),)

        return infer

    inputs = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    if case.mode == "forward":
        return lambda: (function(*inputs),)

    leaves = (*inputs, *competitor.parameters)
    with torch.no_grad():
        output = function(*inputs)
    generator = torch.Generator().manual_seed(1)
    grad = torch.empty_like(output).copy_(torch.randn(output.shape, generator=generator))

    def train() -> tuple[Any, ...]:
        output = function(*inputs)
        return (output, *torch.autograd.grad(output, leaves, grad))

    return train


def forward_call(competitor: Competitor, inputs: tuple[Tensor, ...]) -> Call:
    """The training forward alone, on fresh leaves."""
    leaves = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    return lambda: competitor.function(*leaves)
