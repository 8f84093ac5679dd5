"""Compiles every kernel that a whole BAM launches, in inference and in a training step, without a GPU: a line for each.

A script of its own, as Triton compiles nothing where its interpreter is on. Nothing is launched: the tensors are on "meta".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks" / "static"), str(ROOT / "benchmarks")]

import triton_kernels  # noqa: E402 - found from anywhere

from bam_fused import BAM  # noqa: E402
from bam_fused.backends import triton  # noqa: E402
from bam_fused.backends.triton.launch import Launch  # noqa: E402
from bam_fused.composition import step, whole  # noqa: E402
from bam_fused.composition.plan import live, plan_of  # noqa: E402

CASES = (
    (BAM.official, (32, 256, 56, 56), torch.bfloat16, torch.contiguous_format, (80, 90, 100)),
    (BAM, (32, 512, 28, 28), torch.float32, torch.channels_last, (90,)),
)
"""What makes the module, shape, dtype and memory format of x, and the compute capabilities."""


def launches(
    make: Callable[[int], BAM], shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format
):
    """Every launch, with the dtypes of its tensors."""
    recorded = []

    def record(launch: Launch, *tensors: torch.Tensor) -> None:
        recorded.append((launch, tuple(tensor.dtype for tensor in tensors)))

    with torch.device("meta"), mock.patch.object(Launch, "__call__", record):
        bam = make(shape[1]).to(dtype)
        x = torch.empty(shape, dtype=dtype).to(memory_format=memory_format)
        plan = plan_of(bam)
        triton.kernel("bam")(*whole.arguments(live(bam.eval(), plan), x))
        tensors, layers = step.described(live(bam.train(), plan))
        weight = bam.spatial.convs[0].weight
        pooled, reduced = triton.kernel("squeeze")(x, weight, None, True)
        channel, spatial, saved, _ = triton.kernel("branches")(pooled, reduced, tensors, *layers)
        triton.kernel("gate_logit_grads")(x, x, channel, spatial, "product")
        wanted = [1] * len(tensors)
        pooled_grad, reduced_grad, _ = triton.kernel("branches_backward")(
            channel, spatial, pooled, reduced, saved, tensors, *layers, wanted
        )
        triton.kernel("squeeze_weight_grad")(x, reduced_grad)
        gate = (x, channel, spatial, "product")
        triton.kernel("squeeze_input_grad")(x, weight, pooled_grad, reduced_grad, *gate)
    return recorded


def compiled(job: tuple[int, int, int]) -> str:
    """Name, capability, and bytes of local and of shared memory of one launch's kernel."""
    case, at, capability = job
    launch, dtypes = launches(*CASES[case][:-1])[at]
    made = triton_kernels._compile(launch.kernel, triton_kernels.specialisation(launch, dtypes), capability)
    _, stack = triton_kernels._resources(made.asm["cubin"])
    return f"{launch.kernel.__name__} {capability} {stack} {made.metadata.shared}"


def jobs() -> list[tuple[int, int, int]]:
    """Each kernel once for each capability."""
    seen = {}
    for case, (*what, capabilities) in enumerate(CASES):
        for at, (launch, dtypes) in enumerate(launches(*what)):
            specialisation = repr(triton_kernels.specialisation(launch, dtypes))
            for capability in capabilities:
                seen.setdefault((launch.kernel.__name__, specialisation, capability), (case, at, capability))
    return [*seen.values()]


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        print(*pool.map(compiled, jobs()), sep="\n")
