"""Memory of one call: the allocator's peak, and what autograd keeps for the backward.

On a CPU the peak is that of PyTorch's CPU allocator, read from the profiler's allocation events: the most bytes held at one
time beyond what stood before the call. Unlike the process's resident set it does not depend on what malloc kept from
earlier calls. What a library takes from the system on its own (oneDNN's scratch pads, ONNX Runtime) is not in it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bam_fused.bench.timing import Call


def _profile(activities: list[torch.profiler.ProfilerActivity], **options: Any) -> torch.profiler.profile:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler's library writes its own log into the tables
    return torch.profiler.profile(activities=activities, **options)


def peak_bytes(call: Call, device: torch.device) -> int:
    """The most bytes held at one time during a call, beyond what stood before it; the result counts.

    The call must have been made before: a first one may fill caches that stay.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        kept = call()
        torch.cuda.synchronize(device)
        del kept
        return torch.cuda.max_memory_allocated(device) - before
    with _profile([torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = call()
    del kept
    held = most = 0
    for size in _allocations(profile):
        held += size
        most = max(most, held)
    return most


def _allocations(profile: Any) -> list[int]:
    """Bytes allocated (positive) and freed (negative) on the CPU, in order of time."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    memory = [event for event in events if event.get("name") == "[memory]" and event["args"]["Device Type"] == 0]
    return [event["args"]["Bytes"] for event in sorted(memory, key=lambda event: event["ts"])]


def saved_bytes(forward: Call, parameters: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps alive between a forward and its backward: every storage once, parameters left out."""
    left_out = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    storages: dict[int, int] = {}
    kept: list[Tensor] = []  # until the count is done, so that no storage's address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in left_out:
            storages[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storages.values())


def launches(call: Call) -> int:
    """Kernels (and copies and fills) that one call puts on the CUDA device."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with _profile(activities) as profile:
        call()
        torch.cuda.synchronize()
    return sum("CUDA" in str(event.device_type) for event in profile.events())
