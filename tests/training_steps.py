"""A training step of a whole BAM against the same module in eager float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from accuracy import assert_no_worse_than_eager
from torch import Tensor, nn

import bam_fused
from bam_fused.composition.path import path_of
from bam_fused.composition.plan import plan_of
from bam_fused.composition.run import run

PATH = "fused branches"


def path_taken(module: nn.Module, x: Tensor):
    """The path that BAM takes for this input."""
    return path_of(module, plan_of(module), x)


def by_layers(module: nn.Module, x: Tensor) -> Tensor:
    """The forward layer by layer in plain PyTorch."""
    with bam_fused.use_backend("eager"):
        return run(module, plan_of(module), x)


def step(module: nn.Module, forward, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """A step on a copy: output, gradients of x and of every parameter, and the buffers it left."""
    module, x = copy.deepcopy(module), x.detach().requires_grad_()
    out = forward(module, x)
    out.backward(grad)
    parameters = {f"d {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"out": out.detach(), "dx": x.grad, **parameters, **dict(module.named_buffers())}


def check(
    module: nn.Module,
    x: Tensor,
    grad: Tensor,
    path: str = PATH,
    under: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Output, gradients and running statistics against float64, no worse than eager; both forwards run under something."""

    def call(module: nn.Module, x: Tensor) -> Tensor:
        with under():
            assert path_taken(module, x).name == path, path_taken(module, x)
            return module(x)

    def called_by_layers(module: nn.Module, x: Tensor) -> Tensor:
        with under():
            return by_layers(module, x)

    ours, exact = (
        step(module, call, x, grad),
        step(copy.deepcopy(module).double(), by_layers, x.double(), grad.double()),
    )
    # In both memory formats: the reduced maps are channels_last here whatever x is, where BatchNorm errs in another way.
    formats = (torch.contiguous_format, torch.channels_last)
    eager, other = (step(module, called_by_layers, x.contiguous(memory_format=one), grad) for one in formats)
    assert ours.keys() == eager.keys() == exact.keys()
    for name in ours:
        assert ours[name].dtype == eager[name].dtype
        if not ours[name].is_floating_point():
            assert torch.equal(ours[name], eager[name]), name
            continue
        if x.dtype == torch.float64:  # there is nothing more exact to compare with
            scale = max(1.0, eager[name].abs().max().item())
            torch.testing.assert_close(ours[name], eager[name], rtol=1e-8, atol=1e-8 * scale)
            continue
        # A norm over few values can blow any rounding up: which of them is unlucky is left open by a factor of four.
        theirs = max((step[name].double() - exact[name]).abs().max().item() for step in (eager, other))
        noise = _noise(name, ours, x, grad) + 4 * theirs / torch.finfo(x.dtype).eps
        noise *= torch.finfo(x.dtype).eps / torch.finfo(ours[name].dtype).eps  # under autocast parameters are wider
        assert_no_worse_than_eager(name, ours[name], eager[name], exact[name], noise)


def check_gradients_in_a_batch(module: nn.Module, x: Tensor, path: str = PATH) -> None:
    """Gradients of several outputs at once (is_grads_batched), as torch.autograd.functional.jacobian takes them."""
    assert path_taken(module, x.requires_grad_()).name == path
    out, inputs = module(x), (x, *module.parameters())
    several = torch.randn(3, *out.shape, dtype=out.dtype, device=out.device)
    together = torch.autograd.grad(out, inputs, several, retain_graph=True, is_grads_batched=True)
    alone = [torch.autograd.grad(out, inputs, grad, retain_graph=True) for grad in several]
    assert not any(gradient.requires_grad for gradient in together)
    for ours, *expected in zip(together, *alone, strict=True):
        torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-4, atol=1e-4)


def _noise(name: str, ours: dict[str, Tensor], x: Tensor, grad: Tensor) -> float:
    """Sums over a batch err by the root of their length where their addends cancel; through norms all gradients are such."""
    if not name.startswith("d"):
        return 4.0
    largest = max(t.abs().max().item() for key, t in ours.items() if key.startswith("d "))
    return 8 * (largest + (x.shape[0] * x.shape[2] * x.shape[3]) ** 0.5)
