"""Which backend runs an operation: the registry, the "auto" rule, `use_backend` and BAM_FUSED_BACKEND.

Every operation runs as one dispatcher operator, `torch.ops.bam_fused.<operator>`. Its default overload holds the
compiled kernels of the CPU and CUDA libraries, by device; its `triton` overload holds Triton's; the eager backend has a
plain function for it. `select` gives the one of them that runs an operator for a tensor's device.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bam_fused.backends import cpu, cuda, eager, triton

log = logging.getLogger("bam_fused")


class BackendUnavailable(RuntimeError):
    """A backend cannot run an operation on a device; the message says why."""


@dataclass(frozen=True)
class Backend:
    """One way to run the operators."""

    why_not: Callable[[torch.device], str | None]
    """Why it cannot run on a device; None where it can."""
    kernel: Callable[[str], Callable[..., Any]]
    """What it runs an operator with."""


def _compiled(operator: str) -> Callable[..., Any]:
    overload: Callable[..., Any] = getattr(torch.ops.bam_fused, operator).default
    return overload


def _triton(operator: str) -> Callable[..., Any]:
    overload: Callable[..., Any] = getattr(torch.ops.bam_fused, operator).triton
    return overload


REGISTRY = {
    "cpu": Backend(cpu.why_not, _compiled),
    "cuda": Backend(cuda.why_not, _compiled),
    "triton": Backend(triton.why_not, _triton),
    "eager": Backend(eager.why_not, eager.kernel),
}
NAMES = ("auto", *REGISTRY)
SERVED: dict[str, tuple[str, ...]] = {}
"""By operator, the backends that have a kernel for it; bam_fused.ops.define enters them."""


def auto_order(operator: str, device: torch.device) -> tuple[str, ...]:
    """The backends that "auto" tries for an operator on a device, best first; eager PyTorch is the last.

    On CUDA devices the compiled library comes before Triton for every operation: both make the same passes over memory,
    and the library costs less to launch, compiles nothing at run time and needs one launch for the backward where Triton
    takes another for its partial sums. That is reasoned, not measured on a GPU; benchmarks/gpu_day.py measures it.
    """
    if device.type == "cpu":
        return ("cpu", "eager")
    if device.type == "cuda":
        return ("cuda", "triton", "eager")
    return ("triton", "eager")


_first = os.environ.get("BAM_FUSED_BACKEND") or "auto"  # checked at the first use: importing never fails
_current: str | None = None  # what use_backend chose
_selected: dict[tuple[str, torch.device], Callable[..., Any]] = {}
_failed: dict[tuple[str, str, torch.device], str] = {}  # backend, operator, device: what it said
_logged: set[str] = set()


def _check_name(name: object, source: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{source} must be a string, one of {NAMES}, got {type(name).__name__}")
    if name not in NAMES:
        raise ValueError(f"{source} must be one of {NAMES}, got {name!r}")
    return name


def current_backend() -> str:
    """The backend in force: one of "auto", "cpu", "cuda", "triton", "eager".

    Raises:
        ValueError: BAM_FUSED_BACKEND is set to another name.
    """
    return _current if _current is not None else _check_name(_first, "BAM_FUSED_BACKEND")


def _switch(name: str | None) -> None:
    global _current
    _current = name
    _selected.clear()


class use_backend:
    """Choose the backend of every operation: a plain call, or a `with` block that puts the earlier choice back.

    Args:
        backend: "auto" (the fastest that runs on each tensor's device, eager PyTorch where none does, said once in the
            log), "cuda" (the C++/CUDA library), "triton", "cpu" (the C++ library) or "eager" (plain PyTorch). A backend
            asked for by name never falls back: where it cannot run, the operation raises `BackendUnavailable` (a
            RuntimeError) with the reason.

    Raises:
        TypeError, ValueError: `backend` is not one of these names.

    The choice holds for the whole process, all threads. The environment variable BAM_FUSED_BACKEND sets the first one.
    """

    def __init__(self, backend: str) -> None:
        name = _check_name(backend, "backend")
        self._before = _current
        _switch(name)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        _switch(self._before)


def select(operator: str, device: torch.device) -> Callable[..., Any]:
    """What runs an operator for a tensor on `device`: the kernel of the backend in force.

    Raises:
        BackendUnavailable: the backend chosen by name cannot run it on `device`.
    """
    if torch.compiler.is_compiling():  # the compiler guards on the choice itself, and forbids writing to the cache
        return REGISTRY[_choose(operator, device)].kernel(operator)
    key = (operator, device)
    chosen = _selected.get(key)
    if chosen is None:  # looked up once: another thread may switch backends, which empties the cache
        chosen = _selected[key] = REGISTRY[_choose(operator, device)].kernel(operator)
    return chosen


def run(operator: str, x: torch.Tensor, *arguments: Any) -> Any:
    """Run an operator on the selected backend; under "auto" one that cannot after all is crossed off, the next runs."""
    while True:
        try:
            return select(operator, x.device)(x, *arguments)
        except BackendUnavailable as failure:
            cross_off(operator, x.device, failure)


def cross_off(operator: str, device: torch.device, failure: BackendUnavailable) -> None:
    """Under "auto", select no more the backend that has just failed to run an operator, as one that cannot compile does.

    Raises:
        BackendUnavailable: the failure, where the backend was chosen by name.
    """
    if current_backend() != "auto":
        raise failure
    _failed[_choose(operator, device), operator, device] = str(failure)
    _selected.clear()


def why_not(name: str, operator: str, device: torch.device) -> str | None:
    """Why a backend cannot run an operator on a device; None where it can."""
    if (reason := REGISTRY[name].why_not(device)) is not None:
        return reason
    if name not in SERVED[operator]:
        return f"it has no kernel for {operator}"
    return _failed.get((name, operator, device))


def _choose(operator: str, device: torch.device) -> str:
    if device.type == "meta":  # no values, and nothing to be fast at
        return "eager"
    current = current_backend()
    reasons: list[str] = []
    for name in auto_order(operator, device) if current == "auto" else (current,):
        reason = why_not(name, operator, device)
        if reason is None:
            if current == "auto" and name == "eager" and reasons:
                _log_once(f"{operator} runs in eager PyTorch on {device.type} ({'; '.join(reasons)})")
            return name
        reasons.append(f"{name}: {reason}")
    raise BackendUnavailable(f"backend {current!r} cannot run {operator} on {device}: {reasons[0]}")


def _log_once(message: str) -> None:
    if message not in _logged and not torch.compiler.is_compiling():  # a logger call would break a compiled graph
        _logged.add(message)
        log.warning(message)
