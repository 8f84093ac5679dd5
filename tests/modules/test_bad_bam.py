"""What BAM says of bad options and bad input."""

import warnings

import pytest
import torch

from bam_fused import BAM

BAD = [
    ({"channels": 0}, ValueError, "channels must be at least 1, got 0"),
    ({"channels": 2.0}, TypeError, "channels must be an int, got float"),
    ({"channels": True}, TypeError, "channels must be an int, got bool"),
    ({"channels": 8}, ValueError, "reduction must be at most channels.* got reduction 16 for 8 channels"),
    ({"reduction": 0}, ValueError, "reduction must be at least 1, got 0"),
    ({"reduction": "16"}, TypeError, "reduction must be an int, got str"),
    ({"dilation": 0}, ValueError, "dilation must be at least 1, got 0"),
    ({"dilation": (1, 2, 3)}, ValueError, "dilation must be one value or 2, one for each layer, got 3"),
    ({"dilation": "4"}, TypeError, "dilation must be an int or a sequence of ints, got str"),
    ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
    ({"combine": "mul"}, ValueError, "combine must be one of"),
    ({"combine": None}, TypeError, "combine must be a string"),
    ({"branches": "none"}, ValueError, "branches must be one of"),
    ({"final": "batchnorm"}, ValueError, "final must be one of"),
    ({"channel_hidden": 1}, TypeError, "channel_hidden must be a string"),
    ({"spatial_reduce": "gelu"}, ValueError, "spatial_reduce must be one of"),
    ({"mlp": "mlp"}, ValueError, "mlp must be one of"),
    ({"channel_layers": 0}, ValueError, "channel_layers must be at least 1"),
    ({"spatial_layers": 0}, ValueError, "spatial_layers must be at least 1"),
    ({"channel_bias": (True,)}, ValueError, "channel_bias must be one value or 2"),
    ({"spatial_bias": 1}, TypeError, "spatial_bias must be a bool, got int"),
    ({"min_hidden": 0}, ValueError, "min_hidden must be at least 1"),
    ({"legacy_pool": 1}, TypeError, "legacy_pool must be a bool"),
    ({"identity_start": "yes"}, TypeError, "identity_start must be a bool"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[str(case[0]) for case in BAD])
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        BAM(**({"channels": 32} | options))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(2, 32, 4), ValueError, r"x must have shape \(N, 32, H, W\), got \(2, 32, 4\)"),
        (torch.ones(2, 16, 4, 4), ValueError, r"x must have shape \(N, 32, H, W\), got \(2, 16, 4, 4\)"),
        (torch.ones(2, 32, 4, 4, dtype=torch.int32), TypeError, "x must have dtype"),
        (
            torch.ones(2, 32, 4, 4, dtype=torch.float64),
            TypeError,
            "x must have dtype torch.float32, .* got torch.float64",
        ),
        (
            torch.ones(2, 32, 4, 4, dtype=torch.bfloat16),
            TypeError,
            "x must have dtype torch.float32, .* got torch.bfloat16",
        ),
        ([1, 2], TypeError, "x must be a torch.Tensor, got list"),
    ],
)
def test_bad_x(x, error, message):
    with pytest.raises(error, match=message):
        BAM(32)(x)


@pytest.mark.parametrize("options", [{}, {"branches": "spatial"}])
def test_a_float64_map_under_autocast(options):
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match=r"x must have dtype torch\.float32"):
        BAM(32, **options)(torch.ones(2, 32, 4, 4, dtype=torch.float64))


def test_a_nested_map():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nested tensors are a prototype
        x = torch.nested.nested_tensor([torch.ones(32, 3, 5)] * 2)
    with pytest.raises(TypeError, match=r"x must be a dense .*, got a nested tensor"):
        BAM(32)(x)
