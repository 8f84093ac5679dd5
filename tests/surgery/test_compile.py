"""Replaced models under torch.compile, torch.export, tracing, torch.fx, torch.func and checkpointing."""

import copy

import pytest
import torch
import torch.utils.checkpoint
from implementations import PUBLIC, OfficialBAM, PytorchcvBAM, feature_map, randomise
from torch import nn

from bam_fused import replace_bam


def network(kind=OfficialBAM):
    torch.manual_seed(0)
    return nn.Sequential(randomise(kind(32)), nn.Conv2d(32, 4, 1)).double().eval()


@pytest.mark.parametrize("layout", PUBLIC)
def test_compiles_without_a_break(layout):
    model = network(PUBLIC[layout]).train()
    eager = copy.deepcopy(model)
    replace_bam(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = feature_map(3, 32, 9, 9)
    for step in range(2):
        leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, want = compiled(leaf), eager(other)
        torch.testing.assert_close(out, want, rtol=1e-10, atol=1e-10, msg=f"step {step}")
        out.square().sum().backward()
        want.square().sum().backward()
        torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-9, atol=1e-9)


def test_replacing_inside_a_compiled_model():
    model = network()
    x = feature_map(3, 32, 9, 9)
    want = model(x)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x), want)
    assert [entry.name for entry in replace_bam(compiled)] == ["_orig_mod.0"]
    calls = torch._dynamo.utils.counters["stats"]["calls_captured"]
    torch.testing.assert_close(compiled(x), want, rtol=1e-12, atol=1e-12)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > calls, "it still ran the graph of the old forward"


def _operators(graph):
    return {str(node.target) for node in graph.nodes if node.op == "call_function"}


def test_export_with_dynamic_sizes_needs_no_bam_fused():
    model = network(PytorchcvBAM)
    replace_bam(model)
    sizes = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4), 3: torch.export.Dim("w", min=4)}
    exported = torch.export.export(model, (feature_map(3, 32, 9, 13),), dynamic_shapes=(sizes,))
    assert not [name for name in _operators(exported.graph) if "bam_fused" in name]
    x = feature_map(2, 32, 12, 8)
    torch.testing.assert_close(exported.module()(x), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*jit.trace.* is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_trace_needs_no_bam_fused_and_takes_other_sizes():
    model = network(OfficialBAM)
    replace_bam(model, legacy_pool=False)
    traced = torch.jit.trace(model, feature_map(3, 32, 9, 9))
    assert "bam_fused::" not in str(traced.inlined_graph)
    x = feature_map(2, 32, 12, 8)
    torch.testing.assert_close(traced(x), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inside", [True, False])
def test_fx_traces_the_own_forward(inside):
    model = network() if inside else network()[0]
    x = feature_map(3, 32, 9, 9)
    want = model(x)
    replace_bam(model)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), want)


def test_transforms_of_torch_func():
    model = network()[0]
    x = feature_map(3, 32, 9, 9)
    mapped, tangent = torch.func.vmap(model)(torch.stack([x, 2 * x])), torch.func.jvp(model, (x,), (x,))[1]
    replace_bam(model)
    torch.testing.assert_close(torch.func.vmap(model)(torch.stack([x, 2 * x])), mapped)
    torch.testing.assert_close(torch.func.jvp(model, (x,), (x,))[1], tangent)


def test_checkpointing_and_double_backward():
    model, x = network()[0], feature_map(2, 32, 9, 9)
    plain = copy.deepcopy(model)
    replace_bam(model)
    gradients = []
    for forward in (plain, lambda leaf: torch.utils.checkpoint.checkpoint(model, leaf, use_reentrant=False), model):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(forward(leaf).square().sum(), leaf, create_graph=True)
        gradients.append(torch.autograd.grad(gradient.square().sum(), leaf)[0])
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_inductor_may_choose_the_strides(format):
    """Between convolutions, which Inductor runs in NHWC, the operators take what it hands on; values are eager's."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(8, 32, 3), randomise(OfficialBAM(32)), nn.Conv2d(32, 4, 3)).train()
    model = layers.to(memory_format=format)
    replace_bam(model)
    x = torch.randn(2, 8, 11, 11).contiguous(memory_format=format)
    other = copy.deepcopy(model)
    with torch._inductor.config.patch(force_disable_caches=True):
        leaf, want = x.clone().requires_grad_(), x.clone().requires_grad_()
        out = torch.compile(model, fullgraph=True)(leaf)
        expected = other(want)
        assert out.stride() == expected.stride()
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        out.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(leaf.grad, want.grad, rtol=1e-3, atol=1e-3)
