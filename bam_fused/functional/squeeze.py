"""squeeze: what BAM's two branches begin with, the pooled vector and the 1x1 reduction, from one read of x."""

from __future__ import annotations

import torch
from torch import Tensor

from bam_fused import reference
from bam_fused.checks import check_squeeze
from bam_fused.functional.recorded import Proxy, recorded
from bam_fused.ops import Operation, define
from bam_fused.ops.widen import compute_dtype


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    wide = compute_dtype(x)
    pooled, reduced = reference.squeeze(x.to(wide), weight.to(wide), None if bias is None else bias.to(wide))
    return pooled.to(x.dtype), reduced.to(x.dtype, memory_format=_format(x))


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    reduced = torch.empty((n, weight.shape[0], h, w), dtype=x.dtype, device=x.device, memory_format=_format(x))
    return x.new_empty((n, c)), reduced


def _format(x: Tensor) -> torch.memory_format:
    """The memory format of the reduction: that in which a 1x1 convolution of x would come."""
    channels, positions = x.shape[1], x.shape[2] * x.shape[3]
    adjacent = channels > 1 and positions > 1 and x.stride(1) == 1
    return torch.channels_last if adjacent else torch.contiguous_format


define(
    "squeeze",
    "(Tensor x, Tensor weight, Tensor? bias) -> (Tensor, Tensor)",
    check=check_squeeze,
    fake=_fake,
    plain=_plain,
    backends=("cpu",),
)

_squeeze = Operation("squeeze", autograd=None)


def squeeze(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean over H and W and a 1x1 convolution, both from one read of x.

    Args:
        x: the feature map (N, C, H, W), float32, bfloat16, float16 or float64. Contiguous and channels_last run at full
            speed; other layouts are correct.
        weight: (R, C, 1, 1) or (R, C), in x's dtype, any strides.
        bias: (R,), in x's dtype, or None.

    Returns:
        The pooled vector (N, C) and the reduction (N, R, H, W), in x's dtype, computed in at least float32 and rounded
        once; the reduction in x's memory format.

    Raises:
        TypeError: an argument is not a dense tensor of one of these dtypes.
        ValueError: a shape or device does not fit x.
        BackendUnavailable: the backend chosen with `use_backend` cannot run on x's device.

    Source: Park et al., "BAM: Bottleneck Attention Module", BMVC 2018, sections 3.1 and 3.2: the average pooling of the
    channel branch and the 1x1 reduction of the spatial branch.
    """
    if isinstance(x, Proxy):
        return recorded(squeeze, x, weight, bias)
    return _squeeze(x, weight, bias)
