"""Is a competitor right? Its output and gradients against float64, before it is timed: a wrong one gets no figure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bam_fused.bench.cases import Case
from bam_fused.bench.problem import Problem, caller

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
"""Largest error over largest value. This tells wrong from right; how accurate the kernels are is for the tests."""

FLIPPED = 1e-3
"""The same for float32 judged by norms: one ReLU input near 0 that rounds to the other side outweighs all other rounding."""


class Wrong(RuntimeError):
    """A competitor's result is not the reference's."""


def expected(case: Case, problem: Problem) -> tuple[Tensor, ...]:
    """Output and gradients in float64."""
    wide = tuple(tensor.double() for tensor in problem.inputs)
    return tuple(tensor.detach() for tensor in caller(case, problem.reference, wide)())


def error(results: tuple[Any, ...], reference: tuple[Tensor, ...]) -> float:
    """The largest error of any result over the largest value of that result.

    A gradient that is zero but for rounding, as a convolution's bias has before BatchNorm, is measured by the largest of
    all gradients instead.
    """
    if len(results) != len(reference):
        raise Wrong(f"{len(results)} results instead of {len(reference)}")
    largest = [float(tensor.abs().max()) for tensor in reference]
    worst = 0.0
    for i, (result, true) in enumerate(zip(results, reference, strict=True)):
        if result.shape != true.shape:
            raise Wrong(f"result {i} has shape {tuple(result.shape)} instead of {tuple(true.shape)}")
        scale = largest[0] if i == 0 else max(largest[i], 0.01 * max(largest[1:]))
        difference = float((result.detach().double() - true).abs().max())
        worst = max(worst, difference / scale if difference == difference else float("inf"))
    return worst


def error_of_norms(results: tuple[Any, ...], reference: tuple[Tensor, ...]) -> float:
    """The norm of the error over the norm of the value, of the output and of all gradients as one vector."""

    def relative(part: slice) -> float:
        pairs = zip(results[part], reference[part], strict=True)
        squares = [
            (float((result.detach().double() - true).square().sum()), float(true.square().sum()))
            for result, true in pairs
        ]
        off, whole = (sum(column) for column in zip(*squares, strict=True))
        return (off / whole) ** 0.5 if off == off else float("inf")

    return max(relative(part) for part in (slice(0, 1), slice(1, None)) if reference[part])


def tolerance(dtype: torch.dtype, device: torch.device, problem: Problem) -> float:
    """What a result may be off by. A module's convolutions on a GPU round float32 to as few bits as float16 has (TF32)."""
    if dtype != torch.float32 or not problem.by_norm:
        return problem.slack * TOLERANCE[dtype]
    few_bits = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return problem.slack * (TOLERANCE[torch.float16] if few_bits else FLIPPED)


def verify(results: tuple[Any, ...], reference: tuple[Tensor, ...], dtype: torch.dtype, problem: Problem) -> float:
    """The error of a competitor.

    Raises:
        Wrong: it is beyond the tolerance of the dtype.
    """
    off = error_of_norms(results, reference) if problem.by_norm else error(results, reference)
    if not off <= tolerance(dtype, reference[0].device, problem):
        raise Wrong(f"its result is off by {off:.1e} of {'its norm' if problem.by_norm else 'the largest value'}")
    return off
