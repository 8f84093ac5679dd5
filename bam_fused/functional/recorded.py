"""Calls under torch.fx, which runs code on proxies and writes down what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Proxy

__all__ = ["Proxy", "recorded"]


def recorded(function: Callable[..., Any], x: Proxy, *arguments: Any) -> Any:
    """A call of one of our functions as one node of the graph, which calls the function when it runs."""
    return x.tracer.create_proxy("call_function", function, (x, *arguments), {})
