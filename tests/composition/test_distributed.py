"""A training step under DistributedDataParallel and FSDP2 (gloo, two processes) gives what the unreplaced model gives."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from implementations import OfficialBAM, randomise
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import bam_fused
from bam_fused import replace_bam

PROCESSES = 2
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


def _network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    bams = randomise(nn.Sequential(OfficialBAM(32), nn.Conv2d(32, 32, 1), bam_fused.BAM(32)))
    return nn.Sequential(nn.Conv2d(3, 32, 3), bams, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)).to(dtype)


def _sharded(model: nn.Module) -> nn.Module:
    for part in model[1]:
        fully_shard(part)
    return fully_shard(model)


WRAP = {"DDP": nn.parallel.DistributedDataParallel, "FSDP2": _sharded}


def _step(model: nn.Module, dtype: torch.dtype, rank: int) -> list[Tensor]:
    """Loss, all gradients and parameters after two steps on this process's own part of the batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    whole = torch.randn(8, 3, 14, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(whole[rank::PROCESSES]).square().mean()
        loss.backward()
        optimizer.step()
    kept = [loss, *(p.grad for p in model.parameters()), *model.parameters(), *model.buffers()]
    return [t.full_tensor() if isinstance(t, DTensor) else t for t in kept]


def _worker(rank: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES, timeout=timedelta(seconds=60))
    for name, wrap in WRAP.items():
        for dtype, tolerance in TOLERANCE.items():
            original = _network(dtype)
            model = copy.deepcopy(original)
            assert len(replace_bam(model).replaced) == 2
            with bam_fused.use_backend("eager"):
                expected = _step(wrap(original), dtype, rank)
            for got, want in zip(_step(wrap(model), dtype, rank), expected, strict=True):
                torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance, msg=f"{name} in {dtype}")
    distributed.destroy_process_group()
    print("the same")


@pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch was built without distributed")
def test_training_steps_are_those_of_the_unreplaced_model():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    settings = {**os.environ, **address, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen([sys.executable, __file__, str(rank)], env=settings, stdout=subprocess.PIPE, text=True)
        for rank in range(PROCESSES)
    ]
    assert [worker.communicate(timeout=120)[0] for worker in workers] == ["the same\n"] * PROCESSES


if __name__ == "__main__":
    _worker(int(sys.argv[1]))
