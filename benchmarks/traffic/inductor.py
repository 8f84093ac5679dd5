"""Traffic of the C++ that torch.compile generates for the CPU: every loop nest reads and writes its arrays once.

Inductor puts several loop nests into one C++ function. Each outermost loop walks its arrays anew, so the nests are counted
and not the functions. What a nest reads again within one iteration of its outermost loop counts once: it is in the cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from traffic.counter import DispatchCounter, Traffic, touched_bytes

_ARRAY = re.compile(r"\b(?:in_out|in|out)_ptr\d+\b")
_ALIAS = re.compile(r"auto\s+(\w+_ptr\d+)\s*=\s*(\w+_ptr\d+);")
_WRITE = re.compile(r"(?:store\(|atomic_add\(&)\s*((?:in_)?out_ptr\d+)|\b((?:in_)?out_ptr\d+)\[[^;=]*\]\s*=(?!=)")


def _block_end(code: str, start: int) -> int:
    """The end of the statement that starts at `start`: its closing brace, or its semicolon where it has no block."""
    depth = 0
    for i in range(start, len(code)):
        if code[i] in "{(":
            depth += 1
        elif code[i] in "})":
            depth -= 1
            if depth == 0 and code[i] == "}":
                return i + 1
        elif code[i] == ";" and depth == 0:
            return i + 1
    return len(code)


def loop_nests(code: str) -> list[str]:
    """The text of every outermost loop of a generated function."""
    nests, position = [], 0
    while (found := re.compile(r"\bfor\s*\(").search(code, position)) is not None:
        position = _block_end(code, found.start())
        nests.append(code[found.start() : position])
    return nests


def arrays_of(nest: str) -> tuple[set[str], set[str]]:
    """The arrays that a loop nest reads, and those that it writes."""
    written = {first or second for first, second in _WRITE.findall(nest)}
    read = set(_ARRAY.findall(_WRITE.sub(" ", nest)))
    return read, written


def _parameters(code: str) -> list[str]:
    signature = code[code.index('extern "C"') :].partition("(")[2].partition(")")[0]
    return [parameter.split()[-1] for parameter in signature.split(",") if parameter.strip()]


def count_kernel(code: str, tensors: tuple[Any, ...], traffic: Traffic) -> None:
    """Add one call of a generated function, given the tensors it is called with."""
    sizes = {
        name: touched_bytes(tensor)
        for name, tensor in zip(_parameters(code), tensors, strict=False)
        if isinstance(tensor, Tensor)
    }
    body = code[code.index('extern "C"') :]
    for alias, array in _ALIAS.findall(body):  # an array that is updated in place has two names
        body = re.sub(rf"\b{alias}\b", array, body)
    for nest in loop_nests(body):
        read, written = arrays_of(nest)
        traffic.bytes += sum(sizes[name] for name in (*read, *written))
        traffic.launches += 1


@contextmanager
def counting(traffic: Callable[[], Traffic]) -> Iterator[None]:
    """Have every function that is compiled inside this block add what it moves to `traffic()` at each call.

    Its generated kernels are counted by loop nests; what it hands to PyTorch's own operators, such as convolutions, by
    operator.
    """
    from torch._inductor import config
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.output_code import CompiledFxGraph

    load, call_graph = AsyncCompile.cpp_pybinding, CompiledFxGraph.__call__

    def load_counted(self: Any, argument_types: list[str], code: str) -> Callable[..., Any]:
        kernel = load(self, argument_types, code)

        def call(*arguments: Any) -> Any:
            count_kernel(code, arguments, traffic())
            run = kernel if callable(kernel) else kernel.result()  # compiled in another process
            return run(*arguments)

        return call

    def call_graph_counted(self: Any, inputs: Any) -> Any:
        with DispatchCounter(traffic()):  # not around the whole call: torch.compile steps aside under a dispatch mode
            return call_graph(self, inputs)

    torch._dynamo.reset()
    PyCodeCache.cache_clear()  # wrappers that are already loaded hold kernels that do not count
    with (
        mock.patch.object(AsyncCompile, "cpp_pybinding", load_counted),
        mock.patch.object(CompiledFxGraph, "__call__", call_graph_counted),
        config.patch(fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False),
    ):
        yield
    torch._dynamo.reset()
    PyCodeCache.cache_clear()
