"""Out of memory in a compiled library's operator, as PyTorch's own operators tell of it.

An error on its way through the stable ABI loses its class. Before torch 2.13 it loses its words too, and PyTorch prints
them to stderr, with some thirty lines of stack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

TOLD = torch.__version__ >= "2.13"
"""Whether a library hears from PyTorch why an allocation has failed, and throws that on (csrc/shared/stable.h)."""


def tried_first(operator: Callable[..., Any], results: Callable[..., Any]) -> Callable[..., Any]:
    """The operator where PyTorch does not tell: its results are allocated beforehand, where PyTorch's error is raised."""

    def run(*arguments: Any) -> Any:
        results(*arguments)
        return operator(*arguments)

    return run


def typed(operator: Callable[..., Any], results: Callable[..., Any]) -> Callable[..., Any]:
    """The operator with `torch.OutOfMemoryError` where CUDA's memory is short, which arrives as a plain RuntimeError.

    Where PyTorch does not tell why it has failed, its results are allocated afterwards: if it was memory, that raises.
    """

    @functools.wraps(operator)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return operator(*arguments, **named)
        except RuntimeError as failure:
            if type(failure) is not RuntimeError:
                raise
            if str(failure).startswith("CUDA out of memory"):
                raise torch.OutOfMemoryError(*failure.args) from None
            if not TOLD:
                results(*arguments, **named)
            raise

    return run


def type_in_graphs(overload: Any, results: Callable[..., Any]) -> None:
    """Have graphs, which call the operator's overload itself, raise the same.

    The class cannot come out of the library: all that the stable ABI hands over of an error is its words. What Inductor
    generates calls the overload as the object in Python that it is, and that calls what it holds: there is the last place
    to give the error its class, at the cost of a function call. Code generated in C++ goes past it.
    """
    if torch.version.cuda is not None and hasattr(overload, "_op"):
        overload._op = typed(overload._op, results)


def bare(overload: Any) -> Callable[..., Any]:
    """What an overload calls, without the calls in Python around it."""
    held = getattr(overload, "_op", overload)
    inner: Callable[..., Any] = getattr(held, "__wrapped__", held)
    return inner
