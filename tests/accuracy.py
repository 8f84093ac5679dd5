"""The yardstick: against float64, a kernel may err no more than eager PyTorch does in the same dtype."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def _largest(values: Tensor) -> float:
    return values.abs().max().item() if values.numel() else 0.0


def noise_of_sums(grad: Tensor, x: Tensor, channel: Tensor, spatial: Tensor, combine: str) -> float:
    """Twice the standard deviation that rounding gives a logit's gradient, in roundings: the addends' root of squares."""
    weight = max(_largest(channel), _largest(spatial)) if combine == "product" else 1.0
    addends = grad.double() * x.double() * weight / 4
    length = max(x.shape[1], x.shape[2] * x.shape[3])
    return 2 * (addends.square().mean() * length).sqrt().item() if x.numel() else 0.0


def nudged(values: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 values, each off by at most one rounding of a dtype."""
    return values * (1 + torch.finfo(dtype).eps * (2 * torch.rand_like(values) - 1))


def noise_of_rounding(exact: Sequence[Tensor], moved: Iterable[Sequence[Tensor]], dtype: torch.dtype) -> list[float]:
    """The noise of each result of a function that amplifies roundings, as chains of layers do.

    Twice the furthest that it moves, in roundings, over some runs in float64 on nudged arguments.
    """
    furthest = [0.0] * len(exact)
    for results in moved:
        furthest = [max(far, _largest(a - b)) for far, a, b in zip(furthest, results, exact, strict=True)]
    return [2 * far / torch.finfo(dtype).eps for far in furthest]


def assert_no_worse_than_eager(name: str, ours: Tensor, eager: Tensor, exact: Tensor, noise: float = 0.0) -> None:
    """Fail where the largest error of `ours` exceeds that of `eager` by more than two roundings.

    Two roundings (an eps of the dtype each) of the largest value, or of `noise` where the values are sums, are the play that
    a maximum over few elements has. In float64, where nothing more exact stands beside the two, it is eight.
    """
    assert ours.shape == exact.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(exact.shape)}"
    assert torch.isfinite(ours).all(), f"{name}: not finite"
    roundings = 8 if ours.dtype == torch.float64 else 2
    theirs, error = _largest(eager.double() - exact), _largest(ours.double() - exact)
    allowed = 1.1 * theirs + roundings * torch.finfo(ours.dtype).eps * max(_largest(exact), noise)
    assert error <= allowed, f"{name}: error {error:.3e}, eager's {theirs:.3e}, allowed {allowed:.3e}"


def root_mean_square_error(value: Tensor, exact: Tensor) -> float:
    return (value.double() - exact).square().mean().sqrt().item()
