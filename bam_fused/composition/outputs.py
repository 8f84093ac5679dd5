"""What a live module returns and what its plan gives, side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bam_fused.composition.path import path_of
from bam_fused.composition.plan import Plan
from bam_fused.composition.run import run

Outputs = tuple[Tensor, ...]
"""What a forward returned, each of x's shape."""

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Largest difference allowed, relative to the largest value; the low ones only confirm what float32 has shown."""


def tolerance(value: Tensor) -> float:
    """That of a result's dtype; a CUDA device may multiply float32 as TF32, which keeps as many bits as float16."""
    return TOLERANCE[torch.float16 if value.is_cuda and value.dtype == torch.float32 else value.dtype]


class Differs(Exception):
    """Why a live module is not what its keys say."""


def original(module: nn.Module, x: Tensor) -> Outputs:
    """What a module's own forward returns: maps of x's shape; Differs where it fails or returns something else."""
    try:
        out = module(x.clone())
    except Exception as error:
        raise Differs(f"its own forward fails on an input of shape {tuple(x.shape)}: {_brief(error)}") from error
    outputs = out if type(out) is tuple and len(out) > 1 else (out,)
    if any(not isinstance(output, Tensor) or output.shape != x.shape for output in outputs):
        raise Differs(f"it returns {_described(out)} for an input of shape {tuple(x.shape)}, not F' or the attention")
    return outputs


def candidate(module: nn.Module, plan: Plan, x: Tensor) -> Outputs:
    """What the plan gives, by the path that the module would take."""
    try:
        forward = path_of(module, plan, x).run
        out = run(module, plan, x) if forward is None else forward()
    except Exception as error:
        raise Differs(f"its layers can not be run in the layout's order: {_brief(error)}") from error
    return out if type(out) is tuple else (out,)


def _described(out: object) -> str:
    """What a forward returned, in words."""
    if isinstance(out, Tensor):
        return str(tuple(out.shape))
    if isinstance(out, (tuple, list)):
        return f"a {type(out).__name__} of {len(out)} ({', '.join(map(_described, out))})"
    return type(out).__name__


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def gap(want: Tensor, got: Tensor) -> tuple[float, float]:
    """Largest absolute difference and largest value; NaN and infinities in the same places do not differ."""
    want, got = want.detach(), got.detach()
    same = (want == got) | (want.isnan() & got.isnan())
    difference = torch.where(same, 0, (want - got).abs()).nan_to_num(nan=float("inf"))
    scale = torch.where(want.isfinite(), want.abs(), 0)
    return float(difference.max()), float(scale.max())


def agree(want: Tensor, got: Tensor) -> bool:
    """Whether two results of one dtype differ by no more than rounding does."""
    difference, scale = gap(want, got)
    return difference <= tolerance(want) * max(scale, 1e-6)


def difference(wants: Outputs, gots: Outputs, where: str) -> float:
    """The largest absolute difference; Differs where that is more than rounding."""
    largest = 0.0
    for want, got in zip(wants, gots, strict=True):
        difference, scale = gap(want, got)
        if not agree(want, got):
            raise Differs(
                f"{where} it computes something else: difference {difference:.1e} where values reach {scale:.1e}"
            )
        largest = max(largest, difference)
    return largest
