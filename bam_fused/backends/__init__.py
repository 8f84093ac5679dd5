"""Which backend runs an operation: the registry, the "auto" rule, and the selection for a call.

Every operation runs as one dispatcher operator, `torch.ops.bam_fused.<operator>`. Its `compiled` overload holds the
kernels of the CPU and CUDA libraries, by device; its `triton` overload holds Triton's; the eager backend has a plain
function for it. `select` gives the one of them that runs an operator for a tensor's device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bam_fused.backends import cpu, cuda, eager, out_of_memory, triton
from bam_fused.backends.choice import (
    CHOICES,
    BackendUnavailable,
    Choice,
    current,
    current_backend,
    in_force,
    use_backend,
)

__all__ = [
    "REGISTRY",
    "RESULTS",
    "SERVED",
    "Backend",
    "BackendUnavailable",
    "Choice",
    "auto_order",
    "cross_off",
    "current",
    "current_backend",
    "in_force",
    "run",
    "select",
    "use_backend",
    "why_not",
    "why_only_eager",
]

log = logging.getLogger("bam_fused")


@dataclass(frozen=True)
class Backend:
    """One way to run the operators."""

    why_not: Callable[[torch.device], str | None]
    """Why it cannot run on a device; None where it can."""
    kernel: Callable[[str], Callable[..., Any]]
    """What it runs an operator with."""


def _compiled(operator: str) -> Callable[..., Any]:
    overload: Callable[..., Any] = getattr(torch.ops.bam_fused, operator).compiled
    if torch.compiler.is_compiling():  # a graph takes the operator itself
        return overload
    bare = out_of_memory.bare(overload)
    return bare if out_of_memory.TOLD else out_of_memory.tried_first(bare, RESULTS[operator])


def _cuda(operator: str) -> Callable[..., Any]:
    kernel = _compiled(operator)
    return kernel if torch.compiler.is_compiling() else out_of_memory.typed(kernel, RESULTS[operator])


def _triton(operator: str) -> Callable[..., Any]:
    overload: Callable[..., Any] = getattr(torch.ops.bam_fused, operator).triton
    return overload if torch.compiler.is_compiling() else triton.past_dispatcher(operator, overload)


REGISTRY = {
    "cpu": Backend(cpu.why_not, _compiled),
    "cuda": Backend(cuda.why_not, _cuda),
    "triton": Backend(triton.why_not, _triton),
    "eager": Backend(eager.why_not, eager.kernel),
}
LIBRARIES = {"cpu": "CPU", "cuda": "CUDA"}
"""The backends that are compiled libraries, and the dispatch key under which each registers its kernels."""
SERVED: dict[str, tuple[str, ...]] = {}
"""By operator, the backends that have a kernel for it; bam_fused.ops.define enters them."""
RESULTS: dict[str, Callable[..., Any]] = {}
"""By operator, what allocates its results, uninitialised; bam_fused.ops.define enters them."""


def auto_order(operator: str, device: torch.device) -> tuple[str, ...]:
    """The backends that "auto" tries for an operator on a device, best first; eager PyTorch is the last.

    On CUDA devices the compiled library comes before Triton for every operation: on an H100 it takes as long for the gate
    and the pool, 4 to 10 % less for the gate's backward (benchmarks/results), and compiles nothing at run time. Whole BAMs,
    their squeeze and their branches have kernels in Triton alone there.
    """
    if device.type == "cpu":
        return ("cpu", "eager")
    if device.type == "cuda":
        return ("cuda", "triton", "eager")
    return ("triton", "eager")


_failed: dict[tuple[str, str, torch.device], str] = {}  # backend, operator, device: what it said
_logged: set[str] = set()


def select(operator: str, device: torch.device, choice: Choice | None = None) -> Callable[..., Any]:
    """What runs an operator for a tensor on `device`: the kernel of the backend in force, or of the choice given.

    Raises:
        BackendUnavailable: the backend chosen by name cannot run it on `device`, or only eager can and strict forbids it.
    """
    if choice is None:
        choice = current()
    if torch.compiler.is_compiling():  # the compiler guards on the choice itself, and forbids writing to the cache
        return REGISTRY[_choose(operator, device, choice)].kernel(operator)
    key = (operator, device)
    chosen = choice.kernels.get(key)
    if chosen is None:  # looked up once: another thread may empty the cache between two looks
        chosen = choice.kernels[key] = REGISTRY[_choose(operator, device, choice)].kernel(operator)
    return chosen


def why_only_eager(operator: str, device: torch.device) -> str | None:
    """Why no kernel but eager PyTorch's operators is selected for an operator on a device; None where one is."""
    try:
        if select(operator, device) is eager.kernel(operator):
            return f"no backend in use has a kernel for it on {device.type}"
    except BackendUnavailable as failure:
        return str(failure)
    return None


def run(operator: str, x: torch.Tensor, *arguments: Any, choice: Choice | None = None) -> Any:
    """Run an operator on the selected backend; under "auto" one that cannot after all is crossed off, the next runs."""
    if choice is None:
        choice = current()
    while True:
        try:
            return select(operator, x.device, choice)(x, *arguments)
        except BackendUnavailable as failure:
            cross_off(operator, x.device, choice, failure)


def cross_off(operator: str, device: torch.device, choice: Choice, failure: BackendUnavailable) -> None:
    """Under "auto", select no more the backend that has just failed to run an operator, as one that cannot compile does.

    Raises:
        BackendUnavailable: the failure, where the backend was chosen by name, or there was none to fail.
    """
    if choice.name != "auto":
        raise failure
    name = _choose(operator, device, choice)
    if name == "eager":
        raise failure
    _failed[name, operator, device] = str(failure)
    for one in CHOICES.values():
        one.kernels.clear()


def why_not(name: str, operator: str, device: torch.device) -> str | None:
    """Why a backend cannot run an operator on a device; None where it can."""
    if (reason := REGISTRY[name].why_not(device)) is not None:
        return reason
    if name not in SERVED[operator]:
        return f"it has no kernel for {operator}"
    if name == "triton" and operator in triton.PRODUCTS and (reason := triton.why_not_product(device)) is not None:
        return reason
    if name in LIBRARIES and not _in_library(operator, LIBRARIES[name]):
        return f"its library has no kernel for {operator}, so it is older than this code: build it again"
    return _failed.get((name, operator, device))


def _in_library(operator: str, key: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"bam_fused::{operator}.compiled", key))


_in_library._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as in the backends


def _choose(operator: str, device: torch.device, choice: Choice) -> str:
    if device.type == "meta":  # no values, and nothing to be fast at
        return "eager"
    reasons: list[str] = []
    for name in auto_order(operator, device) if choice.name == "auto" else (choice.name,):
        reason = why_not(name, operator, device)
        if reason is None:
            if choice.name == "auto" and name == "eager":
                choice.refuse(operator, "; ".join(reasons))
                _log_once(f"{operator} runs in eager PyTorch on {device.type} ({'; '.join(reasons)})")
            return name
        reasons.append(f"{name}: {reason}")
    raise BackendUnavailable(f"backend {choice.name!r} cannot run {operator} on {device}: {reasons[0]}")


def _log_once(message: str) -> None:
    if message not in _logged and not torch.compiler.is_compiling():  # a logger call would break a compiled graph
        _logged.add(message)
        log.warning(message)
