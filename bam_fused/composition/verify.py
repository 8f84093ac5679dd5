"""Is a live module what its keys say? Its forward and its plan, side by side on drawn inputs.

Key names do not tell whether the branches are added or multiplied, nor whether something else happens to them. So both run
on stand-ins with drawn weights, in eval and in training, with gradients, on square and other maps, and then once with
the module's own weights. The maps are small: the glue between the children is what is in question, not the children.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bam_fused.composition.matching import matching
from bam_fused.composition.outputs import TOLERANCE, Differs, candidate, difference, gap, original, tolerance
from bam_fused.composition.plan import Plan, child
from bam_fused.composition.side_effects import left_by
from bam_fused.composition.twin import draw_weights, set_mode, twin

__all__ = ["Differs", "Verified", "verify"]

_BATCH = 3


@dataclass(frozen=True)
class Verified:
    """What the drawn inputs showed."""

    plan: Plan
    difference: float
    """Largest absolute difference of any output in the module's own dtype."""
    note: str = ""


def verify(module: nn.Module, plan: Plan, legacy_pool: bool | None = None) -> Verified:
    """The plan with the combination that matches the module, and with the authors' crop where that has it (False: without).

    The module, its gradients and the random number generators stay as they are.

    Raises:
        Differs: no plan gives this module's output; the message says what differed.
    """
    dtype, device = _dtype_and_device(module)
    generator = torch.Generator("cpu").manual_seed(0)
    with _undisturbed(device):
        size = _size(module, plan)
        wide = _wide_dtype(module, torch.zeros(_BATCH, plan.channels, size, size, device=device))
        drawn = twin(module, wide)
        draw_weights(drawn, generator)
        x = _draw(plan.channels, size, size, generator, wide, device)
        fresh = twin(drawn)
        plan, largest = matching(drawn, plan, x)
        _compare_side_effects(fresh, plan, x)
        largest = max(largest, _compare_training(drawn, plan, x))
        plan, note = _compare_non_square(
            drawn, plan, _draw(plan.channels, size, size + 3, generator, wide, device), legacy_pool
        )
        square = replace(plan, crops=False)
        largest = max(largest, _compare_inference(drawn, square, x, "in inference"))
        own = _compare_inference(twin(module), square, x.to(dtype), "with its own weights")
    return Verified(plan, max(own, largest if wide is dtype else 0.0), note)


def _dtype_and_device(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    tensors = [p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()]
    dtypes, devices = {p.dtype for p in tensors}, {p.device for p in tensors}
    if len(dtypes) != 1 or len(devices) != 1:
        raise Differs(f"can not be run by itself: its weights are in {sorted(map(str, dtypes | devices))}")
    (dtype,), (device,) = dtypes, devices
    if dtype not in TOLERANCE:
        raise Differs(f"can not be run: its weights are {dtype}")
    if device.type == "meta":
        raise Differs("can not be run: its weights are on the meta device")
    return dtype, device


def _wide_dtype(module: nn.Module, x: Tensor) -> torch.dtype:
    """What stand-ins compute in: float64, or float32 where the device has none or the module insists on float32 inside."""
    if x.device.type == "mps":
        return torch.float32
    other = twin(module, torch.float64)
    set_mode(other, False)
    try:
        original(other, x.double())
    except Differs:
        return torch.float32
    return torch.float64


@contextlib.contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Gradients on, autocast and inference mode off, whatever the caller set; random number generators put back."""
    devices = [] if device.type == "cpu" else [device]
    with (
        torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield


def _size(module: nn.Module, plan: Plan) -> int:
    """A small square map; where padding is below the dilation, the one that shrinks to 1 x 1."""
    shrink = 0
    for layer in plan.spatial:
        conv = child(module, layer.weight)
        if isinstance(conv, nn.Conv2d) and not isinstance(conv.padding, str):
            shrink += conv.dilation[0] * (conv.kernel_size[0] - 1) - 2 * conv.padding[0]
    return shrink + 1 if shrink > 0 else 8


def _draw(c: int, h: int, w: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A feature map whose channel means differ from sample to sample."""
    noise = torch.randn(_BATCH, c, h, w, generator=generator, dtype=torch.float64, device="cpu")
    means = torch.randn(_BATCH, c, 1, 1, generator=generator, dtype=torch.float64, device="cpu")
    return (noise + means).to(dtype).to(device)


def _compare_side_effects(fresh: nn.Module, plan: Plan, x: Tensor) -> None:
    """What else a forward does than to return something; `fresh` has not been run."""
    other = twin(fresh)
    for train in (False, True):
        set_mode(fresh, train)
        set_mode(other, train)
        sets = left_by(fresh, lambda: original(fresh, x)) - left_by(other, lambda: candidate(other, plan, x))
        if sets:
            raise Differs(f"its forward also sets {', '.join(sorted(sets))}, which the fused one would not")


def _compare_inference(stand_in: nn.Module, plan: Plan, x: Tensor, where: str) -> float:
    set_mode(stand_in, False)
    with torch.no_grad():  # which may take another path
        want, got = original(stand_in, x), candidate(stand_in, plan, x)
    return difference(want, got, where)


def _compare_training(drawn: nn.Module, plan: Plan, x: Tensor) -> float:
    """Outputs, gradients and running statistics of one training step, by the path that the module would take.

    In float64: with another rounding a ReLU near 0 may fall to the other side, and a gradient then differs where nothing is
    wrong. In float32 that is no rarity.
    """
    other = twin(drawn)
    set_mode(drawn, True)
    set_mode(other, True)
    weight = torch.linspace(-1, 1, x.numel(), dtype=x.dtype, device=x.device).reshape(x.shape)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    want, got = original(drawn, theirs), candidate(other, plan, mine)
    largest = difference(want, got, "in training")
    for module, leaf, outputs in ((drawn, theirs, want), (other, mine, got)):
        loss = torch.stack([(out * weight.pow(i)).sum() for i, out in enumerate(outputs, 1)]).sum()
        loss.backward(inputs=[leaf, *module.parameters()])
    pairs = [("x", theirs.grad, mine.grad)]
    pairs += [(n, p.grad, q.grad) for (n, p), q in zip(drawn.named_parameters(), other.parameters(), strict=True)]
    pairs += [(n, p, q) for (n, p), q in zip(drawn.named_buffers(), other.buffers(), strict=True)]
    scale = max(float(p.abs().max()) for n, p, _ in pairs[1:] if p is not None)
    for name, p, q in pairs:
        if (p is None) != (q is None):
            raise Differs(f"in training it gives {name} {'no ' * (p is None)}gradient")
        if p is not None and q is not None and gap(p, q)[0] > 10 * tolerance(x) * max(scale, 1.0):
            raise Differs(f"in training the gradient or statistic of {name} differs by {gap(p, q)[0]:.1e}")
    return largest


def _sizes(drawn: nn.Module, other: Tensor, size: int) -> str:
    """The maps that a module takes which fails on one that is not square: any square ones, or those of one size."""
    try:
        original(drawn, other)
    except Differs:
        return f"{size} x {size} maps"
    return "square maps"


def _compare_non_square(drawn: nn.Module, plan: Plan, x: Tensor, legacy_pool: bool | None) -> tuple[Plan, str]:
    """On a map with H < W < 2H: the original fails, pools all of it, or pools the left H x H crop."""
    set_mode(drawn, False)
    try:
        want = original(drawn, x)
    except Differs:
        size = x.shape[2]
        other = x[:, :, : size - 2, : size - 2]
        return plan, f"the original takes {_sizes(drawn, other, size)} only"
    for form in (plan, replace(plan, resizes=True), replace(plan, crops=True)):
        try:
            difference(want, candidate(drawn, form, x), "on a map that is not square")
        except Differs as differs:
            last = differs
        else:
            break
    else:
        raise last
    if not form.crops:
        return form, ""
    if legacy_pool is False:
        return plan, "pools all of a map with H < W, where the original pools the left H x H crop only"
    return form, "of a map with H < W pools the left H x H crop only, as the original; legacy_pool=False pools all"
