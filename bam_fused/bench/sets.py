"""Which cases are measured: a set is a list of cases of every description."""

from __future__ import annotations

from collections.abc import Iterator

from bam_fused.bench.cases import FORMATS, MODES, TINY, Case, both_modes
from bam_fused.bench.operations import DESCRIPTIONS

SETS = ("tiny", "quick", "readme", "gpu", "full")

STAGES = {
    "ResNet-18": ((64, 56, 56), (128, 28, 28), (256, 14, 14)),
    "ResNet-50": ((256, 56, 56), (512, 28, 28), (1024, 14, 14)),
    "CIFAR": ((256, 32, 32), (512, 16, 16), (1024, 8, 8)),
    "detection": ((256, 200, 336), (512, 100, 168), (1024, 50, 84)),
}
BATCHES = (1, 8, 32, 64, 256)
MOST_ELEMENTS = 1 << 28  # of one tensor: 1 GiB in float32, of which a competitor holds several
AT_FEATURE_MAPS = tuple(name for name, description in DESCRIPTIONS.items() if not description.network)


def _tiny() -> Iterator[Case]:
    for operation in AT_FEATURE_MAPS:
        yield from both_modes(operation, TINY)
    yield Case("gate", TINY, "bfloat16", "NHWC", "forward")


def _described(name: str) -> Iterator[Case]:
    for description in DESCRIPTIONS.values():
        yield from description.cases.get(name, ())


def _full() -> Iterator[Case]:
    yield from _described("readme")
    for dtype in ("float32", "bfloat16", "float16"):
        for memory_format in FORMATS:
            for stages in STAGES.values():
                for c, h, w in stages:
                    for n in BATCHES:
                        if n * c * h * w <= MOST_ELEMENTS:
                            for operation in AT_FEATURE_MAPS:
                                for mode in MODES:
                                    yield Case(operation, (n, c, h, w), dtype, memory_format, mode)
    yield from _described("full")


def cases_of(name: str) -> list[Case]:
    """The cases of a set: "tiny" (seconds; its times mean nothing), "quick", "readme" or "gpu" (the README's
    tables, on a CPU and on a GPU) or "full"."""
    generic = {"tiny": _tiny, "full": _full}
    return list(dict.fromkeys(generic[name]() if name in generic else _described(name)))
