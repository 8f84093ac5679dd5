"""The norms of a training step's branches: rows of features, (rows, channels) without gaps, normalised over all rows.

    measure         mean and reciprocal deviation of each channel, over the batch
    normalise       what a layer behind is given: the norm and the ReLU applied
    differentiate   the gradient of what the norm was given, and by channel the sums that those of gain and offset are

Sums over the rows are cut into tiles, each about its own first row, so that equal numbers have their mean exactly, and the
tiles' are put together in float64.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton.launch import Launch
from bam_fused.backends.triton.partials import Sums
from bam_fused.ops.widen import compute_type

ELEMENTS = 4096  # of a tile, about
CHANNELS = 128  # of a tile, at most
MOST_ROWS = 256
RUN = 1024  # elements of a program that goes over all
TILES = 256  # that are put together at a time, at most: each time takes as long as memory takes to answer
FEW_CHANNELS = 16  # of a program that puts tiles together


class Norm(NamedTuple):
    """What follows a layer: `has` as in functional/branches.py, and its vectors; any tensor where there is none."""

    has: int
    mean: Tensor
    deviation: Tensor
    """Its reciprocal."""
    gain: Tensor
    offset: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """In the kernels' order."""
        return self[1:]


@triton.jit
def normed(x, channel, live, mean_ptr, deviation_ptr, gain_ptr, offset_ptr, HAS: tl.constexpr):
    """The normalised features, and these times the gain plus the offset: what a ReLU is given."""
    if HAS & 18:  # NORM or BATCH
        x = (x - tl.load(mean_ptr + channel, live, 0.0)) * tl.load(deviation_ptr + channel, live, 0.0)
    before = x
    if HAS & 4:  # AFFINE
        before = x * tl.load(gain_ptr + channel, live, 0.0).to(x.dtype)
        before += tl.load(offset_ptr + channel, live, 0.0).to(x.dtype)
    return x, before


@triton.jit(do_not_specialize=["rows"])
def moments_kernel(
    x_ptr, tiles_ptr, rows, CHANNELS: tl.constexpr, TILE: tl.constexpr, CHANNEL_BLOCK: tl.constexpr
):  # tiles: (tiles, 2, CHANNELS), means and sums of squares about them
    blocks: tl.constexpr = (CHANNELS + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK
    program = tl.program_id(0).to(tl.int64)
    tile, channel = program // blocks, program % blocks * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)
    row, known = tile * TILE + tl.arange(0, TILE), channel < CHANNELS
    live = (row < rows)[:, None] & known[None, :]
    x = tl.load(x_ptr + row[:, None] * CHANNELS + channel[None, :], live, 0.0)
    first = tl.load(x_ptr + tile * TILE * CHANNELS + channel, known, 0.0)
    away = tl.where(live, x - first[None, :], 0.0)
    shift = tl.sum(away, 0) / tl.minimum(rows - tile * TILE, TILE).to(x.dtype)
    deviation = tl.where(live, away - shift[None, :], 0.0)
    at = tile * 2 * CHANNELS + channel
    tl.store(tiles_ptr + at, first + shift, known)
    tl.store(tiles_ptr + at + CHANNELS, tl.sum(deviation * deviation, 0), known)


@triton.jit(do_not_specialize=["rows", "tiles", "measured"])
def vectors_kernel(
    tiles_ptr,
    mean_ptr,
    deviation_ptr,
    statistics_ptr,  # (2, measured): this norm's part of them
    rows,
    tiles,
    measured,
    CHANNELS: tl.constexpr,
    TILE: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    TILE_BLOCK: tl.constexpr,
    EPS: tl.constexpr,
):
    channel = tl.program_id(0) * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)
    known = channel < CHANNELS
    first = tl.load(tiles_ptr + channel, known, 0.0).to(tl.float64)
    away = tl.zeros([TILE_BLOCK, CHANNEL_BLOCK], tl.float64)
    for begin in range(0, tiles, TILE_BLOCK):
        tile = begin + tl.arange(0, TILE_BLOCK).to(tl.int64)
        live = (tile < tiles)[:, None] & known[None, :]
        count = tl.maximum(tl.minimum(rows - tile * TILE, TILE), 0).to(tl.float64)
        mean = tl.load(tiles_ptr + tile[:, None] * 2 * CHANNELS + channel[None, :], live, 0.0).to(tl.float64)
        away += tl.where(live, (mean - first[None, :]) * count[:, None], 0.0)
    total = first + tl.sum(away, 0) / rows
    squares = tl.zeros([TILE_BLOCK, CHANNEL_BLOCK], tl.float64)
    for begin in range(0, tiles, TILE_BLOCK):
        tile = begin + tl.arange(0, TILE_BLOCK).to(tl.int64)
        live = (tile < tiles)[:, None] & known[None, :]
        count = tl.maximum(tl.minimum(rows - tile * TILE, TILE), 0).to(tl.float64)
        at = tiles_ptr + tile[:, None] * 2 * CHANNELS + channel[None, :]
        mean = tl.load(at, live, 0.0).to(tl.float64) - total[None, :]
        own = tl.load(at + CHANNELS, live, 0.0).to(tl.float64)
        squares += tl.where(live, own + mean * mean * count[:, None], 0.0)
    square = tl.sum(squares, 0)
    deviation = 1.0 / tl.sqrt(square / rows + EPS)
    tl.store(mean_ptr + channel, total.to(mean_ptr.dtype.element_ty), known)
    tl.store(deviation_ptr + channel, deviation.to(deviation_ptr.dtype.element_ty), known)
    tl.store(statistics_ptr + channel, total, known)
    tl.store(statistics_ptr + measured + channel, square / (rows - 1), known)


@triton.jit(do_not_specialize=["numbers"])
def normalise_kernel(
    x_ptr,
    mean_ptr,
    deviation_ptr,
    gain_ptr,
    offset_ptr,
    out_ptr,
    numbers,
    CHANNELS: tl.constexpr,
    RUN: tl.constexpr,
    HAS: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * RUN + tl.arange(0, RUN)
    live, channel = at < numbers, at % CHANNELS
    x = tl.load(x_ptr + at, live, 0.0)
    _, before = normed(x, channel, live, mean_ptr, deviation_ptr, gain_ptr, offset_ptr, HAS)
    if HAS & 8:  # RELU
        before = tl.where(before < 0, 0.0, before)
    tl.store(out_ptr + at, before.to(out_ptr.dtype.element_ty), live)


@triton.jit(do_not_specialize=["rows"])
def gradient_sums_kernel(
    grad_ptr,  # of the features, (rows, CHANNELS); with OUTER (rows,), times the outer vector
    outer_ptr,
    x_ptr,
    mean_ptr,
    deviation_ptr,
    gain_ptr,
    offset_ptr,
    tiles_ptr,  # (tiles, 2, CHANNELS), with OUTER 4: the gradient's own sums with the features and alone
    rows,
    CHANNELS: tl.constexpr,
    TILE: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    HAS: tl.constexpr,
    OUTER: tl.constexpr,
):
    blocks: tl.constexpr = (CHANNELS + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK
    program = tl.program_id(0).to(tl.int64)
    tile, channel = program // blocks, program % blocks * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)[None, :]
    row, known = tile * TILE + tl.arange(0, TILE)[:, None], channel < CHANNELS
    live = (row < rows) & known
    x = tl.load(x_ptr + row * CHANNELS + channel, live, 0.0)
    x, before = normed(x, channel, known, mean_ptr, deviation_ptr, gain_ptr, offset_ptr, HAS)
    if OUTER:
        alone = tl.load(grad_ptr + row, row < rows, 0.0).to(x.dtype)
        grad = alone * tl.load(outer_ptr + channel, known, 0.0).to(x.dtype)
    else:
        grad = tl.load(grad_ptr + row * CHANNELS + channel, live, 0.0).to(x.dtype)
    if HAS & 8:  # RELU
        grad = tl.where(before <= 0, 0.0, grad)
    at = tiles_ptr + tile * (4 if OUTER else 2) * CHANNELS + channel
    tl.store(at, tl.sum(tl.where(live, grad, 0.0), 0)[None, :], known)
    tl.store(at + CHANNELS, tl.sum(tl.where(live, grad * x, 0.0), 0)[None, :], known)
    if OUTER:
        if HAS & 8:  # RELU
            before = tl.where(before < 0, 0.0, before)
        tl.store(at + 2 * CHANNELS, tl.sum(tl.where(live, alone * before, 0.0), 0)[None, :], known)
        tl.store(at + 3 * CHANNELS, tl.sum(tl.where(live, alone, 0.0), 0)[None, :], known)


@triton.jit(do_not_specialize=["numbers", "rows"])
def gradient_kernel(
    grad_ptr,
    outer_ptr,
    x_ptr,
    mean_ptr,
    deviation_ptr,
    gain_ptr,
    offset_ptr,
    sums_ptr,  # (2, CHANNELS) or more
    out_ptr,
    numbers,
    rows,
    CHANNELS: tl.constexpr,
    RUN: tl.constexpr,
    HAS: tl.constexpr,
    OUTER: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * RUN + tl.arange(0, RUN)
    live, channel = at < numbers, at % CHANNELS
    x = tl.load(x_ptr + at, live, 0.0)
    x, before = normed(x, channel, live, mean_ptr, deviation_ptr, gain_ptr, offset_ptr, HAS)
    if OUTER:
        grad = tl.load(grad_ptr + at // CHANNELS, live, 0.0).to(x.dtype)
        grad *= tl.load(outer_ptr + channel, live, 0.0).to(x.dtype)
    else:
        grad = tl.load(grad_ptr + at, live, 0.0).to(x.dtype)
    if HAS & 8:  # RELU
        grad = tl.where(before <= 0, 0.0, grad)
    if HAS & 16:  # BATCH
        grad -= (tl.load(sums_ptr + channel, live, 0.0) + x * tl.load(sums_ptr + CHANNELS + channel, live, 0.0)) / rows
    if HAS & 18:  # NORM or BATCH
        grad *= tl.load(deviation_ptr + channel, live, 0.0)
    if HAS & 4:  # AFFINE
        grad *= tl.load(gain_ptr + channel, live, 0.0).to(x.dtype)
    tl.store(out_ptr + at, grad.to(out_ptr.dtype.element_ty), live)


def _tile(channels: int) -> tuple[int, int]:
    """Rows and channels of a tile."""
    block = min(CHANNELS, triton.next_power_of_2(channels))
    return min(MOST_ROWS, ELEMENTS // block), block


@functools.lru_cache(maxsize=1024)
def _measuring(
    rows: int, channels: int, measured: int, eps: float, device: torch.device, dtype: torch.dtype
) -> tuple[Launch, Launch, int]:
    tile, block = _tile(channels)
    tiles, blocks = triton.cdiv(rows, tile), triton.cdiv(channels, block)
    moments = Launch(
        moments_kernel,
        device,
        grid=tiles * blocks,
        warps=4,
        rows=rows,
        CHANNELS=channels,
        TILE=tile,
        CHANNEL_BLOCK=block,
    )
    vectors = Launch(
        vectors_kernel,
        device,
        grid=triton.cdiv(channels, FEW_CHANNELS),
        warps=8,
        rows=rows,
        tiles=tiles,
        measured=measured,
        CHANNELS=channels,
        TILE=tile,
        CHANNEL_BLOCK=FEW_CHANNELS,
        TILE_BLOCK=min(TILES, triton.next_power_of_2(tiles)),
        EPS=eps,
    )
    return moments, vectors, tiles


def measure(x: Tensor, norm: Norm, eps: float, statistics: Tensor) -> None:
    """Write the norm's vectors, and to statistics (2, channels), float64, the means and the unbiased variances.

    x: (rows, channels) without gaps, in the compute type.
    """
    rows, channels = x.shape
    moments, vectors, tiles = _measuring(rows, channels, statistics.stride(0), eps, x.device, x.dtype)
    partial = x.new_empty((tiles, 2, channels))
    moments(x, partial)
    vectors(partial, norm.mean, norm.deviation, statistics)


@functools.lru_cache(maxsize=1024)
def _normalising(
    numbers: int, channels: int, has: int, device: torch.device, dtypes: tuple[torch.dtype, ...]
) -> Launch:
    return Launch(
        normalise_kernel,
        device,
        grid=triton.cdiv(numbers, RUN),
        warps=4,
        numbers=numbers,
        CHANNELS=channels,
        RUN=RUN,
        HAS=has,
    )


def normalise(x: Tensor, norm: Norm, out: Tensor) -> Tensor:
    """Write what the layer behind is given of x (rows, channels) to `out`, as many numbers in any dtype."""
    dtypes = (x.dtype, norm.gain.dtype, out.dtype)
    launch = _normalising(x.numel(), x.shape[1], norm.has, x.device, dtypes)
    launch(x, *norm.tensors, out)
    return out


@functools.lru_cache(maxsize=1024)
def _differentiating(
    rows: int, channels: int, has: int, outer: bool, device: torch.device, dtypes: tuple[torch.dtype, ...]
) -> tuple[Launch, Sums, Launch]:
    tile, block = _tile(channels)
    tiles, blocks = triton.cdiv(rows, tile), triton.cdiv(channels, block)
    kinds = {"CHANNELS": channels, "HAS": has, "OUTER": outer}
    partial = Launch(
        gradient_sums_kernel, device, grid=tiles * blocks, warps=4, rows=rows, TILE=tile, CHANNEL_BLOCK=block, **kinds
    )
    sums = Sums(device, compute_type(dtypes[0]), 1, tiles, (4 if outer else 2) * channels)
    numbers = rows * channels
    gradient = Launch(
        gradient_kernel, device, grid=triton.cdiv(numbers, RUN), warps=4, numbers=numbers, rows=rows, RUN=RUN, **kinds
    )
    return partial, sums, gradient


def differentiate(grad: Tensor, outer: Tensor | None, x: Tensor, norm: Norm, out: Tensor) -> Tensor:
    """Write the gradient of x, which the norm was given, and return the sums by channel, (2, channels) or (4, channels).

    grad: of the normed features, as many numbers as x; with `outer` (channels,) one for each row, times that. The sums are
    those of the gradient in front of the ReLU, alone and times the normalised features; with `outer`, also of `grad` times
    the features that went on and of `grad` alone.
    """
    rows, channels = x.shape
    some = x if outer is None else outer
    dtypes = (x.dtype, grad.dtype, some.dtype, norm.gain.dtype, out.dtype)
    partial, sums, gradient = _differentiating(rows, channels, norm.has, outer is not None, x.device, dtypes)
    total = x.new_empty((2 if outer is None else 4, channels))
    target = sums.target(total)
    partial(grad, some, x, *norm.tensors, target)
    sums.finish(target, total)
    gradient(grad, some, x, *norm.tensors, total, out)
    return total
