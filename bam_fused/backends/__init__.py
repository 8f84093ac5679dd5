"""Which backend runs an operation: the registry, the "auto" rule, `use_backend` and BAM_FUSED_BACKEND.

Every operation is one dispatcher operator, `torch.ops.bam_fused.<operation>`. Its default overload holds the
compiled kernels of the CPU and CUDA libraries, by device; its `triton` overload holds Triton's. `select` gives the
callable for a tensor's device: one of these overloads, or the plain PyTorch of backends/eager.
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
    """One way to run the operations."""

    overload: str
    """The overload of `torch.ops.bam_fused.<operation>` that holds its kernels."""
    why_not: Callable[[torch.device], str | None]
    """Why it cannot run on a device; None where it can."""


REGISTRY = {
    "cpu": Backend("default", cpu.why_not),
    "cuda": Backend("default", cuda.why_not),
    "triton": Backend("triton", triton.why_not),
}
NAMES = ("auto", *REGISTRY, "eager")


def auto_order(operation: str, device: torch.device) -> tuple[str, ...]:
    """The backends that "auto" tries for an operation on a device, best first; eager PyTorch comes after the last.

    On CUDA devices the compiled library comes before Triton for every operation: both make the same passes over memory,
    and the library costs less to launch, compiles nothing at run time and needs one launch for the backward where Triton
    takes another for its partial sums. That is reasoned, not measured on a GPU; benchmarks/gpu_day.py measures it.
    """
    if device.type == "cpu":
        return ("cpu",)
    if device.type == "cuda":
        return ("cuda", "triton")
    return ("triton",)


_first = os.environ.get("BAM_FUSED_BACKEND") or "auto"  # checked at the first use: importing never fails
_current: str | None = None  # what use_backend chose
_selected: dict[tuple[str, torch.device], Callable[..., Any]] = {}
_failed: dict[tuple[str, torch.device], str] = {}
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


def select(operation: str, device: torch.device) -> Callable[..., Any]:
    """What runs an operation for a tensor on `device`: an overload of its operator, or its function in backends/eager.

    Raises:
        BackendUnavailable: the backend chosen by name cannot run on `device`.
    """
    if torch.compiler.is_compiling():  # the compiler guards on the choice itself, and forbids writing to the cache
        return _choose(operation, device)
    key = (operation, device)
    chosen = _selected.get(key)
    if chosen is None:  # looked up once: another thread may switch backends, which empties the cache
        chosen = _selected[key] = _choose(operation, device)
    return chosen


def run(operation: str, x: torch.Tensor, *arguments: Any) -> Any:
    """Run an operation on the selected backend; under "auto" one that fails to compile is crossed off, the next runs."""
    try:
        return select(operation, x.device)(x, *arguments)
    except BackendUnavailable as failure:
        if current_backend() != "auto":
            raise
        _failed[operation, x.device] = str(failure)
        _selected.clear()
    return select(operation, x.device)(x, *arguments)


def _choose(operation: str, device: torch.device) -> Callable[..., Any]:
    fallback: Callable[..., Any] = getattr(eager, operation)
    current = current_backend()
    if current == "eager" or device.type == "meta":
        return fallback
    reasons = []
    for name in auto_order(operation, device) if current == "auto" else (current,):
        backend = REGISTRY[name]
        reason = backend.why_not(device) or (_failed.get((operation, device)) if name == "triton" else None)
        if reason is None:
            overload: Callable[..., Any] = getattr(getattr(torch.ops.bam_fused, operation), backend.overload)
            return overload
        reasons.append(f"{name}: {reason}")
    if current != "auto":
        raise BackendUnavailable(f"backend {current!r} cannot run {operation} on {device}: {reasons[0]}")
    _log_once(f"{operation} runs in eager PyTorch on {device.type} ({'; '.join(reasons)})")
    return fallback


def _log_once(message: str) -> None:
    if message not in _logged and not torch.compiler.is_compiling():  # a logger call would break a compiled graph
        _logged.add(message)
        log.warning(message)
