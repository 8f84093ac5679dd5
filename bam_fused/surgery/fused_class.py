"""The swap itself: the module stays the object it was, and its class becomes a subclass with the fused forward.

So isinstance, state_dict, hooks, children, train and eval are what they were. torch.nn.utils.parametrize works likewise.
"""

from __future__ import annotations

import copyreg
from typing import Any

from torch import Tensor, nn

from bam_fused.layouts.live import Plan, can_run, run

_PLAN = "_bam_fused_plan"


class Fused:
    """Mixed into the class of a replaced BAM."""


def _rebuild(original: type[nn.Module]) -> nn.Module:
    """An empty instance of the fused subclass, for pickle and copy to fill."""
    return object.__new__(_fused_class(original))


_classes: dict[type[nn.Module], type[nn.Module]] = {}


def _fused_class(original: type[nn.Module]) -> type[nn.Module]:
    """The fused subclass of a class, made once."""
    if original not in _classes:
        _classes[original] = _make_class(original)
    return _classes[original]


def _make_class(original: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        plan: Plan = self.__dict__[_PLAN]
        x = args[0] if args else next(iter(kwargs.values()), None)
        if len(args) + len(kwargs) == 1 and isinstance(x, Tensor) and can_run(self, plan, x):
            return run(self, plan, x)
        return original.forward(self, *args, **kwargs)

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        reduced = original.__reduce_ex__(self, max(int(protocol), 2))
        if reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            return _rebuild, (original,), *reduced[2:]
        return reduced  # the original has its own way

    def extra_repr(self: nn.Module) -> str:
        plan: Plan = self.__dict__[_PLAN]
        return ", ".join(filter(None, (original.extra_repr(self), f"layout={plan.layout!r}, combine={plan.combine!r}")))

    return type(
        f"Fused{original.__name__}",
        (Fused, original),
        {
            "__module__": original.__module__,
            "__doc__": original.__doc__,
            "__reduce_ex__": __reduce_ex__,
            "forward": forward,
            "extra_repr": extra_repr,
        },
    )


def is_fused(module: nn.Module) -> bool:
    """Whether a module has been given the fused forward."""
    return isinstance(module, Fused)


def plan_of(module: nn.Module) -> Plan:
    """The plan that a fused module runs."""
    return module.__dict__[_PLAN]


def original_class(module: nn.Module) -> type[nn.Module]:
    """The class that a module had before it was fused."""
    return type(module).__mro__[2] if is_fused(module) else type(module)


def fuse(module: nn.Module, plan: Plan) -> None:
    """Give a module the fused forward.

    Raises:
        TypeError: its class can not be subclassed, or its instances can not change class.
    """
    module.__class__ = _fused_class(type(module))
    module.__dict__[_PLAN] = plan


def unfuse(module: nn.Module) -> None:
    """Give a fused module its own class back."""
    module.__class__ = original_class(module)
    del module.__dict__[_PLAN]
