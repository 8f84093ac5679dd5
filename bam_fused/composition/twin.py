"""A stand-in for a live module, on which drawn inputs can be run without a trace on the original."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


def twin(module: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy with parameters and buffers of its own and without anyone's hooks.

    Not `copy.deepcopy`, which would copy whatever the hooks refer to, a trainer with its data perhaps.
    """
    memo: dict[int, nn.Module] = {}
    copied = _twin(module, dtype, memo)
    for copy in memo.values():
        for name, value in copy.__dict__.items():
            if name not in ("_parameters", "_buffers", "_modules"):
                copy.__dict__[name] = _remapped(value, memo)
    return copied


def _remapped(value: Any, memo: dict[int, nn.Module]) -> Any:
    """An attribute with the originals in it, plain lists of layers or bound methods say, replaced by their copies."""
    if isinstance(value, nn.Module):
        return memo.get(id(value), value)
    if isinstance(value, MethodType) and id(value.__self__) in memo:
        return MethodType(value.__func__, memo[id(value.__self__)])
    if type(value) in (list, tuple):
        return type(value)(_remapped(item, memo) for item in value)
    if type(value) is dict:
        return {key: _remapped(item, memo) for key, item in value.items()}
    return value


def _twin(module: nn.Module, dtype: torch.dtype | None, memo: dict[int, nn.Module]) -> nn.Module:
    if id(module) in memo:
        return memo[id(module)]
    copy = memo[id(module)] = object.__new__(type(module))
    inside = dict(module.__dict__)
    for name, value in inside.items():
        if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")) and isinstance(value, dict):
            inside[name] = type(value)()

    def own(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        value = tensor.detach().clone()
        return value.to(dtype) if value.is_floating_point() else value

    inside["_compiled_call_impl"] = None
    inside["_buffers"] = {name: own(buffer) for name, buffer in module._buffers.items()}
    inside["_parameters"] = {
        name: None if (value := own(parameter)) is None else nn.Parameter(value, value.is_floating_point())
        for name, parameter in module._parameters.items()
    }
    inside["_modules"] = {
        name: None if child is None else _twin(child, dtype, memo) for name, child in module._modules.items()
    }
    copy.__dict__.update(inside)
    return copy


def set_mode(module: nn.Module, train: bool) -> None:
    """Train or eval; a SyncBatchNorm stays in eval, since in training it would wait for other processes."""
    for child in module.modules():
        child.training = train and not isinstance(child, nn.SyncBatchNorm)


@torch.no_grad()
def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Weights at which no two ways of combining the branches agree: logits near one, running statistics off default."""
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu")
        if value.dim() > 1:
            noise = noise / value[0].numel() ** 0.5
        elif name.endswith(("weight", "running_var")):
            noise = 0.7 + noise.abs()
        value.copy_(noise.to(value.dtype))
