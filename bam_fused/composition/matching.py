"""Which plan gives a live module's output: key names tell neither how the branches are combined nor what is returned."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from bam_fused.composition.outputs import Differs, Outputs, agree, candidate, difference, gap, original
from bam_fused.composition.plan import ATTENDED, ATTENTION, Plan
from bam_fused.composition.twin import set_mode
from bam_fused.reference import COMBINES


def matching(drawn: nn.Module, plan: Plan, x: Tensor) -> tuple[Plan, float]:
    """The plan that gives what the module returns on x in inference, and the largest difference.

    Raises:
        Differs: none does; the message says what the module computes, where that is known, or how far the nearest is.
    """
    set_mode(drawn, False)
    wants = original(drawn, x)
    forms = _forms(drawn, plan)
    both = {name: candidate(drawn, replace(form, returns=(ATTENDED, ATTENTION)), x) for name, form in forms.items()}
    best = min(both, key=lambda name: _gap(wants, both[name]))
    found = replace(forms[best], returns=_returned(wants, both[best]))
    try:
        return found, difference(wants, candidate(drawn, found, x), f"even as the nearest form, {best!r},")
    except Differs:
        _name_other_formula(wants, list(both.values()), x)
        raise


def _forms(module: nn.Module, plan: Plan) -> dict[str, Plan]:
    """The plans that a module with these layers may follow."""
    if plan.branches != "both":
        return {plan.branches: plan}
    forms = {combine: replace(plan, combine=combine) for combine in COMBINES}
    return forms | {f"{branch} alone": plan.alone(module, branch) for branch in ("channel", "spatial")}


def _returned(wants: Outputs, both: Outputs) -> tuple[str, ...]:
    """For each output what it is nearer to, F' or the attention."""
    return tuple(min((ATTENDED, ATTENTION), key=lambda what: gap(want, _of(both, what))[0]) for want in wants)


def _gap(wants: Outputs, both: Outputs) -> float:
    return max(gap(want, _of(both, what))[0] for want, what in zip(wants, _returned(wants, both), strict=True))


def _of(both: Outputs, what: str) -> Tensor:
    return both[(ATTENDED, ATTENTION).index(what)]


def _name_other_formula(wants: Outputs, forms: list[Outputs], x: Tensor) -> None:
    """Raise Differs where a module returns what is known, and no BAM's."""
    for attended, attention in forms:
        if agree(wants[0], attended - x):
            raise Differs("it returns F * sigmoid(...) without the F that a BAM adds")
        if agree(wants[0], attention - 1):
            raise Differs("it returns sigmoid(...) without the 1 that a BAM adds")
