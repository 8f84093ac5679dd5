"""What the kernels share on the device: the gate's arithmetic, and how a program's lanes cover a tile.

A tile is TILE_ROWS x TILE_COLUMNS elements. Ordinarily its lanes are rows of columns and a vector stays within one.
Where rows do not begin at a multiple of the vector (7 x 7 and 14 x 14 positions in NCHW), a `DENSE` tile holds whole rows
that follow each other without a gap, and its lanes are one flat run over them, so that loads keep their full width.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def combine_logits(u, v, COMBINE: tl.constexpr):
    """The gate's argument; under "max" a NaN on either side wins, as in torch.maximum."""
    if COMBINE == "sum":
        return u + v
    elif COMBINE == "product":
        return u * v
    else:
        return tl.where((u > v) | (u != u), u, v)


@triton.jit
def split_gradient(t, u, v, COMBINE: tl.constexpr):
    """What the gradient t of the combined logits is for u and for v.

    Under "max" the loser gets 0, whatever t is, and on a tie each gets half, as from torch.maximum; a NaN loses to none.
    """
    if COMBINE == "sum":
        return t, t
    elif COMBINE == "product":
        return t * v, t * u
    else:
        share = tl.where(u == v, 0.5 * t, t)
        return tl.where(u < v, 0.0, share), tl.where(u > v, 0.0, share)


@triton.jit
def exp_minus(a):
    """exp(-a) for a >= 0, in a's dtype.

    In float32 tl.exp is the hardware's exp2 of a product, whose rounding moves the result by a times as much: what it has
    added to a is taken out again.
    """
    if a.dtype == tl.float64:
        return tl.exp(-a)
    else:
        # The power is 0 from there on, and infinity less itself would be NaN below.
        a = tl.minimum(a, 110.0, propagate_nan=tl.PropagateNan.ALL)
        exponent = a * -1.4426950408889634
        power = tl.exp2(exponent)
        return power - power * tl.fma(exponent, 0.6931471805599453, a)


@triton.jit
def reciprocal(y):
    """1 / y for 1 <= y <= 2, in y's dtype.

    In float32 the hardware's root and a Newton step, which leaves the last rounding alone, in fewer instructions than
    Triton's `/`, which errs by two roundings. With tl.div_rn, three times as many, the backward spills.
    """
    if y.dtype == tl.float64:
        return 1.0 / y
    else:
        root = tl.rsqrt(y)
        r = root * root
        return r - r * tl.fma(y, r, -1.0)


@triton.jit
def sigmoid(z, SHORT: tl.constexpr):
    """1 / (1 + exp(-z)), in z's dtype; SHORT: for a result of 16 bits, by the reciprocal that is the fewest instructions.

    Logits do not take exp2's factor once when they are loaded, as CUDA's do (csrc/cuda/core/sigmoid.cuh), which would be one
    instruction per element less: Triton has no product that ptxas leaves alone, and fused into the sum of two huge logits
    it keeps them from cancelling.
    """
    if SHORT:
        r = tl.rsqrt(1.0 + tl.exp2(z * -1.4426950408889634))  # three instructions where a division is nine
        return r * r
    else:
        return sigmoid_and_slope(z, False)[0]


@triton.jit
def sigmoid_and_slope(z, SHORT: tl.constexpr):
    """The sigmoid and its derivative; SHORT as in `sigmoid`.

    From exp(-|z|), for s (1 - s) loses its digits where s is close to 1. SHORT takes it all the same: it is off by 2^-24 at
    most, of a quarter at most, where gradients of 16 bits keep 2^-9 or 2^-12 of what they add up.
    """
    if SHORT:
        s = sigmoid(z, True)
        return s, s - s * s
    else:
        e = exp_minus(tl.abs(z))
        r = reciprocal(1.0 + e)
        # Not z < 0: for it ptxas computes on one tile before it has issued the loads of all (sm_90).
        return tl.where(z >= 0, r, e * r), e * r * r


@triton.jit
def tile_indices(columns, TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr, DENSE: tl.constexpr):
    """Row and column of every lane within the tile."""
    if DENSE:
        lane = tl.arange(0, TILE_ROWS * TILE_COLUMNS)
        return lane // columns, lane % columns
    else:
        return tl.arange(0, TILE_ROWS)[:, None], tl.arange(0, TILE_COLUMNS)[None, :]


@triton.jit
def tile_offsets(
    row,
    column,
    stride,
    UNIT: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    DENSE: tl.constexpr,
    FAR: tl.constexpr,
):
    """Offset in memory of every lane from the tile's first element, in 64 bits if FAR: 32 take half the registers."""
    if DENSE:
        return tl.arange(0, TILE_ROWS * TILE_COLUMNS)
    else:
        return (row.to(tl.int64) if FAR else row) * stride * UNIT + column


@triton.jit
def tile_mask(
    row,
    column,
    rows,
    columns,
    VECTOR: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    DENSE: tl.constexpr,
):
    """Which lanes hold elements where `rows` and `columns` are left from the tile's first element on."""
    if DENSE:
        live = tl.multiple_of((tl.minimum(rows, TILE_ROWS) * columns).to(tl.int32), VECTOR)
        return tl.arange(0, TILE_ROWS * TILE_COLUMNS) < live
    else:
        return (row < rows) & (column < columns)


@triton.jit
def as_rows(tile, columns, TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr, DENSE: tl.constexpr):
    """The tile as (TILE_ROWS, TILE_COLUMNS), zero where it holds nothing; through shared memory if it is dense."""
    if DENSE:
        row = tl.arange(0, TILE_ROWS)[:, None]
        column = tl.arange(0, TILE_COLUMNS)[None, :]
        source = tl.reshape(row * columns + column, [TILE_ROWS * TILE_COLUMNS])
        rows = tl.reshape(tl.gather(tile, source, 0), [TILE_ROWS, TILE_COLUMNS])
        return tl.where(column < columns, rows, 0.0)
    else:
        return tile


@triton.jit
def vectors_across_rows(slot, columns, WIDTH: tl.constexpr):
    """Where vectors of a run over whole rows lie, each across the end of one row at most (columns >= WIDTH).

    The row in which a vector begins, and for its lanes the column and whether they are over the end, in the next row.
    """
    row = slot * WIDTH // columns
    column = slot * WIDTH - row * columns + tl.arange(0, WIDTH)[None, :]
    over = column >= columns
    return row, tl.where(over, column - columns, column), over


@triton.jit
def of_vectors(values, row, over):
    """One value per row as one per lane of such vectors.

    Through shared memory: the barrier keeps the assembler from computing on one tile before it has issued the loads of all.
    """
    ROWS: tl.constexpr = values.shape[0]
    row = tl.reshape(row, [row.shape[0]])
    own = tl.gather(values, tl.minimum(row, ROWS - 1), 0)
    return tl.where(over, tl.gather(values, tl.minimum(row + 1, ROWS - 1), 0)[:, None], own[:, None])


@triton.jit
def sum_rows_of_vectors(values, over, columns, TILE_ROWS: tl.constexpr, ROW_VECTORS: tl.constexpr):
    """The sums of the rows over which such vectors run, (vectors, WIDTH), of which at most ROW_VECTORS begin in one row.

    Each vector is summed up to the end of its row and beyond it: these two sums alone go through shared memory.
    """
    VECTORS: tl.constexpr = values.shape[0]
    WIDTH: tl.constexpr = values.shape[1]
    own, next_row = tl.sum(tl.where(over, 0.0, values), 1), tl.sum(tl.where(over, values, 0.0), 1)
    row = tl.arange(0, TILE_ROWS)
    first = (row * columns + WIDTH - 1) // WIDTH  # vectors that begin in the row
    end = ((row + 1) * columns + WIDTH - 1) // WIDTH
    at = first[:, None] + tl.arange(0, ROW_VECTORS)[None, :]
    inner = tl.gather(own, tl.reshape(tl.minimum(at, VECTORS - 1), [TILE_ROWS * ROW_VECTORS]), 0)
    total = tl.sum(tl.where(at < end[:, None], tl.reshape(inner, [TILE_ROWS, ROW_VECTORS]), 0.0), 1)
    return total + tl.where(row > 0, tl.gather(next_row, tl.maximum(first - 1, 0), 0), 0.0)
