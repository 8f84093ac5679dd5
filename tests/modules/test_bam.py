"""BAM: its arithmetic against the formulas, its options and its layouts in memory."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from drawing import memory_order
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import feature_map, randomise
from torch import nn
from worked_cases import freeze_norms

from bam_fused import BAM, reference


def after(x, norm, what):
    x = norm(x) if "bn" in what else x
    return F.relu(x) if "relu" in what else x


def by_the_formulas(bam, x):
    """The module's output from the paper's equations, layer by layer, in plain PyTorch."""
    o = bam.options
    c, p = x.mean((2, 3)), x
    if o.mlp == "conv":
        c = c[:, :, None, None]
    if o.branches != "spatial":
        for layer, norm, what in zip(bam.channel.linears, bam.channel.norms, o.channel_after, strict=True):
            c = after(layer(c), norm, what)
    if o.branches != "channel":
        for layer, norm, what in zip(bam.spatial.convs, bam.spatial.norms, o.spatial_after, strict=True):
            p = after(layer(p), norm, what)
    if o.branches == "channel":
        return x + x * torch.sigmoid(c.reshape(*x.shape[:2], 1, 1))
    if o.branches == "spatial":
        return x + x * torch.sigmoid(p)
    return reference.gate(x, c.flatten(1), p, o.combine)


OPTIONS = {
    "paper": {},
    "max": {"combine": "max"},
    "product": {"combine": "product"},
    "channel only": {"branches": "channel"},
    "spatial only": {"branches": "spatial"},
    "channel only, product": {"branches": "channel", "combine": "product"},
    "plain": {"channel_hidden": "none", "spatial_hidden": "none", "final": "none"},
    "batch norm everywhere": {"channel_hidden": "bn-relu", "spatial_hidden": "bn-relu", "final": "bn-relu"},
    "no ReLU": {"channel_hidden": "bn", "spatial_hidden": "bn", "spatial_reduce": "none"},
    "deep": {"channel_layers": 3, "spatial_layers": 3, "dilation": (1, 2, 4)},
    "shallow": {"spatial_layers": 1, "dilation": 2},
    "no bias": {"channel_bias": False, "spatial_bias": False},
    "some biases": {"channel_bias": (True, False), "spatial_bias": (True, False, True, False)},
    "convolutions": {"mlp": "conv", "channel_hidden": "bn-relu"},
    "wide": {"reduction": 4},
    "floor": {"reduction": 64, "min_hidden": 3},
}


@pytest.mark.parametrize("mode", ["train", "eval", "frozen"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_output_gradients_and_statistics_against_the_formulas(options, mode):
    torch.manual_seed(0)
    bam = randomise(BAM(32, **options)).double()
    bam.eval() if mode == "eval" else freeze_norms(bam) if mode == "frozen" else bam.train()
    plain = copy.deepcopy(bam)
    x = feature_map(3, 32, 9, 13)
    results = []
    for module, forward in ((bam, bam), (plain, lambda leaf: by_the_formulas(plain, leaf))):
        leaf = x.clone().requires_grad_()
        out = forward(leaf)
        (out * feature_map(3, 32, 9, 13, seed=2)).sum().backward()
        results.append([out, leaf.grad, *(p.grad for p in module.parameters()), *module.buffers()])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    channels=st.integers(1, 40),
    reduction=st.integers(1, 40),
    dilations=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    size=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    choices=st.fixed_dictionaries(
        {
            "combine": st.sampled_from(("sum", "product", "max")),
            "channel_hidden": st.sampled_from(("none", "relu", "bn", "bn-relu")),
            "spatial_hidden": st.sampled_from(("none", "relu", "bn", "bn-relu")),
            "final": st.sampled_from(("none", "bn")),
            "mlp": st.sampled_from(("linear", "conv")),
            "channel_layers": st.integers(1, 3),
        }
    ),
    channels_last=st.booleans(),
)
def test_any_configuration(channels, reduction, dilations, size, choices, channels_last):
    bam = BAM(channels, reduction, dilations, spatial_layers=len(dilations), min_hidden=1, **choices)
    randomise(bam.double()).eval()
    n, h, w = size
    x = feature_map(n, channels, h, w)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    out = bam(x)
    assert memory_order(out) == memory_order(x)
    torch.testing.assert_close(out, by_the_formulas(bam, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("branches", ["both", "channel", "spatial"])
def test_a_branch_left_out_is_not_there(branches):
    names = {name.split(".")[0] for name, _ in BAM(32, branches=branches).named_parameters()}
    assert names == ({"channel", "spatial"} if branches == "both" else {branches})


def test_parameters_of_the_authors_module():
    counts = {c: sum(p.numel() for p in BAM.official(c).parameters()) for c in (64, 128, 256, 512, 1024)}
    assert counts == {64: 1173, 128: 4457, 256: 17361, 512: 68513, 1024: 272193}


def test_official_takes_every_option():
    bam = BAM.official(32, 8, 2, combine="sum", spatial_layers=3)
    assert (bam.combine, bam.options.hidden, bam.options.dilations) == ("sum", 4, (2, 2, 2))
    assert bam.options.channel_after == ("bn-relu", "none")


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (5, 9), (9, 5), (128, 3)])
def test_any_height_and_width(size):
    bam = randomise(BAM(16)).double().eval()
    x = feature_map(2, 16, *size)
    torch.testing.assert_close(bam(x), by_the_formulas(bam, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_is_kept(memory_format):
    bam = BAM(32).eval()
    x = feature_map(2, 32, 5, 6, dtype=torch.float32).to(memory_format=memory_format)
    assert bam(x).stride() == x.stride()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_batches(n):
    bam = randomise(BAM(32)).double().eval()
    x = feature_map(3, 32, 5, 5)
    assert torch.equal(bam(x[:n]), bam(x)[:n]) or torch.allclose(bam(x[:n]), bam(x)[:n], rtol=1e-12)


@pytest.mark.parametrize("kind", [BAM, BAM.official])
def test_a_batch_of_one_is_refused_in_training_as_batchnorm_does(kind):
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        kind(32)(torch.ones(1, 32, 4, 4))


def test_identity_start_returns_x_and_learns():
    torch.manual_seed(0)
    bam = BAM(32, identity_start=True)
    x = feature_map(4, 32, 6, 6, dtype=torch.float32)
    assert torch.equal(bam(x), x)
    target = x * 1.3
    optimiser = torch.optim.SGD(bam.parameters(), 0.1)
    losses = []
    for _ in range(20):
        loss = F.mse_loss(bam(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(parameter.grad.abs().sum() > 0 for parameter in (bam.residual_scale, bam.channel.linears[0].weight))


def test_identity_start_is_a_scale_on_the_residual():
    bam = randomise(BAM(32, identity_start=True)).double().eval()
    x = feature_map(3, 32, 6, 6)
    want = x + bam.residual_scale * (by_the_formulas(bam, x) - x)
    torch.testing.assert_close(bam(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    bam = randomise(BAM(32)).eval()
    x = feature_map(3, 32, 9, 9, dtype=torch.float32)
    want = bam(x)
    with torch.autocast("cpu", dtype):
        out, low = bam(x), bam(x.to(dtype))
    assert out.dtype == torch.float32 and low.dtype == dtype
    torch.testing.assert_close(out, want, rtol=0.05, atol=0.05)
    torch.testing.assert_close(low.float(), want, rtol=0.05, atol=0.05)


def test_autocast_training_has_gradients():
    bam = BAM(32, identity_start=True)
    with torch.no_grad():
        bam.residual_scale.fill_(0.5)
    with torch.autocast("cpu", torch.bfloat16):
        bam(feature_map(3, 32, 9, 9, dtype=torch.bfloat16)).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in bam.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_less_exact_than_eager(dtype):
    bam = randomise(BAM(32)).to(dtype).eval()
    x = feature_map(3, 32, 9, 9, dtype=dtype)
    exact = copy.deepcopy(bam).double()
    want = exact(x.double())
    ours, eager = (bam(x) - want).abs().max(), (by_the_formulas(bam, x) - want).abs().max()
    assert ours <= 1.05 * eager + 1e-7


@pytest.mark.parametrize("options", [OPTIONS["paper"], OPTIONS["channel only"], {"identity_start": True}])
def test_copies_and_pickles(options):
    bam = randomise(BAM(32, **options)).eval()
    x = feature_map(2, 32, 5, 5, dtype=torch.float32)
    for other in (copy.deepcopy(bam), pickle.loads(pickle.dumps(bam))):
        assert torch.equal(other(x), bam(x)) and other.options == bam.options
    other = BAM(32, **options).eval()
    other.load_state_dict(bam.state_dict())
    assert torch.equal(other(x), bam(x))


@pytest.mark.parametrize("options", [{}, {"combine": "product", "identity_start": True}, {"branches": "channel"}])
def test_compiles_without_a_break(options):
    bam = randomise(BAM(32, **options)).double()
    eager = copy.deepcopy(bam)
    compiled = torch.compile(bam, fullgraph=True, backend="aot_eager")
    x = feature_map(3, 32, 6, 6)
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    for module, tensor in ((compiled, leaf), (eager, other)):
        module(tensor).square().sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-10, atol=1e-10)


def test_children_are_ordinary():
    kinds = {type(module) for module in BAM.official(32).modules() if not list(module.children())}
    assert kinds == {nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Identity}


def test_device_and_dtype():
    bam = BAM(32, device="meta", dtype=torch.bfloat16, identity_start=True)
    assert {(p.device.type, p.dtype) for p in bam.parameters()} == {("meta", torch.bfloat16)}


def test_repr_names_what_differs_from_the_defaults():
    assert repr(BAM(32)).splitlines()[1].strip() == "32, reduction=16, dilation=4, combine='sum'"
    assert "final='none'" in repr(BAM.official(32)).splitlines()[1]


def test_logits_start_near_one():
    torch.manual_seed(0)
    bam = BAM.official(256).eval()
    with torch.no_grad():
        x = torch.randn(8, 256, 14, 14).relu()
        assert 0.01 < bam.channel(x).std() < 3 and 0.1 < bam.spatial(x).std() < 3


@pytest.mark.parametrize(
    "options", [{}, {"legacy_pool": True, "mlp": "conv"}, {"branches": "channel"}, {"branches": "spatial"},
                {"identity_start": True}]
)  # fmt: skip
def test_fx_traces_a_bam_and_what_has_one(options):
    bam = randomise(BAM(32, **options)).double().eval()
    traced, outer = torch.fx.symbolic_trace(bam), torch.fx.symbolic_trace(nn.Sequential(bam))
    assert [node.op for node in outer.graph.nodes] == ["placeholder", "call_module", "output"]
    for size in ((7, 9), (8, 8)):
        x = feature_map(2, 32, *size)
        for module in (traced, outer, pickle.loads(pickle.dumps(traced))):
            torch.testing.assert_close(module(x), bam(x), rtol=1e-12, atol=1e-12)


def test_legacy_pool():
    bam = randomise(BAM.official(32, legacy_pool=True)).double().eval()
    x = feature_map(3, 32, 6, 9)
    torch.testing.assert_close(bam.channel(x), bam.channel(x[..., :6]), rtol=1e-12, atol=1e-12)
    for size in ((9, 6), (6, 12)):
        with pytest.raises(ValueError, match="x must have H <= W < 2H for legacy_pool"):
            bam(feature_map(3, 32, *size))
