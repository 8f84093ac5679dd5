"""What is measured: one case is one operation at one shape, dtype, memory format and mode; a set is a list of cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
MODES = ("inference", "forward", "forward+backward")
OPERATIONS = ("gate", "global_avg_pool", "bam", "bam_resnet50")
SETS = ("tiny", "quick", "readme", "full")

Shape = tuple[int, int, int, int]

FIRST: tuple[Shape, ...] = ((1, 256, 56, 56), (8, 256, 56, 56), (32, 256, 56, 56), (8, 512, 28, 28), (32, 1024, 14, 14))
"""Where a ResNet-50 at 224 x 224 has its bottlenecks, at the batches of a request, a server and a training step."""
STAGES = {
    "ResNet-18": ((64, 56, 56), (128, 28, 28), (256, 14, 14)),
    "ResNet-50": ((256, 56, 56), (512, 28, 28), (1024, 14, 14)),
    "CIFAR": ((256, 32, 32), (512, 16, 16), (1024, 8, 8)),
    "detection": ((256, 200, 336), (512, 100, 168), (1024, 50, 84)),
}
BATCHES = (1, 8, 32, 64, 256)
MOST_ELEMENTS = 1 << 28  # of one tensor: 1 GiB in float32, of which a competitor holds several
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

    def key(self) -> dict[str, Any]:
        """The case as it stands in a results file."""
        return {**asdict(self), "shape": list(self.shape)}

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


def _both_modes(operation: str, shape: Shape, dtype: str = "float32", memory_format: str = "NCHW") -> Iterator[Case]:
    for mode in ("inference", "forward+backward"):
        yield Case(operation, shape, dtype, memory_format, mode)


def _tiny() -> Iterator[Case]:
    for operation in ("gate", "global_avg_pool", "bam"):
        yield from _both_modes(operation, TINY)
    yield Case("gate", TINY, "bfloat16", "NHWC", "forward")


def _quick() -> Iterator[Case]:
    for memory_format in FORMATS:
        yield from _both_modes("gate", (8, 256, 56, 56), "float32", memory_format)
    yield from _both_modes("gate", (8, 512, 28, 28), "bfloat16")
    yield Case("global_avg_pool", (8, 256, 56, 56))
    yield from _both_modes("bam", (8, 512, 28, 28))
    yield from _both_modes("gate", OVERHEAD)


def _readme() -> Iterator[Case]:
    for memory_format in FORMATS:
        for shape in FIRST:
            yield from _both_modes("gate", shape, "float32", memory_format)
    for memory_format in FORMATS:
        for shape in ((8, 256, 56, 56), (8, 512, 28, 28), (32, 1024, 14, 14)):
            yield from _both_modes("gate", shape, "bfloat16", memory_format)
    for dtype in ("float32", "bfloat16"):
        for memory_format in FORMATS:
            yield Case("global_avg_pool", (8, 256, 56, 56), dtype, memory_format)
    for memory_format in FORMATS:
        yield from _both_modes("bam", (8, 256, 56, 56), "float32", memory_format)
    for operation in ("gate", "global_avg_pool"):
        yield from _both_modes(operation, OVERHEAD)
    yield from _both_modes("bam_resnet50", (4, 3, 224, 224))


def _full() -> Iterator[Case]:
    yield from _readme()
    for dtype in ("float32", "bfloat16", "float16"):
        for memory_format in FORMATS:
            for stages in STAGES.values():
                for c, h, w in stages:
                    for n in BATCHES:
                        if n * c * h * w <= MOST_ELEMENTS:
                            for operation in ("gate", "global_avg_pool", "bam"):
                                for mode in MODES:
                                    yield Case(operation, (n, c, h, w), dtype, memory_format, mode)
    for n in (1, 8, 32):
        for memory_format in FORMATS:
            yield from _both_modes("bam_resnet50", (n, 3, 224, 224), "float32", memory_format)


def cases_of(name: str) -> list[Case]:
    """The cases of a set: "tiny" (seconds; its times mean nothing), "quick", "readme" (the README's table) or "full"."""
    sets = {"tiny": _tiny, "quick": _quick, "readme": _readme, "full": _full}
    return list(dict.fromkeys(sets[name]()))
