"""Attach a BAM to a module of a network: as its child `bam`, acting on its output or on its input.

A Sequential gets the BAM as its last child. The class of any other module is extended by a forward that includes the
BAM: no existing state_dict key, parameter name, hook or isinstance relation changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from bam_fused.modules import BAM
from bam_fused.surgery.class_swap import Extension, swap, swap_back
from bam_fused.surgery.scriptable import refusing, wrapping
from bam_fused.surgery.walking import HIDDEN, Unscriptable

CHILD = "bam"


class Attended:
    """Mixed into the class of a module that has a BAM."""


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


def _attended_before(original: type[nn.Module]) -> Extension:
    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return original.forward(self, self.bam(x), *args, **kwargs)

    return _extension(original, forward, before=True)


def _attended_after(original: type[nn.Module]) -> Extension:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.bam(original.forward(self, *args, **kwargs))

    return _extension(original, forward, before=False)


def _extension(original: type[nn.Module], forward: Callable[..., Any], before: bool) -> Extension:
    """The forward takes any arguments, or the original's where TorchScript can compile it."""
    members: dict[str, Any] = {"forward": forward}
    hiding: tuple[type, ...] = ()
    if issubclass(original, nn.Sequential):
        hiding = (_HidesFromSequence,)
    elif issubclass(original, nn.ModuleDict):
        hiding = (_HidesFromDict,)
    try:
        members |= wrapping(original, before)
    except Unscriptable as reason:
        members["__prepare_scriptable__"] = refusing(str(reason))
    if issubclass(original, nn.modules.batchnorm._BatchNorm):
        members |= {"qconfig": property(_refuse_conversion), "__jit_unused_properties__": ("qconfig",)}
    return Extension((Attended, *hiding), members)


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
        swap(module, _attended_before if before else _attended_after)
        setattr(bam, HIDDEN, True)
    append(module, bam)


def append(module: nn.Module, bam: BAM) -> None:
    """Give the BAM to a module whose own forward runs through its children."""
    module.add_module(CHILD, bam)


def detach(module: nn.Module) -> None:
    """Undo `attach`."""
    bam = module._modules.pop(CHILD)
    vars(bam).pop(HIDDEN, None)
    if isinstance(module, Attended):
        swap_back(module)
