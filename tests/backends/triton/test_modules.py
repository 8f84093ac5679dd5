"""A whole BAM by Triton's kernels: one operator in inference, fused branches in training, against float64."""

from __future__ import annotations

import copy

import pytest
import torch
from accuracy import assert_no_worse_than_eager
from drawing import DTYPES, FORMATS, feature_map, gradient
from implementations import PUBLIC, randomise
from training_steps import by_layers, check, check_gradients_in_a_batch, path_taken

import bam_fused
from bam_fused import BAM

pytestmark = [pytest.mark.triton_interpret, pytest.mark.usefixtures("triton_backend")]


def no_worse_than_eager(bam, x):
    if x.is_cuda and x.dtype == torch.float64:  # not worth compiling for: whoever verifies in float64 takes the layers
        assert "x is float64" in path_taken(bam, x).reason
        return
    assert path_taken(bam, x).name == "one operator", path_taken(bam, x).reason
    exact = by_layers(copy.deepcopy(bam).double(), x.double())
    noise = 10.0 if x.dtype == torch.float64 else 0.0  # the float64 that judges float64 rounds as much itself
    assert_no_worse_than_eager("out", bam(x).cpu(), by_layers(bam, x).cpu(), exact.cpu(), noise)


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", FORMATS)
def test_inference(poisoned, device, format, dtype):
    for options in (
        {"reduction": 4},
        {"channel_layers": 3, "spatial_layers": 3, "final": "bn-relu", "combine": "max", "min_hidden": 4},
        {"branches": "channel", "mlp": "conv"},
        {"branches": "spatial", "spatial_layers": 1, "dilation": 2},
        {"legacy_pool": True, "channel_hidden": "relu", "spatial_hidden": "none", "combine": "product"},
    ):
        bam = randomise(BAM(40, **options)).to(device, dtype).eval()
        no_worse_than_eager(bam, feature_map((2, 40, 9, 13), dtype, format).to(device))


@torch.no_grad()
def test_more_outputs_than_a_program_sums(poisoned, device):
    """150 reduced channels: two blocks of outputs, and a last layer of its own behind them."""
    bam = randomise(BAM(150, 1)).to(device).eval()
    no_worse_than_eager(bam, feature_map((1, 150, 5, 6)).to(device))


@torch.no_grad()
@pytest.mark.parametrize("layout", PUBLIC)
def test_every_layout(device, layout):
    module = randomise(PUBLIC[layout](32)).to(device).eval()
    x = feature_map((1, 32, 6, 6)).to(device)
    expected = module(x)
    with bam_fused.use_backend("auto"):  # what it compares there takes Triton's interpreter ten seconds
        bam_fused.replace_bam(module)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_same_bits_alone_and_in_a_batch(device, format):
    bam = randomise(BAM(48, 3)).to(device).eval()
    x = feature_map((3, 48, 13, 11), format=format).to(device)
    assert torch.equal(bam(x)[1:2], bam(x[1:2]))


@pytest.mark.parametrize("make", [BAM, BAM.official])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_a_training_step(poisoned, device, format, dtype, make):
    shape = (3, 48, 7, 9)
    bam = randomise(make(48, 3)).to(device, dtype).train()
    x, grad = (f(shape, dtype, format).to(device) for f in (feature_map, gradient))
    check(bam, x, grad, under=lambda: bam_fused.use_backend("triton"))


def test_gradients_in_a_batch(device):
    check_gradients_in_a_batch(randomise(BAM.official(48)).to(device), feature_map((3, 48, 7, 9)).to(device))


def test_a_training_step_with_a_layer_that_is_called(device):
    bam = randomise(BAM.official(48)).to(device).train()
    bam.spatial.convs[1].padding_mode = "reflect"
    x, grad = (f((3, 48, 7, 9)).to(device) for f in (feature_map, gradient))
    check(bam, x, grad, "two passes", under=lambda: bam_fused.use_backend("triton"))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("final", ["bn", "relu", "bn-relu", ("none", "bn")], ids=str)
def test_branches_that_end_in_a_norm_or_a_relu(poisoned, device, final, training):
    bam = randomise(BAM(48, final=final)).to(device).train(training)
    x, grad = (f((3, 48, 7, 9)).to(device) for f in (feature_map, gradient))
    check(bam, x, grad, under=lambda: bam_fused.use_backend("triton"))
