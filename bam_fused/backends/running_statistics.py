"""The running statistics of a training step's norms, moved all at once by what was measured over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from bam_fused.backends import cpu

_in_library = None if cpu.library is None else getattr(cpu.library.operators, "move_running_statistics", None)


def move(
    statistics: Tensor,
    running: list[Tensor],
    bounds: list[int],
    momenta: list[float],
    counts: list[Tensor],
) -> None:
    """Move running means and variances in place towards those of the batch, and count it.

    Args:
        statistics: (2, measured), float64: the batch's means and unbiased variances of all channels of all norms.
        running: mean and variance of each norm in turn.
        bounds: where in `statistics` each norm's channels begin and end.
        momenta: of each norm, the new statistics' share.
        counts: the batches that each norm has seen.
    """
    if _in_library is not None and statistics.is_cpu and _are_usual(running, counts):
        _in_library(statistics, running, bounds, momenta, counts)
        return
    dtypes = {tensor.dtype for tensor in running}
    if len(dtypes) == 1:  # in one go: on a device each small tensor is a kernel
        statistics = statistics.to(dtypes.pop())
    parts: list[Tensor] = []
    for begin, end in zip(bounds[::2], bounds[1::2], strict=True):
        parts += statistics[:, begin:end].unbind()
    targets = [part.to(tensor.dtype) for part, tensor in zip(parts, running, strict=True)]
    torch._foreach_lerp_([tensor.data for tensor in running], targets, [share for share in momenta for _ in (0, 1)])
    if counts:
        torch._foreach_add_(counts, 1)


def _are_usual(running: list[Tensor], counts: list[Tensor]) -> bool:
    return all([tensor.dtype in (torch.float32, torch.float64) for tensor in running]) and all(
        [count.dtype is torch.int64 for count in counts]
    )
