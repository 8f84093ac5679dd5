"""replace_bam and restore_bam: walk a model, judge each module that looks like a BAM, swap those that prove to be one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from bam_fused.composition import verify as verification
from bam_fused.composition.explain import paths_of
from bam_fused.composition.from_layout import child_names, entry_names, make_plan
from bam_fused.composition.plan import plan_of
from bam_fused.composition.verify import Differs, Verified
from bam_fused.layouts import LAYOUTS
from bam_fused.layouts.layout import Fit
from bam_fused.layouts.recognise import closest, recognise, why_not
from bam_fused.modules import BAM
from bam_fused.surgery.class_swap import original_class
from bam_fused.surgery.fused_class import fuse, is_fused, unfuse
from bam_fused.surgery.report import Entry, Report

_CALLED_BAM = re.compile(
    r"(?:^|_|[a-z0-9])(?:BAM|Bam|bam|Bottleneck_?Attention)[sS]?_?(?:Block|Module|Layer|Adapter|[cC]hannel|[sS]patial|[23]d)?$"
)
"""Class names that say BAM, and not CBAM, nor the name of a network or unit that has one."""

_REWRITTEN = {
    ".parametrizations.": "a parametrization (weight_norm, spectral_norm)",
    ".weight_mask": "pruning",
    ".weight_u": "spectral_norm",
    ".weight_g": "weight_norm",
}
"""Entries that torch.nn.utils adds to a layer whose weight it computes, with what adds them."""


def replace_bam(model: nn.Module, *, verify: bool = True, legacy_pool: bool | None = None) -> Report:
    """Give every BAM in a live model the fused forward, in place.

    BAMs are recognised by the names of their layers (see `bam_fused.layouts`), wherever they are: inside Sequential,
    DataParallel, DistributedDataParallel or torch.compile wrappers, or as the model itself. Each is first compared with the
    fused forward on drawn inputs (eval, training, gradients, running statistics, maps that are not square), on copies, which
    also tells whether it adds or multiplies its branches. What computes something else is left alone. Parameters, state_dict
    keys, hooks, train and eval, deepcopy and pickling stay as they were; the model, its gradients and the random number
    generators are not touched otherwise.

    Args:
        model: any module.
        verify: False trusts the names: a BAM is taken to compute what its layout's own code computes.
        legacy_pool: the authors' code pools only the left H x H crop of a map with H < W < 2H, and fails on other maps that
            are not square. None and True keep that where the original has it, so that results stay what they were on every
            input; False gives every BAM true global pooling, the same on square maps.

    Returns:
        One entry for each BAM and for each module that only looks like one, with what was done and why, and which paths it
        takes in inference and in training; prints as a table.
        BAMs that an earlier call replaced are in it and stay as they are.

    Raises:
        TypeError: model is not a module, verify is no bool, or legacy_pool neither a bool nor None.
    """
    _check_module(model)
    if not isinstance(verify, bool):
        raise TypeError(f"verify must be a bool, got {type(verify).__name__}")
    if not isinstance(legacy_pool, bool | None):
        raise TypeError(f"legacy_pool must be a bool or None, got {type(legacy_pool).__name__}")
    entries: list[Entry] = []
    seen: dict[int, bool] = {}

    def visit(name: str, module: nn.Module) -> bool:
        """Judge a module and what is inside it; whether there is a BAM."""
        if id(module) in seen:
            return seen[id(module)]
        seen[id(module)] = True  # an ancestor of itself ends here
        entry = _judge(name, module, verify, legacy_pool)
        if entry is not None:
            entries.append(entry)
            return True
        place = len(entries)
        inside = [visit(f"{name}.{child}" if name else child, sub) for child, sub in module.named_children()]
        stranger = None if any(inside) else _stranger(name, module)
        if stranger is not None and (stranger.layout or not entries[place:]):
            entries[place:] = [stranger]  # in place of its own parts; a network only called like a BAM hides none
        seen[id(module)] = any(inside)
        return seen[id(module)]

    visit("", model)
    return Report(entries)


def restore_bam(model: nn.Module) -> int:
    """Undo `replace_bam`: every BAM in the model gets its own forward back; how many did.

    Raises:
        TypeError: model is not a module.
    """
    _check_module(model)
    fused = [module for module in model.modules() if is_fused(module)]
    for module in fused:
        unfuse(module)
    return len(fused)


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def _judge(name: str, module: nn.Module, check: bool, legacy_pool: bool | None) -> Entry | None:
    """The entry of a module whose own names are those of a BAM, which is fused if it proves to be one; else None."""
    if is_fused(module) or isinstance(module, BAM):
        return _entry(name, module, None, "already" if is_fused(module) else "bam_fused.BAM, fused as it is")
    fit = _fit(module)
    if fit is None:
        return None
    kind, layout = type(module).__name__, fit.layout.name
    try:
        verified = _verified(module, fit, check, legacy_pool)
        fuse(module, verified.plan)
    except Differs as differs:
        return Entry(name, kind, layout, reason=str(differs))
    except Exception as error:
        return Entry(name, kind, layout, reason=f"can not be replaced: {type(error).__name__}: {error}")
    return _entry(name, module, verified.difference if check else None, verified.note)


def _entry(name: str, module: nn.Module, difference: float | None, note: str) -> Entry:
    """The entry of a module that runs a plan."""
    plan, kind = plan_of(module), original_class(module).__name__
    assert plan is not None
    return Entry(name, kind, plan.layout, plan.combined, plan.channels, difference, True, note, paths_of(module))


def _verified(module: nn.Module, fit: Fit, check: bool, legacy_pool: bool | None) -> Verified:
    if isinstance(module, torch.jit.ScriptModule):
        raise Differs("is scripted: replace it before torch.jit.script")
    for name, child in module.named_modules():
        if "forward" in child.__dict__:  # it would run on the original, not on the copies that are compared
            raise Differs(f"{'the forward of ' + name if name else 'its forward'} is set on the instance")
    plan = make_plan(module, fit)
    if check:
        return verification.verify(module, plan, legacy_pool)
    return Verified(replace(plan, crops=legacy_pool is not False and fit.layout.crops), 0.0, "not verified")


def _looks_like_layout(module: nn.Module) -> bool:
    return any(layout.may_be(module._modules.keys()) for layout in LAYOUTS.values())


def _fit(module: nn.Module) -> Fit | None:
    return recognise(entry_names(module), child_names(module)) if _looks_like_layout(module) else None


def _stranger(name: str, module: nn.Module) -> Entry | None:
    """The entry of a module that is called a BAM, or has nearly the names of one, and is none; it is not run."""
    called, shaped = _CALLED_BAM.search(type(module).__name__), _looks_like_layout(module)
    if not called and not shaped:
        return None
    keys = entry_names(module)
    near = closest(keys, child_names(module)) if shaped else None
    if not keys or not (called or near):
        return None
    reason = _rewritten(keys) or why_not(keys, child_names(module), most=3)
    return Entry(name, type(module).__name__, near and near[0].layout.name, reason=reason)


def _rewritten(keys: Sequence[str]) -> str:
    """What says that a weight is computed in each forward, by pruning or a parametrization; empty where none is."""
    for mark, what in _REWRITTEN.items():
        for key in keys:
            layer, found, _ = key.rpartition(mark)
            if found:
                return (
                    f"the weight of {layer.rstrip('.')} is computed anew in each forward by {what}: call replace_bam before "
                    "that, or after it was made permanent"
                )
    return ""
