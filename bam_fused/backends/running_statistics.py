"""The running statistics of a training step's norms, moved all at once by what was measured over the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from bam_fused.backends import cpu

_in_library = None if cpu.library is None else getattr(cpu.library.operators, "move_running_statistics", None)


def move(
    statistics: Tensor,
    running: list[Tensor],
    columns: list[int],
    momenta: list[float],
    counts: list[Tensor],
) -> None:
    """Move running means and variances in place towards those of the batch, and count it.

    Args:
        statistics: (2, measured), float64: the batch's means and unbiased variances of all channels of all norms.
        running: mean and variance of each norm in turn.
        columns: where in `statistics` each norm's channels begin.
        momenta: of each norm, the new statistics' share.
        counts: the batches that each norm has seen.
    """
    wide = torch.float32, torch.float64
    if _in_library is not None and statistics.is_cpu and all([tensor.dtype in wide for tensor in running]):
        _in_library(statistics, running, columns, momenta, counts)
        return
    dtypes = {tensor.dtype for tensor in running}
    if len(dtypes) == 1:  # in one go: on a device each small tensor is a kernel
        statistics = statistics.to(dtypes.pop())
    targets = []
    for i, tensor in enumerate(running):
        begin = columns[i // 2]
        targets.append(statistics[i % 2, begin : begin + len(tensor)].to(tensor.dtype))
    torch._foreach_lerp_(
        [tensor.data for tensor in running], targets, [momentum for momentum in momenta for _ in (0, 1)]
    )
    if counts:
        torch._foreach_add_(counts, 1)
