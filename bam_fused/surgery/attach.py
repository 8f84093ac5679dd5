"""Attach a BAM to a module of a network: as its child `bam`, acting on its output or on its input.

A Sequential gets the BAM as its last child. Any other module stays the object it is and its class becomes a subclass
whose forward includes the BAM, as torch.nn.utils.parametrize does: no existing state_dict key, parameter name, hook
or isinstance relation changes, and deepcopy, pickle, DataParallel and torch.compile see an ordinary module.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bam_fused.modules import BAM

CHILD = "bam"


class Attended:
    """Mixed into the class of a module that has a BAM."""


def _rebuild(original: type[nn.Module], before: bool) -> nn.Module:
    """An empty instance of the subclass, for pickle and copy to fill."""
    return object.__new__(_attended_class(original, before))


class _HidesBAM:
    """For containers whose forward walks through their children: the BAM is not one of those."""

    _modules: dict[str, nn.Module]

    def _own(self) -> dict[str, nn.Module]:
        return {name: child for name, child in self._modules.items() if name != CHILD}

    def __len__(self) -> int:
        return len(self._own())


class _HidesFromSequence(_HidesBAM):
    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._own().values())


class _HidesFromDict(_HidesBAM):
    def __iter__(self) -> Iterator[str]:
        return iter(self._own())

    def keys(self) -> Any:
        return self._own().keys()

    def values(self) -> Any:
        return self._own().values()

    def items(self) -> Any:
        return self._own().items()


_classes: dict[tuple[type[nn.Module], bool], type[nn.Module]] = {}


def _attended_class(original: type[nn.Module], before: bool) -> type[nn.Module]:
    """The subclass of a class with a BAM before or after its forward, made once."""
    if (original, before) not in _classes:
        _classes[original, before] = _make_class(original, before)
    return _classes[original, before]


def _make_class(original: type[nn.Module], before: bool) -> type[nn.Module]:

    def forward_before(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return original.forward(self, self.bam(x), *args, **kwargs)

    def forward_after(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.bam(original.forward(self, *args, **kwargs))

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        reduced = original.__reduce_ex__(self, max(int(protocol), 2))
        if reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            return _rebuild, (original, before), *reduced[2:]
        return reduced  # the original has its own way

    namespace: dict[str, Any] = {
        "__module__": original.__module__,
        "__doc__": original.__doc__,
        "__reduce_ex__": __reduce_ex__,
        "forward": forward_before if before else forward_after,
    }
    hiding: tuple[type, ...] = ()
    if issubclass(original, nn.Sequential):
        hiding = (_HidesFromSequence,)
    elif issubclass(original, nn.ModuleDict):
        hiding = (_HidesFromDict,)
    if issubclass(original, nn.modules.batchnorm._BatchNorm):
        namespace["qconfig"] = property(_refuse_conversion)
    return type(f"Attended{original.__name__}", (Attended, *hiding, original), namespace)


def _refuse_conversion(module: nn.Module) -> None:
    """A property of BatchNorms that have a BAM, which no BatchNorm has otherwise.

    `SyncBatchNorm.convert_sync_batchnorm` replaces BatchNorms by new modules and would lose the BAM without a word. It asks
    each for this property, so this is where it can be stopped.
    """
    if sys._getframe(1).f_code.co_name == "convert_sync_batchnorm":
        raise RuntimeError(
            "a BatchNorm that has a BAM can not be converted, the BAM would be lost: call convert_sync_batchnorm first, "
            "then insert_bam"
        )
    raise AttributeError("qconfig")


def check(module: nn.Module, name: str) -> None:
    """Raise ValueError if the module, called `name` in the model, can not get a BAM."""
    if hasattr(module, CHILD):
        raise ValueError(f"{name!r} already has a {CHILD!r}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"{name!r} is a scripted module, whose class can not change: insert before scripting")
    if "forward" in vars(module):
        raise ValueError(f"{name!r} has a forward of its own on the instance, which a BAM would not follow")


def attach(module: nn.Module, bam: BAM, before: bool) -> None:
    """Give a module the BAM, before or after its forward."""
    if before or type(module).forward is not nn.Sequential.forward:
        module.__class__ = _attended_class(type(module), before)
    append(module, bam)


def append(module: nn.Module, bam: BAM) -> None:
    """Give the BAM to a module whose own forward runs through its children."""
    module.add_module(CHILD, bam)


def detach(module: nn.Module) -> None:
    """Undo `attach`."""
    del module._modules[CHILD]
    if isinstance(module, Attended):
        module.__class__ = _original_class(type(module))


def _original_class(attended: type) -> type:
    """The class that `attended` was made from: the first of its bases that is a module."""
    return next(base for base in attended.__bases__ if issubclass(base, nn.Module))
