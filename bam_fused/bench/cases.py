"""One case: an operation at one shape, dtype, memory format and mode. sets.py says which of them are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
MODES = ("inference", "forward", "forward+backward")

Shape = tuple[int, int, int, int]

FIRST: tuple[Shape, ...] = ((1, 256, 56, 56), (8, 256, 56, 56), (32, 256, 56, 56), (8, 512, 28, 28), (32, 1024, 14, 14))
"""Where a ResNet-50 at 224 x 224 has its bottlenecks, at the batches of a request, a server and a training step."""
OVERHEAD: Shape = (1, 8, 4, 4)
TINY: Shape = (2, 32, 9, 12)


@dataclass(frozen=True)
class Case:
    """One operation at one shape, dtype, memory format and mode."""

    operation: str
    shape: Shape
    dtype: str = "float32"
    memory_format: str = "NCHW"
    mode: str = "inference"
    """ "inference" (no gradients), "forward" (keeping what the backward needs) or "forward+backward"."""

    def label(self) -> str:
        return f"{self.operation} {self.shape} {self.dtype} {self.memory_format} {self.mode}"

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    @property
    def x_bytes(self) -> int:
        """One pass over the feature map, in bytes: the unit u of the traffic figures."""
        n, c, h, w = self.shape
        return n * c * h * w * self.torch_dtype.itemsize


def both_modes(operation: str, shape: Shape, dtype: str = "float32", memory_format: str = "NCHW") -> Iterator[Case]:
    """Inference, and forward with backward."""
    for mode in ("inference", "forward+backward"):
        yield Case(operation, shape, dtype, memory_format, mode)
