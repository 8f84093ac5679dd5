"""The swap itself: the module stays the object it was, and its class becomes a subclass with the fused forward.

So isinstance, state_dict, hooks, children, train and eval are what they were. torch.nn.utils.parametrize works likewise.
"""

from __future__ import annotations

import copyreg
import functools
from typing import Any

from torch import Tensor, nn

from bam_fused.composition.path import path_of
from bam_fused.composition.plan import PLAN, Plan, plan_of


class Fused:
    """Mixed into the class of a replaced BAM.

    What makes a module fused is the plan it carries: where someone else has subclassed its class since (as fully sharded
    data parallelism does), taking the plan away is what brings its own forward back.
    """


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
    @functools.wraps(original.forward)  # tools that look at the signature see the original's
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        plan = plan_of(self)
        if plan is not None and len(args) + len(kwargs) == 1:
            x = args[0] if args else next(iter(kwargs.values()))
            path = path_of(self, plan, x)
            if path.run is not None:
                return path.run(self, plan, x)
        return original.forward(self, *args, **kwargs)

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        reduced = original.__reduce_ex__(self, max(int(protocol), 2))
        if reduced[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            return _rebuild, (original,), *reduced[2:]
        return reduced  # the original has its own way

    def extra_repr(self: nn.Module) -> str:
        plan = plan_of(self)
        ours = "" if plan is None else f"layout={plan.layout!r}, combine={plan.combine!r}"
        return ", ".join(filter(None, (original.extra_repr(self), ours)))

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
    return isinstance(module, Fused) and PLAN in module.__dict__


def original_class(module: nn.Module) -> type[nn.Module]:
    """The class that a module had before it was fused."""
    kind = type(module)
    return kind.__mro__[2] if kind in _classes.values() else kind


def fuse(module: nn.Module, plan: Plan) -> None:
    """Give a module the fused forward.

    Raises:
        TypeError: its class can not be subclassed, or its instances can not change class.
    """
    if not isinstance(module, Fused):
        module.__class__ = _fused_class(type(module))
    module.__dict__[PLAN] = plan


def unfuse(module: nn.Module) -> None:
    """Give a fused module its own forward back, and its own class where that is ours to change."""
    module.__class__ = original_class(module)
    del module.__dict__[PLAN]
