"""The tuning command: measures configs on the device at hand and writes the fastest into the table of tuned.py.

`python -m bam_fused.bench.tune_triton --shape 32x256x56x56 --dtype bfloat16 --layout nchw`; every option may be given
several times, and without any the paper's bottlenecks are tuned. Nothing is ever measured unless this command is run.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from bam_fused.backends.triton import heuristics, tuned
from bam_fused.backends.triton.heuristics import PointwiseConfig, TileConfig
from bam_fused.backends.triton.rows import choose_rows, extent_of
from bam_fused.bench import triton_operations

Config = PointwiseConfig | TileConfig
Timer = Callable[[Callable[[], Any]], float]

SHAPES = ((32, 256, 56, 56), (32, 512, 28, 28), (32, 1024, 14, 14))


def time_on_gpu(call: Callable[[], Any]) -> float:
    """Milliseconds of a call, the median of many with a cold L2 cache."""
    from triton.testing import do_bench

    milliseconds: float = do_bench(call, return_mode="median")
    return milliseconds


def candidates(config: Config) -> Iterator[Config]:
    """The config of the heuristic and its neighbours: half and twice of everything."""
    around = (1, 2, 4)  # halves
    if isinstance(config, PointwiseConfig):
        for vectors, splits, warps in itertools.product(around, around, around):
            yield replace(
                config,
                vectors=max(1, config.vectors * vectors // 2),
                splits=max(1, config.splits * splits // 2),
                warps=max(1, config.warps * warps // 2),
            )
        return
    blocks = [(config.tile_rows, config.tile_columns)]
    if not config.dense:
        blocks = [
            (rows, columns)
            for rows, columns in itertools.product(
                (config.tile_rows // 2, config.tile_rows, config.tile_rows * 2),
                (config.tile_columns // 2, config.tile_columns, config.tile_columns * 2),
            )
            if rows and columns and rows * columns <= heuristics.LARGEST_DENSE_TILE
        ]
    for (rows, columns), splits, warps in itertools.product(blocks, around, around):
        split = max(1, config.splits * splits // 2)
        yield replace(
            config, tile_rows=rows, tile_columns=columns, splits=split, warps=max(1, config.warps * warps // 2)
        )


def tune(operation: str, x: Tensor, timer: Timer) -> tuple[str, tuned.Entry, float, float]:
    """Measure an operation's configs on x: the table's key and entry, the heuristic's time and the best one.

    A config that the device cannot run is passed over; one that is not faster than the heuristic's does not replace it.
    """
    rows_are_channels = choose_rows(x.shape, x.stride())
    assert rows_are_channels is not None
    extent = extent_of(x.shape, rows_are_channels)
    call = getattr(triton_operations.MODULES[operation], operation)
    arguments = triton_operations.sample_arguments(operation, x)
    default = triton_operations.prepare(operation, arguments).config
    times: dict[Config, float] = {}
    for config in (default, *candidates(default)):
        if config not in times:
            times[config] = _time(functools.partial(call, *arguments, config=config), timer)
    best = min(times, key=lambda config: times[config])
    return tuned.key(operation, extent, x.dtype), asdict(best), times[default], times[best]


def _time(call: Callable[[], Any], timer: Timer) -> float:
    from bam_fused.backends import BackendUnavailable

    try:
        return timer(call)
    except BackendUnavailable:
        return float("inf")


def run(
    shapes: Iterable[tuple[int, ...]],
    dtypes: Iterable[torch.dtype],
    layouts: Iterable[str],
    device: torch.device,
    timer: Timer = time_on_gpu,
) -> None:
    """Tune every operation for these feature maps, one line each, and write the device's entries to the table."""
    entries = {}
    for shape, dtype, layout in itertools.product(shapes, dtypes, layouts):
        x = torch.randn(shape, device=device, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last) if layout == "nhwc" else x
        for operation in triton_operations.MODULES:
            key, entry, before, after = tune(operation, x, timer)
            entries[key] = entry
            print(f"{key}: {before:.4f} ms by the rules, {after:.4f} ms with {entry}", flush=True)
    file = tuned.path()
    tuned.write(file, tuned.device_name(device), entries)
    tuned.forget()
    triton_operations.forget()
    print(f"written to {file}")


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split("x"))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"a shape is NxCxHxW, such as 32x256x56x56, not {text!r}")
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=_shape, action="append", help="NxCxHxW")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16", "float64"), action="append")
    parser.add_argument("--layout", choices=("nchw", "nhwc"), action="append")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("tuning needs a CUDA device: PyTorch finds none")
    dtypes = [getattr(torch, name) for name in arguments.dtype or ("bfloat16", "float32")]
    device = torch.device("cuda", torch.cuda.current_device())
    run(arguments.shape or SHAPES, dtypes, arguments.layout or ("nchw", "nhwc"), device)


if __name__ == "__main__":
    main()
