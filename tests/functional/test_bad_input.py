"""Bad input: an error that names the argument, what it was and what is expected; nothing is touched."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

import bam_fused

X = torch.randn(2, 4, 3, 5)
CHANNEL = torch.randn(2, 4)
SPATIAL = torch.randn(2, 1, 3, 5)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # nested tensors are a prototype
    NESTED = torch.nested.nested_tensor([torch.ones(4, 3, 5)] * 2)

GATE = {
    "x is a list": (dict(x=[1.0]), TypeError, "x must be a torch.Tensor, got list"),
    "x is None": (dict(x=None), TypeError, "x must be a torch.Tensor, got NoneType"),
    "x has rank 3": (dict(x=X[0]), ValueError, r"x must have shape \(N, C, H, W\), got \(4, 3, 5\)"),
    "x is of integers": (dict(x=X.long()), TypeError, "x must have dtype .*, got torch.int64"),
    "x is complex": (dict(x=X.to(torch.complex64)), TypeError, "x must have dtype .*, got torch.complex64"),
    "x is sparse": (dict(x=X.to_sparse()), TypeError, "x must be a dense .*, got layout torch.sparse_coo"),
    "x is nested": (dict(x=NESTED), TypeError, "x must be a dense .*, got a nested tensor"),
    "channel_logits is a number": (
        dict(channel_logits=1.0),
        TypeError,
        "channel_logits must be a torch.Tensor, got float",
    ),
    "channel_logits has other channels": (
        dict(channel_logits=CHANNEL[:, :3]),
        ValueError,
        r"channel_logits .*got \(2, 3\)",
    ),
    "channel_logits has another batch": (
        dict(channel_logits=CHANNEL[:1]),
        ValueError,
        r"channel_logits .*got \(1, 4\)",
    ),
    "channel_logits has rank 1": (dict(channel_logits=CHANNEL[0]), ValueError, r"channel_logits .*got \(4,\)"),
    "channel_logits has rank 3": (
        dict(channel_logits=CHANNEL[..., None]),
        ValueError,
        r"channel_logits .*got \(2, 4, 1\)",
    ),
    "channel_logits is wider": (dict(channel_logits=CHANNEL.double()), TypeError, "channel_logits .*got torch.float64"),
    "channel_logits is narrower": (
        dict(channel_logits=CHANNEL.half()),
        TypeError,
        "channel_logits .*got torch.float16",
    ),
    "channel_logits is elsewhere": (
        dict(channel_logits=CHANNEL.to("meta")),
        ValueError,
        "channel_logits .*cpu, got meta",
    ),
    "spatial_logits is None": (
        dict(spatial_logits=None),
        TypeError,
        "spatial_logits must be a torch.Tensor, got NoneType",
    ),
    "spatial_logits is turned": (
        dict(spatial_logits=SPATIAL.transpose(2, 3)),
        ValueError,
        r"spatial_logits .*got \(2, 1, 5, 3\)",
    ),
    "spatial_logits has two channels": (
        dict(spatial_logits=SPATIAL.expand(2, 2, 3, 5)),
        ValueError,
        r"spatial_logits .*got \(2, 2, 3, 5\)",
    ),
    "spatial_logits is sparse": (dict(spatial_logits=SPATIAL.to_sparse()), TypeError, "spatial_logits must be a dense"),
    "spatial_logits is elsewhere": (dict(spatial_logits=SPATIAL.to("meta")), ValueError, "spatial_logits .*got meta"),
    "combine is unknown": (dict(combine="mul"), ValueError, "combine must be one of .*, got 'mul'"),
    "combine is a number": (dict(combine=1), TypeError, "combine must be a string, .*, got int"),
    "combine is of bytes": (dict(combine=b"sum"), TypeError, "combine must be a string, .*, got bytes"),
    "combine is None": (dict(combine=None), TypeError, "combine must be a string, .*, got NoneType"),
}


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("requires_grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("case", GATE, ids=lambda case: case.replace(" ", "_"))
def test_gate(case, requires_grad, backend):
    changed, error, message = GATE[case]
    good: dict[str, object] = dict(x=X, channel_logits=CHANNEL, spatial_logits=SPATIAL, combine="sum")
    arguments = {**good, **changed}
    if requires_grad:
        for name, value in arguments.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                arguments[name] = value.detach().requires_grad_()
    with bam_fused.use_backend(backend), pytest.raises(error, match=message):
        bam_fused.gate(**arguments)


POOL = {
    "x is an array": (X.numpy(), TypeError, "x must be a torch.Tensor, got ndarray"),
    "x has rank 2": (CHANNEL, ValueError, r"x must have shape \(N, C, H, W\), got \(2, 4\)"),
    "x is of bytes": (X.to(torch.uint8), TypeError, "x must have dtype .*, got torch.uint8"),
    "x is sparse": (X.to_sparse(), TypeError, "x must be a dense"),
    "x is nested": (NESTED, TypeError, "x must be a dense .*, got a nested tensor"),
}


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("case", POOL, ids=lambda case: case.replace(" ", "_"))
def test_global_avg_pool(case, backend):
    x, error, message = POOL[case]
    with bam_fused.use_backend(backend), pytest.raises(error, match=message):
        bam_fused.global_avg_pool(x)


WEIGHT, BIAS = torch.randn(3, 4, 1, 1), torch.randn(3)
SQUEEZE = {
    "x has rank 3": (dict(x=X[0]), ValueError, r"x must have shape \(N, C, H, W\), got \(4, 3, 5\)"),
    "weight is None": (dict(weight=None), TypeError, "weight must be a torch.Tensor, got NoneType"),
    "weight has other channels": (dict(weight=WEIGHT[:, :3]), ValueError, r"weight .* C = 4, got \(3, 3, 1, 1\)"),
    "weight has no outputs": (dict(weight=WEIGHT[:0]), ValueError, r"weight .* R >= 1 .*, got \(0, 4, 1, 1\)"),
    "weight is a 3x3 kernel": (dict(weight=WEIGHT.expand(3, 4, 3, 3)), ValueError, r"weight .*got \(3, 4, 3, 3\)"),
    "weight is wider": (dict(weight=WEIGHT.double()), TypeError, "weight .*float32, got torch.float64"),
    "weight is elsewhere": (dict(weight=WEIGHT.to("meta")), ValueError, "weight .*cpu, got meta"),
    "bias is too long": (dict(bias=torch.randn(4)), ValueError, r"bias must have shape .*\(3,\), got \(4,\)"),
    "bias is narrower": (dict(bias=BIAS.half()), TypeError, "bias .*got torch.float16"),
    "bias is a number": (dict(bias=1.0), TypeError, "bias must be a torch.Tensor, got float"),
}


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("case", SQUEEZE, ids=lambda case: case.replace(" ", "_"))
def test_squeeze(case, backend):
    changed, error, message = SQUEEZE[case]
    with bam_fused.use_backend(backend), pytest.raises(error, match=message):
        bam_fused.squeeze(**{**dict(x=X, weight=WEIGHT, bias=BIAS), **changed})


def test_bad_input_under_compile_names_the_argument():
    compiled = torch.compile(bam_fused.gate, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="channel_logits must have shape"):
        compiled(X, CHANNEL[:1], SPATIAL)
