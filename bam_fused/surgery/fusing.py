"""Which modules a network's own rewriting for inference replaces or stops calling, so that a BAM there would vanish.

Networks with parallel branches (RepVGG, MobileOne, FastViT, RepViT) and networks of convolutions with BatchNorm (LeViT,
YOLO) bring methods that merge them into single convolutions, and libraries call those without knowing of a BAM inside.
Each such method is tried on a copy on the meta device, where it costs nothing, and what is left of the copy is looked at.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

METHODS = ("fuse", "reparameterize", "switch_to_deploy", "fuse_repvgg_block", "fuse_convs")
"""Called on each module for inference, by timm's `reparameterize_model` and by the authors' own scripts."""
FUSED_FORWARDS = ("forward_fuse", "fuseforward")
"""What YOLO's `fuse` sets as the forward of a convolution, in place of the one that has the BAM."""


@dataclass(frozen=True)
class Fusing:
    """What rewriting does to a network's modules, by the id of each."""

    lost: dict[int, str] = field(default_factory=dict)
    """The modules that it replaces or may stop calling, with the name of what does."""
    merged: set[int] = field(default_factory=set)
    """The modules that stay but lose some of their own, such as RepVGG's blocks."""


def fusing(model: nn.Module) -> Fusing:
    """Try the rewriting of every module below the model; nothing happens to the model itself."""
    found = Fusing()
    _visit(model, found)
    return found


def _visit(module: nn.Module, found: Fusing) -> None:
    for child in module.children():
        method = _method(child)
        if any(hasattr(child, name) for name in FUSED_FORWARDS):
            _lose(child, "the network's fuse()", found, itself=True)
        elif method and not _is_driver(child):
            stays, whole = _try(child, method)
            if not stays or not whole:
                _lose(child, f"its {method}()", found, itself=not stays)
                continue
        _visit(child, found)


def _lose(module: nn.Module, what: str, found: Fusing, itself: bool) -> None:
    inside = {id(part): what for part in module.modules() if itself or part is not module}
    found.lost.update(inside)
    if not itself:
        found.merged.add(id(module))


def _method(module: nn.Module) -> str:
    """The first method of this module's class that rewrites it and needs no argument: "fuse" can also mean to mix maps."""
    for name in METHODS:
        method = getattr(type(module), name, None)
        if callable(method):
            required = [
                parameter
                for parameter in list(inspect.signature(method).parameters.values())[1:]
                if parameter.default is parameter.empty
                and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            ]
            if not required:
                return name
    return ""


def _is_driver(module: nn.Module) -> bool:
    """Whether a module's method stands for those of many inside it, as a whole network's does."""
    return sum(bool(_method(part)) and not any(map(_method, part.children())) for part in module.modules()) > 8


def _try(module: nn.Module, method: str) -> tuple[bool, bool]:
    """Whether the module itself, and whether everything in it, is still there afterwards."""
    try:
        with torch.device("meta"), torch.no_grad():
            copied = _on_meta(module)
            before = set(copied.modules())
            run: Callable[[], Any] = getattr(copied, method)
            result = run()
            after = set((copied if result is None else result).modules())
    except (
        Exception
    ):  # a rewriting that the meta device can not follow: it is one that keeps the module, or is called fuse
        return method != "fuse", False
    return copied in after, before <= after


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have no storage."""
    tensors = {
        id(tensor): tensor
        for part in module.modules()
        for tensor in (*part._parameters.values(), *part._buffers.values())
        if tensor is not None
    }
    memo: dict[int, Any] = {}
    for key, tensor in tensors.items():
        empty = torch.empty_like(tensor, device="meta")
        memo[key] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, memo)
