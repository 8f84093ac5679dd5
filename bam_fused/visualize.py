"""Attention maps and feature maps of every BAM in a model, as tensors and as pictures.

maps = bam_fused.visualize.attention_maps(model, images)
bam_fused.visualize.draw(maps, images).savefig("attention.png")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bam_fused import reference
from bam_fused.composition.from_layout import child_names, entry_names, make_plan
from bam_fused.composition.plan import ATTENDED, Plan, plan_of
from bam_fused.composition.run import logits
from bam_fused.composition.verify import Differs, verify
from bam_fused.layouts.recognise import recognise
from bam_fused.surgery.dry_run import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AttentionMap:
    """What one BAM did in one forward; tensors on the CPU, in at least float32."""

    name: str
    """The BAM's name in the model."""
    features: Tensor
    """F, its input (N, C, H, W)."""
    attention: Tensor
    """M(F) from 0 to 1, its attention (N, C, H, W): the paper's equation 2."""
    refined: Tensor
    """F', its output (N, C, H, W)."""


def attention_maps(model: nn.Module, images: Any) -> list[AttentionMap]:
    """Run a model in eval mode and say what each of its BAMs did, in the order in which they ran.

    Args:
        model: has `BAM` modules, modules that `replace_bam` has given the fused forward, or BAMs of other implementations
            that `replace_bam` would recognise. It is left as it was.
        images: its input, usually (N, 3, H, W); a tuple is passed as several arguments.

    Raises:
        TypeError: model is not a module.
        ValueError: the model has no BAM, or ran none.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    found: list[AttentionMap] = []
    hooks = []
    for name, module in model.named_modules():
        plan = _plan(module)
        if plan is not None:
            hooks.append(module.register_forward_hook(_recorder(name, plan, found), with_kwargs=True))
    if not hooks:
        raise ValueError("model has no BAM: insert_bam puts one in")
    try:
        with evaluating(model):
            model(*(images if isinstance(images, tuple) else (images,)))
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError("model has BAMs, but its forward calls none of them")
    return found


def _plan(module: nn.Module) -> Plan | None:
    """The plan of a module that is a BAM: the one it carries, or what `replace_bam` would give it."""
    plan = plan_of(module)
    fit = None if plan is not None else recognise(entry_names(module), child_names(module))
    if fit is None:
        return plan
    try:
        return verify(module, make_plan(module, fit)).plan
    except (Differs, ValueError):
        return None  # it has the names of a BAM and computes something else


def _recorder(name: str, plan: Plan, found: list[AttentionMap]) -> Any:
    def record(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        x = (*inputs, *keywords.values())[0].detach()
        attention = _attention(module, plan, x)
        attended = output if plan.returns == (ATTENDED,) else x + x * attention.to(x.dtype)
        found.append(AttentionMap(name, *(_kept(tensor) for tensor in (x, attention, attended))))

    return record


def _attention(module: nn.Module, plan: Plan, x: Tensor) -> Tensor:
    """M(F): what the gate adds to a feature map of ones. A branch that is not there adds nothing to the logits."""
    n, c, h, w = x.shape
    channel, spatial = logits(module, plan, x)
    wide = torch.promote_types(x.dtype, torch.float32)
    return (
        reference.gate(
            torch.ones_like(x, dtype=wide),
            x.new_zeros(n, c, dtype=wide) if channel is None else channel.to(wide),
            x.new_zeros(n, 1, h, w, dtype=wide) if spatial is None else spatial.to(wide).expand(n, 1, h, w),
            plan.combine if plan.branches == "both" else "sum",
        )
        - 1
    )


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.promote_types(tensor.dtype, torch.float32))


def draw(maps: Sequence[AttentionMap], images: Tensor, *, index: int = 0) -> Figure:
    """A picture of what the BAMs did with one image: a row for each.

    From left to right: the attention laid over the image, the features before, the attention, the features after (each the
    mean over the channels), and the attention of each channel (the mean over the positions), sorted.

    Args:
        maps: what `attention_maps` returned for `images`.
        images: (N, C, H, W); the first three channels, or the first, are shown, scaled to their range.
        index: which of the N images.

    Raises:
        ValueError: there are no maps, or no such image.
        ImportError: matplotlib is not installed (``pip install "bam_fused[demo]"``).
    """
    if not maps:
        raise ValueError("maps is empty: there is nothing to draw")
    if images.dim() != 4 or not 0 <= index < len(images):
        raise ValueError(f"index must be one of the images, got {index} for images of shape {tuple(images.shape)}")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3 * len(maps)), layout="constrained")
    axes = figure.subplots(len(maps), 5, squeeze=False)
    picture = _shown(images[index])
    for (over, before, attention, after, channels), one in zip(axes, maps, strict=True):
        spatial = one.attention[index].mean(0)
        enlarged = F.interpolate(spatial[None, None], picture.shape[:2], mode="bilinear")[0, 0]
        over.imshow(picture.numpy())
        over.imshow(enlarged.numpy(), cmap="jet", alpha=0.45)
        over.set_title(f"{one.name}\nattention over the image", fontsize=9)
        features, refined = one.features[index].mean(0), one.refined[index].mean(0)
        for axis, plane, title in (
            (before, features, f"features, {tuple(one.features.shape[1:])}"),
            (attention, spatial, f"attention, {float(spatial.min()):.2f} to {float(spatial.max()):.2f}"),
            (after, refined, "refined features"),
        ):
            axis.imshow(plane.numpy(), cmap="viridis")
            axis.set_title(title, fontsize=9)
        for axis in (over, before, attention, after):
            axis.set_axis_off()
        channels.plot(one.attention[index].mean((1, 2)).sort().values.numpy())
        channels.set_ylim(0, 1)
        channels.set_title("attention of each channel, sorted", fontsize=9)
    return figure


def _shown(image: Tensor) -> Tensor:
    """An image (C, H, W) as matplotlib wants it, (H, W, 3) from 0 to 1."""
    image = image.detach().float().cpu()[: 3 if len(image) >= 3 else 1]
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    return scaled.expand(3, -1, -1).permute(1, 2, 0)
