"""Which path a BAM takes on an input: the fastest that may stand for its forward there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from bam_fused.composition import step, training, waits, whole
from bam_fused.composition.plan import Live, Plan, live
from bam_fused.composition.run import run


class Candidate(NamedTuple):
    """A path for a whole module that reads its layers' tensors and does not call them."""

    name: str
    why_not: Callable[[Live, Tensor], str | None]
    """Why it can not run this module on this x, cheaply, or None. x is (N, C, H, W) and nothing waits on a child."""
    run: Callable[[Live, Tensor], Any]


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("one operator", whole.why_not, whole.run),
    Candidate("fused branches", step.why_not, step.run),
    Candidate("two passes", training.why_not, training.run),
)
"""The paths faster than the composed one, the fastest first."""


class Path(NamedTuple):
    """What runs, and why nothing faster does."""

    name: str
    """One of `CANDIDATES`, "composed" (layer by layer) or "own forward" (the module's, its children called by it)."""
    run: Callable[[], Any] | None
    """The forward, on this x and on the layers as they are now; None for the own forward."""
    refused: tuple[tuple[str, str], ...] = ()
    """The faster paths and why each can not be taken."""

    @property
    def reason(self) -> str:
        """Why it is not the fastest; empty where it is."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.refused)

    def described(self) -> str:
        """Its name, and why it is not the fastest."""
        return f"{self.name} (not {self.reason})" if self.refused else self.name


def path_of(module: nn.Module, plan: Plan, x: object) -> Path:
    """The path of a module that carries a plan on an input, in a few microseconds."""
    reason = why_not_by_plan(module, plan, x)
    if reason is not None:
        return Path("own forward", None, (("composed", reason),))
    refused: tuple[tuple[str, str], ...] = ()
    if CANDIDATES:
        now = live(module, plan)
        reason = plan.only_layer_by_layer or waits.on_a_layer(now)
        for candidate in CANDIDATES:
            why_not = reason or candidate.why_not(now, x)  # type: ignore[arg-type]
            if why_not is None:
                return Path(candidate.name, partial(candidate.run, now, x), refused)  # type: ignore[arg-type]
            refused += ((candidate.name, why_not),)
    return Path("composed", partial(run, module, plan, x), refused)  # type: ignore[arg-type]


def why_not_by_plan(module: nn.Module, plan: Plan, x: object) -> str | None:
    """Why the plan can not stand for the module's own forward on this input; None where it can.

    It does not for what is no feature map, for a map that the authors' pool refuses, nor while something waits on a child
    that the plan does not call.
    """
    if not isinstance(x, Tensor) or x.dim() != 4:
        return "x is no (N, C, H, W) tensor"
    if plan.crops and not x.shape[2] <= x.shape[3] < 2 * x.shape[2]:
        return "x is not H <= W < 2H, which the authors' pool needs"
    return waits.on_a_container(module, plan)
