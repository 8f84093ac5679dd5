"""Run by test_launch.py in a process of its own: launches on a CUDA driver that is a stand-in, and prints what reached it.

The kernels are compiled for sm_90 by Triton's own compiler and launched by its own launcher; only the driver's library is
replaced (fake_libcuda.c), and PyTorch's idea of the current device.
"""

from __future__ import annotations

import ctypes
import json
import types
from contextlib import nullcontext

import torch
import triton
from triton.backends.nvidia.driver import CudaDriver, CudaLauncher, CudaUtils

from bam_fused.backends import BackendUnavailable
from bam_fused.backends.triton import gate_backward
from bam_fused.backends.triton.launch import describe

STREAM = 7
DEVICE = torch.device("cuda", 0)
fake = ctypes.CDLL("libcuda.so.1")


class Driver(CudaDriver):
    def __init__(self) -> None:
        self.utils = CudaUtils()
        self.launcher_cls = CudaLauncher
        self.get_current_device = lambda: 0
        self.get_current_stream = lambda device: STREAM
        self.get_device_capability = lambda device: (9, 0)


def last_launch() -> dict[str, object]:
    configuration = [*(ctypes.c_uint32 * 10).in_dll(fake, "last_configuration")]
    return {
        "grid": configuration[:3],
        "block": configuration[3:6],
        "stream": configuration[8],
        "parameters": [*(ctypes.c_uint64 * 64).in_dll(fake, "last_parameters")],
    }


def main() -> None:
    triton.runtime.driver.set_active(Driver())
    shape = (2, 16, 14, 14)
    x = torch.randn(shape)
    tensors = (x, x, torch.randn(2, 16), torch.randn(2, 1, 14, 14), x, torch.empty(2, 16), torch.empty(2, 1, 14, 14))
    launch = gate_backward.prepare(*((*describe(t)[:3], DEVICE) for t in tensors[:4]), "sum").launch
    current = 0
    entered = []

    def guard(device: torch.device) -> nullcontext[None]:
        entered.append(device.index)
        return nullcontext()

    launch._module = types.SimpleNamespace(current_device=lambda: current, device=guard)
    constants = sum(parameter.is_constexpr for parameter in launch.kernel.params)
    ones = sum(launch.values[name] == 1 for name in ("u_row", "v_column"))  # specialised away
    ctypes.c_int.in_dll(fake, "parameters").value = len(launch.kernel.params) - constants - ones
    said = {}
    try:
        launch(*tensors)
    except BackendUnavailable as error:
        print(json.dumps({"unavailable": str(error)}))
        return
    said["first"] = last_launch()
    launch(*tensors)
    said["again"] = last_launch()
    launch.kernel[launch.grid](*tensors, *launch._rest, num_warps=launch.warps)
    said["by Triton itself"] = last_launch()
    memory = torch.empty(2 * 16 * 14 * 14 + 1)
    launch(memory[1:].view(shape), *tensors[1:])
    said["variants"] = len(launch._ready)
    said["launches"] = ctypes.c_long.in_dll(fake, "launches").value
    said["entered"] = list(entered)
    current = 1
    launch(*tensors)
    said["entered from another device"] = entered
    print(json.dumps(said))


main()
