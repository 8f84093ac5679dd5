"""The Triton backend: kernels that are compiled on first use, nothing at install time.

    rows.py           tensors as samples of rows, seen so that one kernel serves NCHW and NHWC (host)
    formulas.py       the gate's arithmetic, and the tile helpers (device)
    heuristics.py     block sizes, warps and splits for a shape; tuned.py holds what the tuning command measured
    launch.py         compiling a kernel once per shape and launching it at little cost
    partials.py       the fixed-order sum of what programs leave in a workspace
    layers.py         a branch's layers as kernels take them, and their products (host and device)
    norms.py          norms over the batch, and their gradients
    dense.py          the channel branch's layers
    <operation>.py    the operations, one file each: kernel, launcher; bam.py, branches.py and branches_backward.py are made
                      of the others' kernels

Importing this package imports neither Triton nor the kernels: `kernel` does, on the first call.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch

OLDEST_CAPABILITY = (7, 0)  # every kernel compiles for it; where another Triton refuses, its error sends us to eager
# Before it Triton multiplies without tensor cores, and spills thousands of bytes a thread.
OLDEST_FOR_PRODUCTS = (8, 0)
PRODUCTS = frozenset(
    (
        "bam",
        "branches",
        "branches_backward",
        "dilated_conv",
        "dilated_conv_weight_grad",
        "squeeze",
        "squeeze_input_grad",
        "squeeze_weight_grad",
    )
)
"""The operators whose kernels multiply matrices."""
_GRADS_BATCHED: Any = torch._C._parse_dispatch_key("VmapMode")


def why_not(device: torch.device) -> str | None:
    """Why Triton cannot run on a device; None where it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cpu":
        return None if interpreted() else "Triton runs on the CPU in its interpreter alone: set TRITON_INTERPRET=1"
    if device.type == "cuda":
        return _why_not_cuda(device)
    return None if device.type == "xpu" else f"Triton does not serve {device.type} devices"


def why_not_product(device: torch.device) -> str | None:
    """Why the kernels of `PRODUCTS` cannot run on a device that Triton runs on; None where they can."""
    return _too_old(device, OLDEST_FOR_PRODUCTS, "kernels of whole BAMs") if device.type == "cuda" else None


# What torch.compiler.assume_constant_result does, without importing the compiler: it calls them and keeps the answers.
why_not._dynamo_marked_constant = True  # type: ignore[attr-defined]
why_not_product._dynamo_marked_constant = True  # type: ignore[attr-defined]


def interpreted() -> bool:
    """True where the environment sends Triton's kernels to its interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "y", "on", "yes", "true")


def _why_not_cuda(device: torch.device) -> str | None:
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device or driver"
    return _too_old(device, OLDEST_CAPABILITY, "kernels")


def _too_old(device: torch.device, oldest: tuple[int, int], kernels: str) -> str | None:
    found = torch.cuda.get_device_capability(device)
    if torch.version.hip is not None or found >= oldest:
        return None
    return f"{torch.cuda.get_device_name(device)} has compute capability {found}, Triton's {kernels} need {oldest}"


@functools.cache
def _load(operation: str) -> Callable[..., Any]:
    from bam_fused.backends import BackendUnavailable  # imported late: that package imports this one

    try:
        module = importlib.import_module(f"{__name__}.{operation}")
    except ImportError as error:
        raise BackendUnavailable(f"triton cannot be imported: {error}") from error
    function: Callable[..., Any] = getattr(module, operation)
    return function


def kernel(operation: str) -> Callable[..., Any]:
    """An operation's kernel for the `triton` overload of its operator; Triton is imported when it is first called."""

    def call(*arguments: Any) -> Any:
        return _load(operation)(*arguments)

    return call


def past_dispatcher(operator: str, overload: Callable[..., Any]) -> Callable[..., Any]:
    """An operator by its kernel itself; by its overload where a mode, a profiler or a kind of tensor listens to operators.

    Tensors that stand for a batch of gradients (is_grads_batched) are of no kind of their own: a dispatch key tells.

    PyTorch's dispatcher takes every argument over into C++ and back, which takes the host as long as several launches.
    """
    bare = kernel(operator)

    def call(*arguments: Any) -> Any:
        plain = type(arguments[0]) in (torch.Tensor, torch.nn.Parameter)
        if plain and not (
            torch._C._len_torch_dispatch_stack()
            or torch._C._autograd._profiler_enabled()
            or torch._C._dispatch_tls_is_dispatch_key_included(_GRADS_BATCHED)
        ):
            return bare(*arguments)
        return overload(*arguments)

    return call
