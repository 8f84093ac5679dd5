"""What DataParallel and torch.compile put around a model and in front of its names, and how to see through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from torch import nn

PREFIXES = ("module.", "_orig_mod.")
"""In front of names: left by DataParallel and DistributedDataParallel, and by torch.compile."""

Value = TypeVar("Value")


def unwrapping(model: nn.Module) -> Iterator[nn.Module]:
    """The model, then what each DataParallel, DistributedDataParallel or torch.compile wrapper around it holds."""
    yield model
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or set(model._modules) == {
        "_orig_mod"
    }:
        (model,) = model._modules.values()  # type: ignore[assignment]
        yield model


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel, DistributedDataParallel and torch.compile wrappers, however many."""
    *_, inner = unwrapping(model)
    return inner


def unwrapped_name(name: str) -> str:
    """A name without what wrappers put in front of it."""
    while (prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)) is not None:
        name = name.removeprefix(prefix)
    return name


def unwrapped_names(entries: Mapping[str, Value]) -> dict[str, Value]:
    """The entries of a state_dict without what wrappers put in front of every name."""
    found = dict(entries)
    while found and (prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None)):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found
