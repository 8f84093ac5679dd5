"""Which backend was chosen: `use_backend`, BAM_FUSED_BACKEND and BAM_FUSED_STRICT.

A plain call chooses for the process. A block chooses for its own context alone (`contextvars`): its thread, or its asyncio
task. Whether a call is the head of a block shows only when it is entered, and were it plain until then, threads would
see each other's blocks. So it stays undecided until it is entered (a block), or until it is dropped or shown, or its own
context asks for the choice (a plain call).
"""

from __future__ import annotations

import contextvars
import os
import weakref
from collections.abc import Callable
from typing import Any

import torch

BACKENDS = ("cpu", "cuda", "triton", "eager")
NAMES = ("auto", *BACKENDS)


class BackendUnavailable(RuntimeError):
    """A backend cannot run an operation on a device; the message says why."""


class Choice:
    """A backend's name or "auto", and whether falling to eager PyTorch is an error; one object for each pair."""

    __slots__ = ("kernels", "name", "strict")

    def __init__(self, name: str, strict: bool) -> None:
        self.name = name
        self.strict = strict
        self.kernels: dict[tuple[str, torch.device], Callable[..., Any]] = {}
        """What has been selected under this choice, by operator and device."""

    def refuse(self, operator: str, why: str) -> None:
        """Raise where the choice is strict, as an operator is about to run in plain PyTorch.

        Raises:
            BackendUnavailable: with the reason.
        """
        if self.strict:
            raise BackendUnavailable(f"{operator} would run in eager PyTorch, which strict forbids: {why}")


CHOICES = {(name, strict): Choice(name, strict) for name in NAMES for strict in (False, True)}


def _check_name(name: object, source: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{source} must be a string, one of {NAMES}, got {type(name).__name__}")
    if name not in NAMES:
        raise ValueError(f"{source} must be one of {NAMES}, got {name!r}")
    return name


def _strict(value: object) -> bool:
    """What was said, or else what the environment says."""
    if value is None:
        said = os.environ.get("BAM_FUSED_STRICT", "").lower()
        if said not in ("", "0", "1", "false", "true"):
            raise ValueError(f"BAM_FUSED_STRICT must be 0 or 1, got {said!r}")
        return said in ("1", "true")
    if not isinstance(value, bool):
        raise TypeError(f"strict must be True, False or None, got {type(value).__name__}")
    return value


class use_backend:
    """Choose the backend of every operation: for the process by a plain call, or for a `with` block.

    Args:
        backend: "auto" (the fastest that runs on each tensor's device, eager PyTorch where none does, said once in the
            log), "cuda" (the C++/CUDA library), "triton", "cpu" (the C++ library) or "eager" (plain PyTorch). A backend
            asked for by name never falls back: where it cannot run, the operation raises `BackendUnavailable` (a
            RuntimeError) with the reason.
        strict: True makes it an error that says why if "auto" finds no backend but eager, and also where PyTorch itself
            needs plain operators (torch.func, forward-mode differentiation, a second derivative); an export holds plain
            operators as ever. None stands for what the environment variable BAM_FUSED_STRICT says (1 or 0), else False.

    Raises:
        TypeError, ValueError: an argument is none of these.

    A plain call holds for the whole process, all threads, until the next. A block holds for what runs in its context, as
    context variables do: other threads and asyncio tasks do not see it, tasks started inside keep it. Blocks may end in
    any order, each takes back its own choice alone; the innermost that is left holds, before the process's. A backward
    runs on the backend that was in force in its forward, whatever thread autograd runs it in. A graph of torch.compile
    follows the choice: it is compiled once for each. The environment variable BAM_FUSED_BACKEND is the process's first
    choice.
    """

    def __init__(self, backend: str, *, strict: bool | None = None) -> None:
        self.choice = CHOICES[_check_name(backend, "backend"), _strict(strict)]
        if torch.compiler.is_compiling():
            _choose_while_tracing(self)
            return
        _undecided.add(id(self))
        _latest.set(weakref.ref(self))

    def __enter__(self) -> None:
        if torch.compiler.is_compiling():
            return _enter_while_tracing(self)
        _undecided.discard(id(self))
        _blocks.set((*_blocks_here(), self))

    def __exit__(self, *_: object) -> None:
        if torch.compiler.is_compiling():
            return _exit_while_tracing(self)
        blocks = _blocks_here()
        last = max((i for i, block in enumerate(blocks) if block is self), default=None)
        if last is not None:  # else it ends in another context than it began in, where it never was in force
            _blocks.set(blocks[:last] + blocks[last + 1 :] or _NONE)

    def __repr__(self) -> str:
        _settle(self)
        return f"use_backend({self.choice.name!r}, strict={self.choice.strict})"

    def __del__(self) -> None:
        if "choice" in self.__dict__:
            _settle(self)


_blocks: contextvars.ContextVar[Any] = contextvars.ContextVar("bam_fused_blocks")  # a tuple, innermost last, or _NONE


class _Blocks:
    """The blocks as torch.compile can read them: of an attribute whose getter is C it takes the value and guards on it.

    Calling a context variable's `get` it knows since torch 2.14 only. The getter is given this object as what to give where
    no block was ever entered.
    """

    here = property(_blocks.get)


_NONE = _Blocks()
_latest: contextvars.ContextVar[weakref.ref[use_backend] | None] = contextvars.ContextVar(
    "bam_fused_call", default=None
)
_undecided: set[int] = set()  # the ids of calls of which it does not show yet what they are
_process: Choice | None = None  # what the last plain call chose


def _blocks_here() -> tuple[use_backend, ...]:
    blocks = _blocks.get(_NONE)
    return () if blocks is _NONE else blocks


def _settle(call: use_backend) -> None:
    """An undecided call is a plain one."""
    global _process
    if id(call) in _undecided:
        _undecided.discard(id(call))
        _process = call.choice


def _settle_latest() -> None:
    latest = _latest.get()
    call = latest() if latest is not None else None
    if call is not None:
        _settle(call)


def _first() -> Choice:
    """The choice before any call."""
    return CHOICES[_check_name(os.environ.get("BAM_FUSED_BACKEND") or "auto", "BAM_FUSED_BACKEND"), _strict(None)]


def current() -> Choice:
    """The choice in force here, also while torch.compile traces.

    Raises:
        ValueError: BAM_FUSED_BACKEND or BAM_FUSED_STRICT is set to something else than it can be.
    """
    return _current_while_tracing() if torch.compiler.is_compiling() else in_force()


def in_force() -> Choice:
    """`current` where nothing is traced."""
    global _process
    if _undecided:
        _settle_latest()
    blocks = _blocks.get(_NONE)
    if blocks is not _NONE:
        return blocks[-1].choice
    if _process is None:
        _process = _first()
    return _process


def current_backend() -> str:
    """The backend in force here: one of "auto", "cpu", "cuda", "triton", "eager".

    Raises:
        ValueError: BAM_FUSED_BACKEND is set to another name.
    """
    return current().name


_traced: Choice | None = (
    None  # that of the innermost block inside of what is compiled: a global, which the compiler follows
)


def _current_while_tracing() -> Choice:
    if _traced is not None:
        return _traced
    blocks = _NONE.here
    if blocks is not _NONE:
        return blocks[-1].choice
    return _process if _process is not None else _first()


def _choose_while_tracing(call: Any) -> None:
    global _process
    call.before = _process
    _process = call.choice


def _enter_while_tracing(call: Any) -> None:
    global _process, _traced
    _process = call.before
    call.before, _traced = _traced, call.choice


def _exit_while_tracing(call: Any) -> None:
    global _traced
    _traced = call.before
