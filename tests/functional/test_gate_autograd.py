"""bam_fused.gate under autograd: derivatives of every order, what is kept for them, transforms and export."""

from __future__ import annotations

import pytest
import torch
from drawing import COMBINES, feature_map, gradient, logits
from torch import Tensor

import bam_fused


def _tiny(format: str) -> tuple[Tensor, Tensor, Tensor]:
    shape = (2, 3, 4, 5)
    x = feature_map(shape, torch.float64, format).requires_grad_()
    channel, spatial = logits(shape, torch.float64)
    return x, channel.requires_grad_(), spatial.requires_grad_()


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_gradcheck(format, combine):
    def function(*inputs):
        return bam_fused.gate(*inputs, combine)

    torch.autograd.gradcheck(function, _tiny(format))
    torch.autograd.gradgradcheck(function, _tiny(format))


def test_backward_twice_over_a_kept_graph():
    shape = (2, 8, 6, 6)
    x = feature_map(shape).requires_grad_()
    channel, spatial = (t.requires_grad_() for t in logits(shape))
    out, grad = bam_fused.gate(x, channel, spatial), gradient(shape)
    versions = [t._version for t in (x, channel, spatial)]
    first = torch.autograd.grad(out, (x, channel, spatial), grad, retain_graph=True)
    second = torch.autograd.grad(out, (x, channel, spatial), grad)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert versions == [t._version for t in (x, channel, spatial)]


@pytest.mark.parametrize("combine", COMBINES)
def test_nothing_of_full_size_is_saved_but_x(combine):
    shape = (2, 16, 8, 8)
    x = feature_map(shape).requires_grad_()
    channel, spatial = (t.requires_grad_() for t in logits(shape))
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        bam_fused.gate(x, channel, spatial, combine)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    assert sum(storages.values()) == x.nbytes + channel.nbytes + spatial.nbytes


def test_transforms_of_torch_func():
    shape = (3, 1, 4, 5, 5)
    x = torch.randn(shape)
    channel, spatial = torch.randn(3, 1, 4), torch.randn(3, 1, 1, 5, 5)
    mapped = torch.func.vmap(bam_fused.gate)(x, channel, spatial)
    looped = torch.stack([bam_fused.gate(*each) for each in zip(x, channel, spatial, strict=True)])
    torch.testing.assert_close(mapped, looped)
    gradients = torch.func.vmap(torch.func.grad(lambda *inputs: bam_fused.gate(*inputs).sum()))(x, channel, spatial)
    torch.testing.assert_close(gradients, 1 + torch.sigmoid(channel[..., None, None] + spatial))


def test_forward_mode_differentiation():
    shape = (2, 3, 4, 5)
    x = feature_map(shape, torch.float64)
    channel, spatial = logits(shape, torch.float64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(bam_fused.gate(dual, channel, spatial)).tangent
    torch.testing.assert_close(tangent, 1 + torch.sigmoid(channel[..., None, None] + spatial))


def test_exported_graph_has_standard_operators_only():
    class Gate(torch.nn.Module):
        def forward(self, x: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
            return bam_fused.gate(x, channel, spatial, "product")

    shape = (2, 4, 5, 5)
    inputs = (feature_map(shape), *logits(shape))
    batch = torch.export.Dim("batch")
    program = torch.export.export(Gate(), inputs, dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    assert "bam_fused" not in str(program.graph)
    larger = [torch.cat([t, t, t]) for t in inputs]
    torch.testing.assert_close(program.module()(*larger), bam_fused.gate(*larger, "product"))
    traced = torch.jit.trace(Gate(), inputs)
    assert "bam_fused::" not in str(traced.inlined_graph)
