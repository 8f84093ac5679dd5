"""Block sizes, warps and splits for a shape, dtype and layout: fixed rules, so that nothing is ever tuned at run time.

The rules follow from what has to be in flight on an NVIDIA GPU of the 2020s to keep its memory busy (16 to 64 KB per
multiprocessor; at 768 or 1,024 threads on one, each must have 64 bytes under way): benchmarks/static/triton_kernels.md has
what is, benchmarks/results what an H100 makes of it. A table that the tuning command has measured on the device at hand
goes first: see tuned.py.

How a sample's sums are cut depends on the sample, never on how many there are beside it, so neither do their bits. The pool
is cut as a batch of one wants it, the backward, which trains, as a batch of BATCH does; other batches take the same.

Feature maps move 16 bytes at a time wherever a sample's rows x columns is a multiple of that. Three cases are left with
narrower vectors: samples whose size is no such multiple (C and H * W both odd), sums over rows that begin at no multiple
of a vector and are longer than 512 elements, and views with gaps (channels_last channel slices) of odd strides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter

import torch

from bam_fused.backends.triton import tuned
from bam_fused.backends.triton.rows import VECTOR_BYTES, Extent, Integers, vector_width

PROGRAMS = 1056  # enough to fill a GPU of about 132 multiprocessors with eight programs each
WARPS = 4
THREADS = 32 * WARPS
GATE_UNROLL = 4  # tiles of one vector for each thread: 64 bytes of x under way
BACKWARD_UNROLL = 2  # of x and grad: 64 bytes
DENSE_UNROLL = 3  # the same where a quarter of the lanes is idle
POOL_UNROLL = (4, 8)  # as fits the walk
LARGEST_DENSE_TILE = 4096  # elements; a larger one would leave too few registers to each thread
LONGEST_WALK = 8  # groups: by then what a program does before the first of them costs next to nothing
LONGEST_SUM = 16  # steps of a walk that sums: a few samples of a large map want more programs than a batch of BATCH
SHORTEST_WALK = 2  # steps of the pool: halving a walk of fewer saves less than adding its two sums up costs
WELL_USED = 0.9  # of a tile's lanes
POOL_WELL_USED = 0.87  # of the tiles of its steps: idle ones cost no memory, and the pool has instructions to spare
MOST_TILES = 8  # of a group of rows
BATCH = 32
SMALL_BYTES = 2**24  # below this size of such a batch its partial sums stay in the level-2 cache
WORKSPACE_SHARE = 0.05  # partial sums in bytes, of the feature map's
SMALL_WORKSPACE_SHARE = 0.25  # the same for a small one in the backward


@dataclass(frozen=True)
class PointwiseConfig:
    """How `gate` walks: groups of rows, in tiles of so many vectors, the walk over the groups cut into `splits`."""

    group_rows: int
    vectors: int
    splits: int
    warps: int
    unroll: int = 1  # groups whose loads are issued before the first is computed on

    def fits(self, extent: Extent) -> bool:
        """Whether a kernel can run with it."""
        powers = all(_is_power_of_two(size) for size in (self.vectors, self.warps))
        return powers and min(self.group_rows, self.splits, self.unroll) >= 1


@dataclass(frozen=True)
class TileConfig:
    """How a reduction walks over rows and columns: tiles of tile_rows x tile_columns, their walk cut into `splits`."""

    tile_rows: int
    tile_columns: int
    dense: bool
    splits: int
    warps: int
    unroll: int = 1  # tiles whose loads are issued before the first is computed on

    def fits(self, extent: Extent) -> bool:
        """Whether a kernel can run with it: a dense tile holds whole rows."""
        sizes = self.tile_rows, self.tile_columns, self.warps
        whole_rows = not self.dense or self.tile_columns >= extent.columns
        return all(_is_power_of_two(size) for size in sizes) and min(self.splits, self.unroll) >= 1 and whole_rows


def check_config(config: PointwiseConfig | TileConfig, extent: Extent, may_be_dense: bool = False) -> None:
    """Raise ValueError for a config that a kernel cannot run with on these rows and columns."""
    if not config.fits(extent):
        raise ValueError(
            f"config must have powers of two and, if dense, tiles of whole rows for {extent}, got {config}"
        )
    if isinstance(config, TileConfig) and config.dense and not may_be_dense:
        raise ValueError(f"config must not be dense where rows do not follow each other without a gap, got {config}")


def gate(extent: Extent, dtype: torch.dtype, device: torch.device, width: int, row_step: int) -> PointwiseConfig:
    """For `gate`: as many groups at once and walks as long as programs enough are left to fill the GPU.

    `width`: the elements of a vector; `row_step`: the rows after which a vector begins at the beginning of a row again.
    """
    measured = tuned.lookup("gate", extent, dtype, device, PointwiseConfig)
    if measured is not None:
        return measured
    group_rows = _group_rows(extent, THREADS * width, row_step)
    groups, tiles = (
        _cover(extent.rows, group_rows),
        extent.samples * _cover(group_rows * extent.columns, THREADS * width),
    )
    unroll = next((n for n in range(GATE_UNROLL, 1, -1) if tiles * _cover(groups, n) >= PROGRAMS), 1)
    steps = _cover(groups, unroll)
    walk = max(1, min(LONGEST_WALK // unroll, tiles * steps // PROGRAMS))
    return PointwiseConfig(group_rows, THREADS, _cover(steps, walk), WARPS, unroll)


def _group_rows(extent: Extent, elements: int, row_step: int) -> int:
    """The fewest rows, in steps, whose tiles of so many elements leave hardly a lane idle; where none do, the best."""
    used: dict[int, float] = {}
    for rows in range(row_step, max(row_step, MOST_TILES * elements // extent.columns) + 1, row_step):
        lanes = _cover(extent.rows, rows) * _cover(rows * extent.columns, elements) * elements
        used[rows] = extent.rows * extent.columns / lanes
        if used[rows] >= WELL_USED:
            return rows
    return max(used, key=lambda rows: used[rows])


def gate_backward(
    extent: Extent, dtype: torch.dtype, device: torch.device, may_be_dense: bool, sample_strides: Integers
) -> TileConfig:
    """For `gate_backward`: programs walk down the rows and leave one partial sum per column and split.

    `may_be_dense`: rows follow each other without a gap in all feature maps, so that a tile of whole rows can be loaded
    as one run; `sample_strides`: the strides from one sample to the next in these feature maps.
    """
    measured = tuned.lookup("gate_backward", extent, dtype, device, TileConfig)
    if measured is not None and (may_be_dense or not measured.dense):
        return measured
    small = BATCH * extent.rows * extent.columns * dtype.itemsize < SMALL_BYTES
    workspace = _workspace_elements(extent, dtype, SMALL_WORKSPACE_SHARE if small else WORKSPACE_SHARE)
    vectors = THREADS * VECTOR_BYTES // dtype.itemsize
    choices = []
    # A row of the tile within a warp: sums of wider ones go through shared memory.
    for tile in _tiles(extent, dtype, (vectors, vectors), vectors // WARPS, may_be_dense, sample_strides):
        unroll = min(DENSE_UNROLL if tile.dense else BACKWARD_UNROLL, _cover(extent.rows, tile.tile_rows))
        column_splits = _cover(extent.columns, tile.tile_columns)
        row_sums = column_splits * extent.rows if column_splits > 1 else 0
        affordable = int((workspace - row_sums) // extent.columns)
        steps = _cover(extent.rows, tile.tile_rows * unroll)
        choices.append(_split(replace(tile, unroll=unroll), steps, BATCH * column_splits, affordable))
    return _first_to_fill(choices)


def global_avg_pool(
    extent: Extent, dtype: torch.dtype, device: torch.device, may_be_dense: bool, sample_strides: Integers
) -> TileConfig:
    """For `global_avg_pool`: programs walk along the rows (NCHW) or down them (NHWC)."""
    measured = tuned.lookup("global_avg_pool", extent, dtype, device, TileConfig)
    if measured is not None and (may_be_dense or not measured.dense):
        return measured
    workspace = (
        _workspace_elements(extent, dtype, WORKSPACE_SHARE) / 2
    )  # written and read again beside one pass over x, not three
    vectors = THREADS * VECTOR_BYTES // dtype.itemsize
    choices = []
    for tile in _tiles(extent, dtype, (vectors, POOL_UNROLL[0] * vectors), 512, may_be_dense, sample_strides):
        if extent.rows_are_channels and not tile.dense:  # a walk of few tiles has rows of several
            rows = tile.tile_rows * max(1, POOL_UNROLL[0] // _cover(extent.columns, tile.tile_columns))
            tile = replace(tile, tile_rows=min(_power_of_two(rows), _power_of_two(extent.rows)))
        down, along = _cover(extent.rows, tile.tile_rows), _cover(extent.columns, tile.tile_columns)
        kept, tiles, sums = (down, along, extent.rows) if extent.rows_are_channels else (along, down, extent.columns)
        unroll = _unroll(tiles)
        steps = _cover(tiles, unroll)
        affordable = min(int(workspace // sums), steps // SHORTEST_WALK)
        choices.append(_split(replace(tile, unroll=unroll), steps, kept, affordable))
    return _first_to_fill(choices)


def _unroll(tiles: int) -> int:
    """How many of a walk's tiles the pool loads at once: the most that leave hardly one idle; where none do, the best."""
    least, most = POOL_UNROLL
    if tiles <= most:
        return tiles
    used = {n: tiles / (_cover(tiles, n) * n) for n in range(most, least - 1, -1)}
    return next((n for n in used if used[n] >= POOL_WELL_USED), max(used, key=lambda n: used[n]))


def _tiles(
    extent: Extent,
    dtype: torch.dtype,
    elements: tuple[int, int],
    widest: int,
    may_be_dense: bool,
    sample_strides: Integers,
) -> list[TileConfig]:
    """Tiles of about so many elements, the one with the longest rows first; dense ones where that widens vectors.

    `elements`: of a tile, and of a dense one; `widest`: the columns of one that is not dense, 128 at least.
    """
    ordinary, dense = elements
    within = vector_width(dtype, extent.columns)
    across = vector_width(dtype, extent.rows * extent.columns, *sample_strides)
    if may_be_dense and within < across:
        tile_columns = _power_of_two(extent.columns)
        tile_rows = max(across // within, dense // tile_columns)
        size = tile_rows * tile_columns
        if size <= LARGEST_DENSE_TILE:
            return [TileConfig(tile_rows, tile_columns, True, 1, max(WARPS, WARPS * size // dense))]
    tile_columns = _tile_columns(extent.columns)
    blocks = [block for block in (512, 256, 128) if block <= min(tile_columns, max(128, widest))] or [tile_columns]
    rows = _power_of_two(extent.rows)
    return [TileConfig(max(1, min(ordinary // block, rows)), block, False, 1, WARPS) for block in blocks]


def _split(tile: TileConfig, walk: int, programs: int, affordable: int) -> tuple[int, TileConfig]:
    """A walk of so many steps cut until the programs fill the GPU or the workspace is used up: the programs, the config."""
    wanted = max(1, min(max(_cover(PROGRAMS, programs), _cover(walk, LONGEST_SUM)), walk, affordable))
    splits = _cover(walk, _cover(walk, wanted))  # the fewest of that length, so that none is empty
    return programs * splits, replace(tile, splits=splits)


def _first_to_fill(choices: list[tuple[int, TileConfig]]) -> TileConfig:
    """The first config with enough programs to fill the GPU, or the one with the most."""
    return next((config for programs, config in choices if programs >= PROGRAMS), max(choices, key=itemgetter(0))[1])


def _tile_columns(columns: int) -> int:
    """The largest block whose last one wastes not much more lanes than the best choice wastes."""
    if columns <= 128:
        return _power_of_two(columns)
    used = {block: columns / (block * _cover(columns, block)) for block in (128, 256, 512)}
    return max(block for block in used if used[block] >= max(used.values()) - 0.1)


def _workspace_elements(extent: Extent, dtype: torch.dtype, share: float) -> float:
    """The partial sums, per sample, that a workspace may hold: float32, or float64 for float64 feature maps."""
    return share * extent.rows * extent.columns * dtype.itemsize / max(4, dtype.itemsize)


def _cover(size: int, block: int) -> int:
    return -(-size // block)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _is_power_of_two(size: int) -> bool:
    return size > 0 and size & (size - 1) == 0
