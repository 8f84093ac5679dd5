"""The compiled CPU library: every instruction set, memory at its edges, its symbols and its introspection."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import torch
from accuracy import assert_no_worse_than_eager, noise_of_sums
from drawing import COMBINES, DTYPES, SHAPES, feature_map, gradient, logits
from implementations import randomise
from training_steps import by_layers, check, path_taken

from bam_fused import BAM, reference
from bam_fused.backends import cpu

if cpu.library is None:
    pytest.skip(f"no CPU library: {cpu.why_not(torch.device('cpu'))}", allow_module_level=True)

OPS = torch.ops.bam_fused
INSTRUCTION_SETS = cpu.instruction_sets()


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request) -> Iterator[str]:
    cpu.use_instruction_set(request.param)
    yield request.param
    cpu.use_instruction_set(INSTRUCTION_SETS[0])


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_every_instruction_set(poisoned, instruction_set, format, dtype, combine):
    for shape in SHAPES:
        x, grad = feature_map(shape, dtype, format), gradient(shape, dtype, format)
        channel, spatial = logits(shape, dtype)
        inputs = (x, channel, spatial)
        exact = tuple(t.double() for t in inputs)
        assert_no_worse_than_eager(
            "out",
            OPS.gate.compiled(*inputs, combine),
            reference.gate(*inputs, combine),
            reference.gate(*exact, combine),
        )
        for name, a, b, c in zip(
            ("dx", "dchannel", "dspatial"),
            OPS.gate_backward.compiled(grad, *inputs, combine),
            reference.gate_backward(grad, *inputs, combine),
            reference.gate_backward(grad.double(), *exact, combine),
            strict=True,
        ):
            assert_no_worse_than_eager(name, a, b, c, noise_of_sums(grad, *inputs, combine))
        assert_no_worse_than_eager("pool", OPS.global_avg_pool.compiled(x), x.mean((2, 3)), x.double().mean((2, 3)))


# Channels and reduced channels odd, of two and of whole vectors; more than one tile, one row, one position.
@pytest.mark.parametrize(
    "shape, reduction",
    [((5, 35, 7, 9), 7), ((6, 99, 13, 5), 3), ((4, 128, 14, 14), 4), ((5, 26, 1, 37), 2), ((4, 320, 12, 11), 2)],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_every_instruction_set_runs_a_whole_bam(poisoned, instruction_set, format, dtype, shape, reduction):
    bam = randomise(BAM(shape[1], reduction))
    with torch.no_grad():  # logits of one size whatever the widths
        for weight in (parameter for parameter in bam.parameters() if parameter.dim() > 1):
            weight.mul_(2 / weight[0].numel() ** 0.5)
    bam = bam.to(dtype)
    x, grad = feature_map(shape, dtype, format), gradient(shape, dtype, format)
    check(bam.train(), x, grad)
    bam.eval()
    with torch.no_grad():
        assert path_taken(bam, x).name == "one operator"
        exact = by_layers(copy.deepcopy(bam).double(), x.double())
        noise = 10.0 if dtype == torch.float64 else 0.0  # the float64 that judges float64 rounds as much itself
        assert_no_worse_than_eager("out", bam(x), by_layers(bam, x), exact, noise)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_number_of_16_bits_is_read_and_written(instruction_set, dtype):
    x = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).view(64, 16, 8, 8)
    shut = torch.full((64, 16), -1e4, dtype=dtype), torch.zeros((64, 1, 8, 8), dtype=dtype)
    out, finite = OPS.gate.compiled(x, *shut, "sum"), x.isfinite()  # x + x * 0
    assert torch.equal(out.view(torch.int16)[finite], x.view(torch.int16)[finite])
    assert out[~finite].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 5, 5), (1, 24, 1, 7)], ids=str)
def test_every_storage_offset_between_sentinels(instruction_set, dtype, shape):
    """A view at each offset from a vector's boundary: right values, and not one element around it read or written."""
    size = torch.Size(shape).numel()
    x, grad = feature_map(shape, dtype), gradient(shape, dtype)
    channel, spatial = logits(shape, dtype)
    out = OPS.gate.compiled(x, channel, spatial, "sum")
    backward = OPS.gate_backward.compiled(grad, x, channel, spatial, "sum")
    for offset in range(17):
        views = []
        for values in (x, grad):
            arena = torch.full((size + 34,), float("nan"), dtype=dtype)
            view = arena[offset : offset + size].view(shape)
            view.copy_(values)
            views.append((arena, view))
        (x_arena, x_view), (grad_arena, grad_view) = views
        assert torch.equal(OPS.gate.compiled(x_view, channel, spatial, "sum"), out)
        moved = OPS.gate_backward.compiled(grad_view, x_view, channel, spatial, "sum")
        assert all(torch.equal(a, b) for a, b in zip(moved, backward, strict=True))
        for arena in (x_arena, grad_arena):
            assert arena[:offset].isnan().all() and arena[offset + size :].isnan().all()


X = torch.randn(2, 8, 4, 4)
LOGITS = (torch.randn(2, 8), torch.randn(2, 4, 4))
REFUSED = {
    "x must be (N, C, H, W)": lambda: OPS.gate.compiled(X[0], *LOGITS, "sum"),
    "x must be float32, float64, float16 or bfloat16": lambda: OPS.global_avg_pool.compiled(X.int()),
    "channel_logits must be (N, C) or (N, C, 1, 1) of x": lambda: OPS.gate.compiled(X, X[0], LOGITS[1], "sum"),
    "spatial_logits must be float32 or of x's dtype": lambda: OPS.gate.compiled(X, LOGITS[0], LOGITS[1].half(), "sum"),
    'combine must be "sum", "product" or "max", got "mean"': lambda: OPS.gate.compiled(X, *LOGITS, "mean"),
    "grad must have x's shape, dtype and device": lambda: OPS.gate_backward.compiled(X[:1], X, *LOGITS, "sum"),
    "weight must be (R, C) or (R, C, 1, 1)": lambda: OPS.squeeze.compiled(X, torch.randn(3, 7), None),
    "dilation must be at least 1": lambda: OPS.dilated_conv.compiled(X, torch.randn(3, 8, 3, 3), None, 0, False),
}


@pytest.mark.parametrize("message", REFUSED)
def test_the_library_says_what_it_expected_and_nothing_else(message):
    with pytest.raises(RuntimeError) as refused:
        REFUSED[message]()
    assert str(refused.value) == message


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(ValueError, match=r"instruction_set must be one of .* on this processor, got 'mmx'"):
        cpu.use_instruction_set("mmx")
    assert cpu.instruction_set() == INSTRUCTION_SETS[0]


def test_build_info_says_how_it_was_built():
    info = cpu.build_info()
    assert info["torch_target"] == "2.10"
    assert "march=native" not in info["flags"]
    assert info["instruction_set"] == INSTRUCTION_SETS[0]
    assert info["compiler"] and re.match(r"\d+\.\d+", info["torch_headers"])


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm (binutils) is not installed")
def test_no_cxx_symbol_of_torch_and_none_of_python_is_imported():
    """Only the C functions of the stable ABI: what lets one binary serve torch 2.10 and later, and every Python."""
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(cpu.library.path)], capture_output=True, text=True, check=True
    ).stdout
    assert "aoti_torch_" in symbols
    assert not re.findall(r"\bPy\w+", symbols)
    assert not re.findall(r"_ZN2at\S*|_ZN3c10\S*|_ZN5torch\S*|_ZNK2at\S*|_ZNK3c10\S*", symbols)
