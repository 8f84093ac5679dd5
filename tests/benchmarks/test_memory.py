"""Memory figures, on calls whose memory is known."""

from __future__ import annotations

import torch

from bam_fused.bench.memory import peak_bytes, saved_bytes

CPU = torch.device("cpu")
COUNT = 100_000
BYTES = 4 * COUNT


def test_peak_counts_what_is_held_at_one_time() -> None:
    x = torch.randn(COUNT)
    x.clone()
    assert peak_bytes(lambda: x.clone(), CPU) == BYTES
    assert peak_bytes(lambda: (x.clone(), x.clone()), CPU) == 2 * BYTES

    def one_after_the_other() -> torch.Tensor:
        for _ in range(4):
            result = x.clone()
            del result
        return x.clone()

    assert peak_bytes(one_after_the_other, CPU) == BYTES
    assert peak_bytes(lambda: x.neg_().neg_(), CPU) == 0


def test_saved_counts_every_storage_once_and_no_parameter() -> None:
    x = torch.randn(COUNT, requires_grad=True)
    weight = torch.randn(COUNT, requires_grad=True)
    assert saved_bytes(lambda: x + 1, []) == 0
    assert saved_bytes(lambda: x * x, []) == BYTES
    assert saved_bytes(lambda: torch.sigmoid(x) * x, []) == 2 * BYTES
    assert saved_bytes(lambda: x * weight, [weight]) == BYTES
