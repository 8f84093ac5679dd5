"""What a forward leaves on its module beside the output: an attention map kept for a picture, a count of calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

_COMPARED_OTHERWISE = ("_parameters", "_buffers", "_modules")


def left_by(module: nn.Module, call: Callable[[], object]) -> set[str]:
    """The attributes, of the module and of all inside it, that a call sets anew, or whose size it changes."""
    before = _attributes(module)
    call()
    after = _attributes(module)
    return {
        name
        for name, (value, size) in after.items()
        if name not in before or before[name][0] is not value or before[name][1] != size
    }


def _attributes(module: nn.Module) -> dict[str, tuple[Any, int]]:
    """Every attribute that is no parameter, buffer or child, with its length where that can change in place."""
    return {
        f"{path}.{name}".removeprefix("."): (value, len(value) if isinstance(value, (list, dict, set)) else 0)
        for path, inner in module.named_modules()
        for name, value in inner.__dict__.items()
        if name not in _COMPARED_OTHERWISE
    }
