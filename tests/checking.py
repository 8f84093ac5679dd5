"""What tests of the Triton backend share: the check of the gate's kernels, and processes in which Triton compiles."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accuracy import assert_no_worse_than_eager, noise_of_sums
from drawing import same_view
from torch import Tensor

import bam_fused
from bam_fused import reference

NAMES = ("out", "dx", "dchannel", "dspatial")
# The interpreter (numpy) adds up to 256 rows of a tile one after another, where a GPU adds them in a tree: sums of up to so
# many are off by as many times more.
SEQUENTIAL = 4


def with_gradients(function: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
    """The output and the gradients in x, channel_logits and spatial_logits; arguments are these, grad and combine."""
    *inputs, grad, combine = arguments
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = function(*leaves, combine)
    return out, *torch.autograd.grad(out, leaves, grad)


def check_gate(device: torch.device, *arguments: Any, function: Callable[..., Any] = bam_fused.gate) -> None:
    """`function` on the device against float64, no worse than eager there; arguments as in `with_gradients`."""
    *tensors, combine = arguments
    given = [t if t.device == device else same_view(t, device) for t in tensors]
    kept = [t.clone() for t in given]
    ours = with_gradients(function, *given, combine)
    eager = with_gradients(reference.gate, *given, combine)
    exact = with_gradients(reference.gate, *(t.double() for t in tensors), combine)
    x, channel, spatial, grad = given
    noise = noise_of_sums(*(t.cpu() for t in (grad, x, channel, spatial)), combine)
    noise *= SEQUENTIAL if device.type == "cpu" else 1
    for name, a, b, c in zip(NAMES, ours, eager, exact, strict=True):
        assert_no_worse_than_eager(name, a.cpu(), b.cpu(), c, noise if name.startswith("d") else 0.0)
    assert ours[0].stride() == torch.empty_like(x).stride()
    assert [t.dtype for t in ours] == [x.dtype, x.dtype, channel.dtype, spatial.dtype]
    for before, after in zip(kept, given, strict=True):
        assert torch.equal(before, after), "an input was written to"


def compiling_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, where Triton compiles its kernels instead of interpreting them."""
    root = str(Path(bam_fused.__file__).parents[1])
    settings = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    settings.pop("TRITON_INTERPRET", None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
