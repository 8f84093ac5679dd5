"""A BAM around the layers of a live module of another implementation: the body of `BAM.from_module`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

from torch import nn

from bam_fused.composition.from_layout import child_names, entry_names, make_plan
from bam_fused.composition.verify import Differs, verify
from bam_fused.layouts import convert
from bam_fused.layouts.layout import Fit
from bam_fused.layouts.recognise import recognise, why_not
from bam_fused.wrappers import unwrapped

Module = TypeVar("Module", bound=nn.Module)


def adopt(make: Callable[..., Module], module: nn.Module, legacy_pool: bool | None) -> Module:
    """What `make`, called with BAM's options, gives, with module's own layers and norms in it; see `BAM.from_module`."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    module = unwrapped(module)
    names, children = entry_names(module), child_names(module)
    fit = recognise(names, children)
    if fit is None:
        raise ValueError(f"module can not be read as a BAM: {why_not(names, children)}")
    try:
        plan = verify(module, make_plan(module, fit), legacy_pool).plan
    except Differs as differs:
        raise ValueError(f"module can not be read as a BAM of layout {fit.layout.name!r}: {differs}") from differs
    if plan.only_layer_by_layer is not None:
        raise ValueError(f"module can not be read as a BAM: {plan.only_layer_by_layer}, which BAM does not")
    fit = replace(fit, channel=fit.channel if plan.channel else (), spatial=fit.spatial if plan.spatial else ())
    _check_activations(module, fit)
    dilated = [cast(nn.Conv2d, module.get_submodule(row.layer)) for row in fit.spatial[1:-1]]
    state = dict(module.named_parameters(remove_duplicate=False))
    paddings = [conv.dilation[0] if conv.padding == "same" else int(conv.padding[0]) for conv in dilated]
    bam = make(
        **convert.options(fit, *convert.widths(fit, state), state),
        combine=plan.combine,
        mlp="conv" if plan.convolves else "linear",
        **({"dilation": [conv.dilation[0] for conv in dilated], "padding": paddings} if dilated else {}),
        legacy_pool=plan.crops,
        device="meta",  # every layer is put in below
    )
    bam.train(module.training)
    for layer, norm, row in fit.layers():
        bam.set_submodule(layer, module.get_submodule(row.layer))
        if row.norm is not None:
            bam.set_submodule(norm, module.get_submodule(row.norm))
    return bam


def _check_activations(module: nn.Module, fit: Fit) -> None:
    children = dict(module.named_modules(remove_duplicate=False))
    for _, _, row in fit.layers():
        child = children.get(row.relu) if isinstance(row.relu, str) else None
        if child is not None and not isinstance(child, nn.ReLU):
            raise ValueError(f"module can not be read as a BAM: its {row.relu} is a {type(child).__name__}, not a ReLU")
