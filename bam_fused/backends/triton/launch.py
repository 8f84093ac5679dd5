"""Launching a kernel at little cost: everything but its tensors is settled once per shape, compiled code is called directly.

Triton's own `kernel[grid](...)` looks every argument over at every call. A `Launch` does so once for each combination of
16-byte aligned and unaligned tensors, which is all that can differ between two calls with the same shapes, strides and
dtypes; after that it hands the arguments straight to the compiled kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from bam_fused.backends import BackendUnavailable
from bam_fused.backends.triton.rows import VECTOR_BYTES

Description = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]


def describe(tensor: Tensor) -> Description:
    """What a launch depends on: shape, strides, dtype and device."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def stand_in(description: Description) -> Tensor:
    """A tensor without memory that has this shape, these strides and this dtype."""
    shape, stride, dtype, _ = description
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")


def check_like_x(name: str, description: Description, x: Description) -> None:
    """Raise ValueError unless a tensor has x's shape, dtype and device."""
    for what, found, expected in zip(("shape", "dtype", "device"), description[::2], x[::2], strict=False):
        if found != expected:
            raise ValueError(f"{name} must have the {what} of x, {expected}, got {found}")


class Launch:
    """A kernel's launch: grid, warps, integers and constants are fixed, the tensors are given at each call.

    Args:
        kernel: a `triton.jit` function whose first parameters are the tensors.
        device: where the tensors are. The launch goes to this device's current stream.
        grid: the number of programs; with none of them a call does nothing.
        warps: per program.
        registers: the most that a thread may take, None for no limit. NVIDIA's assembler makes use of as many to issue loads
            early; without being told it holds them back to save registers.
        stages: of a loop's loads, how many are under way at a time and used, None for as many as Triton takes by itself.
        values: the kernel's further parameters by name.

    Calling it raises BackendUnavailable where Triton cannot compile the kernel for the device.
    """

    def __init__(
        self,
        kernel: Any,
        device: torch.device,
        *,
        grid: int,
        warps: int,
        registers: int | None = None,
        stages: int | None = None,
        **values: Any,
    ) -> None:
        self.kernel = kernel
        self.grid = (grid, 1, 1)
        self.warps = warps
        self.registers = registers
        self.options = {"num_warps": warps} | ({"num_stages": stages} if stages else {})
        self.values = values
        tensors = len(kernel.arg_names) - len(values)
        self._rest = tuple(values[name] for name in kernel.arg_names[tensors:])
        self._device = device
        self._module = None if device.type in ("cpu", "meta") else torch.get_device_module(device)
        self._ready: dict[int, Callable[..., Any]] = {}

    def __call__(self, *tensors: Tensor) -> None:
        if self._module is None or self._module.current_device() == self._device.index:
            self._run(tensors)
        else:
            with self._module.device(self._device):
                self._run(tensors)

    def _run(self, tensors: tuple[Tensor, ...]) -> None:
        unaligned = 0
        for position, tensor in enumerate(tensors):
            if tensor.data_ptr() % VECTOR_BYTES:
                unaligned |= 1 << position
        ready = self._ready.get(unaligned)
        if ready is None:
            ready = self._ready[unaligned] = self._prepare(tensors)
        ready(*tensors, *self._rest)

    def _prepare(self, tensors: tuple[Tensor, ...]) -> Callable[..., Any]:
        if isinstance(self.kernel, triton.runtime.JITFunction):
            if self._module is None:
                raise BackendUnavailable("TRITON_INTERPRET=1 came too late: triton was imported before it was set")
            nvidia = self._device.type == "cuda" and torch.version.hip is None
            limit = {"maxnreg": self.registers} if nvidia and self.registers else {}  # others do not know it
            try:
                compiled = self.kernel.warmup(*tensors, *self._rest, grid=self.grid, **self.options, **limit)
                if nvidia:
                    launcher: Callable[..., Any] = compiled[self.grid]
                    return launcher
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # from the compiler, the assembler, the C compiler of the launcher, the driver
                name = f"{self.kernel.__name__} for {self._device}"
                raise BackendUnavailable(f"Triton cannot compile {name}: {_first_line(error)}") from error

        def dispatched(*arguments: Any) -> None:
            self.kernel[self.grid](*arguments, **self.options)

        return dispatched


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
