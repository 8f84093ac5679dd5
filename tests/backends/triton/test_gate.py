"""The gate and its backward in Triton, through bam_fused.gate, against the float64 reference."""

from __future__ import annotations

import itertools

import edges
import pytest
import torch
from checking import check_gate, with_gradients
from drawing import COMBINES, DTYPES, FORMATS, VIEWS, channel_views, feature_map, gradient, logits, spatial_views
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bam_fused
from bam_fused import reference
from bam_fused.backends.triton import heuristics

pytestmark = [pytest.mark.triton_interpret, pytest.mark.usefixtures("triton_backend")]

# (N, C, H, W): rows that begin at no multiple of a vector, whole and in part, longer than a tile, of length 1; odd C
SHAPES = ((2, 16, 7, 7), (1, 24, 14, 14), (2, 5, 6, 10), (1, 3, 37, 41), (3, 17, 1, 1), (2, 1, 5, 3), (1, 640, 2, 2))

drawn = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # fixtures that only choose the backend
)


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_values_and_gradients(poisoned, device, dtype, format, combine):
    for shape in SHAPES:
        check_gate(device, feature_map(shape, dtype, format), *logits(shape, dtype), gradient(shape, dtype), combine)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_x_and_gradient(poisoned, device, view):
    combines = itertools.cycle(COMBINES)
    for shape in ((2, 8, 3, 5), (1, 3, 1, 5), (2, 9, 1, 1)):
        for other in ("contiguous", "channels_last", view):
            for x_view, grad_view in {(view, other), (other, view)}:
                x, grad = feature_map(shape, torch.bfloat16, x_view), gradient(shape, torch.bfloat16, grad_view)
                check_gate(device, x, *logits(shape), grad, next(combines))


@drawn
@given(st.data())
def test_drawn_cases(device, data):
    shape = tuple(
        data.draw(st.integers(1, top), label=name) for name, top in (("N", 3), ("C", 40), ("H", 24), ("W", 24))
    )
    dtype = data.draw(st.sampled_from(DTYPES))
    logit_dtypes = [data.draw(st.sampled_from((dtype, torch.float32))) for _ in range(2)]
    channel, spatial = (t.to(d) for t, d in zip(logits(shape, dtype, 3.0), logit_dtypes, strict=True))
    x = feature_map(shape, dtype, data.draw(st.sampled_from(VIEWS)))
    grad = gradient(shape, dtype, data.draw(st.sampled_from(VIEWS)))
    check_gate(device, x, channel, spatial, grad, data.draw(st.sampled_from(COMBINES)))


def _power(data: st.DataObject, low: int, high: int) -> int:
    return 2 ** data.draw(st.integers(low, high))


@drawn
@given(st.data())
def test_any_tiling_gives_the_same(device, data):
    """Whatever a tuned table may hold: blocks that divide nothing, partial sums of rows and columns, empty splits."""
    shape = tuple(data.draw(st.integers(1, top), label=name) for name, top in (("N", 2), ("C", 24), ("H", 9), ("W", 9)))
    format = data.draw(st.sampled_from(("contiguous", "channels_last")))
    x = feature_map(shape, torch.float32, format)
    columns = shape[2] * shape[3] if format == "contiguous" and shape[2:] != (1, 1) else shape[1]
    dense = data.draw(st.booleans()) and (shape[1] % 8 == 0 and format == "contiguous")
    tile_columns = max(_power(data, 2, 7), 1 << (columns - 1).bit_length() if dense else 1)
    tile_rows = _power(data, 3 if dense else 0, 5)
    splits, unroll = st.integers(1, 6), st.integers(1, 4)
    tile = heuristics.TileConfig(tile_rows, tile_columns, dense, data.draw(splits), 4, data.draw(unroll))
    pointwise = heuristics.PointwiseConfig(
        data.draw(st.integers(1, 9)), _power(data, 0, 6), data.draw(splits), 4, data.draw(unroll)
    )
    check_gate(
        device,
        x,
        *logits(shape),
        gradient(shape, torch.float32, format),
        data.draw(st.sampled_from(COMBINES)),
        function=_with_configs(pointwise, tile),
    )


def _with_configs(forward: heuristics.PointwiseConfig, backward: heuristics.TileConfig):
    """The gate, differentiable, by kernels with these configs."""
    from bam_fused.backends.triton import gate, gate_backward

    class Gate(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, channel, spatial, combine):
            ctx.save_for_backward(x, channel, spatial)
            ctx.combine = combine
            return gate.gate(x, channel, spatial, combine, forward)

        @staticmethod
        def backward(ctx, grad):
            return *gate_backward.gate_backward(grad, *ctx.saved_tensors, ctx.combine, backward), None

    return Gate.apply


@pytest.mark.parametrize(
    "config",
    [
        heuristics.TileConfig(3, 64, False, 1, 4),
        heuristics.TileConfig(4, 64, False, 0, 4),
        heuristics.TileConfig(8, 8, True, 1, 4),
    ],
    ids=["no power of two", "no split", "dense tiles of parts of rows"],
)
def test_a_config_that_cannot_run_is_refused(device, config):
    from bam_fused.backends.triton import gate, gate_backward, global_avg_pool

    x, (channel, spatial) = feature_map((2, 8, 4, 6)).to(device), (t.to(device) for t in logits((2, 8, 4, 6)))
    with pytest.raises(ValueError, match="config must have powers of two"):
        gate_backward.gate_backward(x, x, channel, spatial, "sum", config)
    with pytest.raises(ValueError, match="config must have powers of two"):
        global_avg_pool.global_avg_pool(x, config)
    with pytest.raises(ValueError, match="config must have powers of two"):
        gate.gate(x, channel, spatial, "sum", heuristics.PointwiseConfig(1, 100, 1, 4))


def test_a_dense_config_is_refused_where_rows_have_gaps(device):
    from bam_fused.backends.triton import global_avg_pool

    x = torch.randn(2, 8, 4, 6, device=device)[..., :4].contiguous().repeat(1, 2, 1, 1)[:, ::2]
    with pytest.raises(ValueError, match="config must not be dense"):
        global_avg_pool.global_avg_pool(x, heuristics.TileConfig(8, 16, True, 1, 4))


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_every_view_of_the_logits(device, format):
    n, c, h, w = shape = (2, 6, 5, 4)
    x, grad = feature_map(shape, format=format), gradient(shape)
    for u, v in itertools.product(channel_views(n, c), spatial_views(n, h, w)):
        check_gate(device, x, u, v, grad, "sum")


@pytest.mark.parametrize("offset", range(9))
def test_every_storage_offset(device, offset):
    """A view that begins anywhere is read and its neighbours are left alone, though vectors may not be aligned."""
    shape = (1, 8, 4, 6)
    memory = torch.full((192 + 16,), float("nan"))
    x = memory[offset : offset + 192].view(shape).copy_(torch.randn(shape))
    check_gate(device, x, *logits(shape), gradient(shape), "sum")


@pytest.mark.parametrize("stride", [(2**31, 16, 4, 1), (0, 2**28, 4, 1), (2**31, 1, 32, 8), (0, 1, 2**29, 2**27)])
def test_offsets_beyond_32_bits(device, stride):
    """Views whose samples, rows or pixels lie 2^31 elements apart, in memory that is reserved but hardly touched."""
    shape = (2 if stride[0] else 1, 9 if stride[1] > 16 else 8, 4, 4)
    reach = sum(step * (size - 1) for step, size in zip(stride, shape, strict=True)) + 1
    try:
        far = [torch.empty(reach, dtype=torch.bfloat16, device=device).as_strided(shape, stride) for _ in range(2)]
    except RuntimeError:
        pytest.skip(f"cannot reserve {4 * reach / 2**30:.0f} GiB")
    x, grad = (view.copy_(torch.randn(shape)) for view in far)
    near = [t.clone(memory_format=torch.contiguous_format) for t in (x, grad)]
    channel, spatial = (t.to(device) for t in logits(shape))
    ours = with_gradients(bam_fused.gate, x, channel, spatial, grad, "product")
    for a, b in zip(ours, with_gradients(bam_fused.gate, near[0], channel, spatial, near[1], "product"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(bam_fused.global_avg_pool(x), bam_fused.global_avg_pool(near[0]))


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
def test_nan_and_infinity_go_where_eager_sends_them(device, dtype, format, combine):
    values = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, -1.0, 200.0, -200.0])
    n = len(values)
    channel, spatial = values.expand(n, n).to(dtype), values.reshape(1, 1, 1, n).expand(n, 1, 1, n).to(dtype)
    x = feature_map((n, n, 1, n), dtype, format).copy_(values.reshape(n, 1, 1, 1).expand(n, n, 1, n))
    for grad in (torch.ones_like(x), torch.full_like(x, float("inf"))):
        ours = with_gradients(bam_fused.gate, *(t.to(device) for t in (x, channel, spatial, grad)), combine)
        wide = [t.float() for t in (x, channel, spatial)]
        eager = reference.gate(*wide, combine), *reference.gate_backward(grad.float(), *wide, combine)
        for a, b in zip(ours, eager, strict=True):
            torch.testing.assert_close(a.cpu(), b.to(dtype), equal_nan=True)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("case", edges.EDGES)
def test_gradients_at_the_edge_of_the_numbers(device, case):
    *inputs, combine = edges.inputs(case)
    x, channel, spatial = (t.to(device) for t in inputs)
    _, _, *gradients = with_gradients(bam_fused.gate, x, channel, spatial, torch.ones_like(x), combine)
    edges.check(case, *gradients)


def test_a_logit_past_the_edge_does_not_leak(device):
    """Rows and columns of a tile that lie outside the map see NaN and infinity in the logits next to them."""
    shape = (1, 5, 3, 3)
    for format, combine in itertools.product(("contiguous", "channels_last"), COMBINES):
        arguments = feature_map(shape, torch.float32, format), *logits(shape), gradient(shape)
        for i in (1, 2):
            memory = torch.full((64,), float("inf") if i == 1 else float("nan"))
            inside = memory[8 : 8 + arguments[i].numel()].view(arguments[i].shape).copy_(arguments[i])
            check_gate(device, *arguments[:i], inside, *arguments[i + 1 :], combine)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_ties_share_the_gradient(device, dtype):
    x = torch.ones(1, 2, 1, 2, dtype=dtype)
    channel, spatial = torch.tensor([[1.0, 1.125]], dtype=dtype), torch.ones(1, 1, 1, 2, dtype=dtype)
    check_gate(device, x, channel, spatial, x, "max")


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("combine", COMBINES)
def test_gradcheck(device, format, combine):
    shape = (2, 8, 3, 3)
    x = feature_map(shape, torch.float64, format)
    inputs = [t.to(device).requires_grad_() for t in (x, *logits(shape, torch.float64))]
    assert torch.autograd.gradcheck(lambda *t: bam_fused.gate(*t, combine), inputs, fast_mode=True)


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_same_bits_in_every_run(device, format):
    shape = (2, 32, 14, 14)
    arguments = [t.to(device) for t in (feature_map(shape, format=format), *logits(shape), gradient(shape))]
    first = with_gradients(bam_fused.gate, *arguments, "sum")
    for _ in range(3):
        for a, b in zip(first, with_gradients(bam_fused.gate, *arguments, "sum"), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("format", FORMATS)
def test_operators_pass_opcheck(device, format):
    """Schema, fake kernels (strides included) and tracing with symbolic sizes, of the operators' Triton overloads."""
    shape = (2, 8, 5, 7)
    x, channel, spatial = (t.to(device) for t in (feature_map(shape, format=format), *logits(shape)))
    torch.library.opcheck(torch.ops.bam_fused.gate.triton, (x, channel, spatial, "sum"))
    torch.library.opcheck(torch.ops.bam_fused.gate_backward.triton, (x, x, channel, spatial, "max"))
    torch.library.opcheck(torch.ops.bam_fused.global_avg_pool.triton, (x,))


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 0, 3, 3), (2, 4, 0, 3), (2, 4, 3, 0)])
def test_nothing_to_do(device, shape):
    check_gate(device, feature_map(shape), *logits(shape), gradient(shape), "sum")


def test_compiles_without_graph_breaks(device):
    compiled = torch.compile(bam_fused.gate, fullgraph=True, backend="aot_eager")
    for shape, format in (((2, 8, 7, 7), "contiguous"), ((1, 3, 4, 5), "channels_last")):
        x = feature_map(shape, torch.bfloat16, format)
        check_gate(device, x, *logits(shape), gradient(shape, torch.bfloat16), "sum", function=compiled)
