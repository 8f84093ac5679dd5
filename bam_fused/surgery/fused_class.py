"""The fused forward of a replaced BAM: its class is extended by one that runs the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from bam_fused.composition.path import path_of
from bam_fused.composition.plan import PLAN, Plan, plan_of
from bam_fused.surgery.class_swap import Extension, swap, swap_back
from bam_fused.surgery.scriptable import standing_for


class Fused:
    """Mixed into the class of a replaced BAM.

    What makes a module fused is the plan it carries: where someone else has subclassed its class since (as fully sharded
    data parallelism does), taking the plan away is what brings its own forward back.
    """


def _fused(original: type[nn.Module]) -> Extension:
    own, run = original.forward, _run

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return run(self, own, args, kwargs)

    def extra_repr(self: nn.Module) -> str:
        plan = plan_of(self)
        ours = "" if plan is None else f"layout={plan.layout!r}, combine={plan.combined!r}"
        return ", ".join(filter(None, (original.extra_repr(self), ours)))

    return Extension((Fused,), {"forward": standing_for(own, forward), "extra_repr": extra_repr})


def _run(module: nn.Module, own: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The forward of a replaced BAM: the fastest path there is, else its own."""
    plan = plan_of(module)
    if plan is not None and len(args) + len(kwargs) == 1:
        x = args[0] if args else next(iter(kwargs.values()))
        path = path_of(module, plan, x)
        if path.run is not None:
            return path.run()
    return own(module, *args, **kwargs)


def is_fused(module: nn.Module) -> bool:
    """Whether a module has been given the fused forward."""
    return isinstance(module, Fused) and PLAN in module.__dict__


def fuse(module: nn.Module, plan: Plan) -> None:
    """Give a module the fused forward.

    Raises:
        TypeError: its class can not be subclassed, or its instances can not change class.
    """
    if not isinstance(module, Fused):
        swap(module, _fused)
    module.__dict__[PLAN] = plan


def unfuse(module: nn.Module) -> None:
    """Give a fused module its own forward back, and its own class where that is ours to change."""
    swap_back(module)
    del module.__dict__[PLAN]
