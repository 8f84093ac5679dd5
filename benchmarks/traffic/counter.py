"""Bytes that cross the memory interface: what a tensor counts for, and the sum over a call's operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

WRITTEN_ONLY = ("copy_", "fill_", "zero_")
ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


@dataclass
class Traffic:
    """What a call moves."""

    bytes: int = 0
    launches: int = 0


def touched_bytes(tensor: Tensor) -> int:
    """The bytes behind a tensor, each once: a broadcast dimension (stride 0) costs nothing."""
    count = tensor.element_size() if tensor.numel() else 0
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count


def tensors_in(value: Any) -> Iterable[Tensor]:
    """Every tensor in nested tuples, lists and dictionaries."""
    return (leaf for leaf in tree_iter(value) if isinstance(leaf, Tensor))


class DispatchCounter(TorchDispatchMode):
    """Counts every operator that PyTorch dispatches: one launch each, its inputs read and its outputs written once.

    Views and bare allocations move nothing. An operator written in place reads and writes its tensor.
    """

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        if name in ALLOCATIONS:
            return result
        inputs = list(tensors_in((args, kwargs)))
        in_place = func._schema.is_mutable
        storages = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        outputs = list(tensors_in(result))
        if not in_place and outputs and all(out.untyped_storage().data_ptr() in storages for out in outputs):
            return result  # a view
        read = inputs[1:] if name in WRITTEN_ONLY else inputs
        self.traffic.bytes += sum(map(touched_bytes, [*read, *outputs]))
        self.traffic.launches += 1
        return result
