"""Gradients of the gate where a formula can go wrong at the edge of the numbers, with what they are exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

INFINITY = float("inf")


def _slope(z: float) -> float:
    return 1 / (1 + math.exp(-z)) / (1 + math.exp(z))


# name: x, channel logits, spatial logits, combine, their gradients for a gradient of ones
_CASES: dict[str, tuple[float, list[float], list[float], str, list[float], list[float]]] = {
    "infinite_x_channel_wins": (INFINITY, [2.0], [1.0], "max", [INFINITY], [0.0]),
    "infinite_x_position_wins": (INFINITY, [1.0], [2.0], "max", [0.0], [INFINITY]),
    "slope_at_17": (1.0, [17.0], [0.0], "max", [_slope(17)], [0.0]),
    "slope_at_17_beside_30": (1.0, [17.0, 30.0], [0.0], "max", [_slope(17), _slope(30)], [0.0]),
    "slope_at_17_beside_100": (1.0, [17.0, 100.0], [0.0], "max", [_slope(17), 0.0], [0.0]),
    "slope_at_minus_17": (1.0, [-17.0], [-18.0, 100.0], "max", [_slope(17)], [0.0, 0.0]),
    "product_overflows": (1.0, [2.0], [3e38], "product", [0.0], [0.0]),
    "product_far_out": (1.0, [1e-36], [3e38], "product", [0.0], [0.0]),
    "product_far_out_negative": (1.0, [-1e-36], [3e38], "product", [0.0], [0.0]),
}
EDGES = tuple(_CASES)


def inputs(name: str) -> tuple[Tensor, Tensor, Tensor, str]:
    """x, channel logits, spatial logits (float32) and combine."""
    x, channel, spatial, combine, _, _ = _CASES[name]
    return (
        torch.full((1, len(channel), 1, len(spatial)), x),
        torch.tensor([channel]),
        torch.tensor([[spatial]]),
        combine,
    )


def check(name: str, dchannel: Tensor, dspatial: Tensor) -> None:
    """The gradients of both logits against the exact ones."""
    *_, exact_channel, exact_spatial = _CASES[name]
    for actual, exact in ((dchannel, exact_channel), (dspatial, exact_spatial)):
        expected = torch.tensor(exact, dtype=torch.float64, device="cpu").reshape(actual.shape)
        torch.testing.assert_close(actual.double().cpu(), expected, rtol=1e-5, atol=1e-20)
