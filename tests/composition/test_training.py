"""The training step of whole BAMs against the same modules in eager float64, and what keeps a module from it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from drawing import feature_map, gradient
from functorch.compile import make_boxed_func
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from implementations import PUBLIC, randomise
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from training_steps import PATH, by_layers, check, check_gradients_in_a_batch, path_taken, step

import bam_fused
from bam_fused import BAM, replace_bam
from bam_fused.bench.memory import peak_bytes
from bam_fused.composition import training
from bam_fused.composition.plan import live, plan_of


class _Kinks(TorchFunctionMode):
    """How near a forward in plain PyTorch comes to where a gradient jumps: a ReLU at 0, equal logits under "max"."""

    nearest = float("inf")

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.relu, F.relu):
            self._note(args[0])
        elif function is torch.maximum:
            self._note(args[0] - args[1])
        return function(*args, **(kwargs or {}))

    def _note(self, distance: Tensor) -> None:
        distance = distance.detach().abs()
        self.nearest = min(self.nearest, (distance.min() / distance.max()).item())


def _away_from_kinks(module: nn.Module, x: Tensor) -> bool:
    """Whether no rounding can put a value on the other side of one: there gradients differ where nothing is wrong."""
    with _Kinks() as kinks:
        by_layers(copy.deepcopy(module).double(), x.double())
    return kinks.nearest > 3e-6


@pytest.mark.parametrize("mode", ["train", "eval", "frozen"])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", ["paper", "official", *PUBLIC])
def test_a_step(kind, format, mode):
    module = {"paper": BAM, "official": BAM.official}.get(kind, PUBLIC.get(kind))(32)
    randomise(module)
    replace_bam(module)
    module.train(mode != "eval")
    if mode == "frozen":
        for norm in module.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.eval().requires_grad_(False)
    shape = (3, 32, 9, 9)
    check(module, feature_map(shape, format=format), gradient(shape, format=format))


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_a_step_with_a_layer_that_is_called(format):
    """The norms and what is no plain convolution are, between the two passes."""
    module = randomise(BAM.official(32))
    module.spatial.convs[1].padding_mode = "reflect"
    shape = (3, 32, 9, 9)
    check(module, feature_map(shape, format=format), gradient(shape, format=format), "two passes")


@pytest.mark.parametrize("path", ["fused branches", "two passes"])
def test_gradients_in_a_batch(path):
    module = randomise(BAM.official(32)).float()
    if path == "two passes":
        module.spatial.convs[1].padding_mode = "reflect"
    check_gradients_in_a_batch(module, feature_map((3, 32, 9, 9)).float(), path)


@pytest.mark.parametrize("momentum", [0.3, 0.0, None])
@pytest.mark.parametrize("tracked", [True, False])
def test_running_statistics(momentum, tracked):
    """As `nn.BatchNorm2d` moves them, over several steps, whatever stands in the place of its buffers."""
    module = randomise(BAM.official(32)).float()
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.momentum = momentum
            if not tracked:
                norm.track_running_stats = False
                norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    exact = copy.deepcopy(module).double()
    for _ in range(3):
        x = feature_map((3, 32, 6, 5))
        assert path_taken(module, x.requires_grad_()).name == PATH
        module(x)
        by_layers(exact, x.double())
    for ours, theirs in zip(module.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=3e-6, atol=3e-7)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_drawn_options(data):
    def pick(*values):
        return data.draw(st.sampled_from(values))

    torch.manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    channels = pick(16, 17, 64, 320, data.draw(st.integers(16, 1024)))
    layers = pick(1, 2, 3)
    module = BAM(
        channels,
        reduction=pick(1, 4, 16) if channels <= 200 else 16,
        dilation=[pick(1, 2, 4, 5) for _ in range(layers)],
        combine=pick("sum", "product", "max"),
        channel_layers=pick(1, 2),
        spatial_layers=layers,
        channel_hidden=pick("none", "relu", "bn", "bn-relu"),
        spatial_hidden=pick("none", "relu", "bn", "bn-relu"),
        spatial_reduce=pick(None, "none", "relu", "bn-relu"),
        final=pick("none", "bn"),
        channel_bias=pick(True, False),
        spatial_bias=pick(True, False),
        mlp=pick("linear", "conv"),
        identity_start=pick(True, False),
    )
    weights = {name: p.detach().clone() for name, p in module.named_parameters() if p.dim() > 1}
    randomise(module).load_state_dict(weights, strict=False)  # logits of no more than a few units, norms or not
    module.train(pick(True, False))
    dtype = pick(torch.float32, torch.float64)
    side = min(
        70 if dtype == torch.float64 else 20, int((100000 / channels) ** 0.5)
    )  # no float32 ReLU of many is near 0
    fewest = 3 if module.training else 1  # of one value, or of two, BatchNorm has no variance, or nothing but the sign
    n, h, w = (data.draw(st.integers(low, high)) for low, high in ((fewest, 5), (1, side), (fewest // 2 + 1, side)))
    module, x = module.to(dtype), feature_map((n, channels, h, w), dtype, pick("contiguous", "channels_last"))
    assume(dtype == torch.float64 or _away_from_kinks(module, x))
    check(module, x, gradient(x.shape, dtype))


@pytest.mark.parametrize(("make", "training"), [(BAM, False), (BAM.official, True)])
def test_gradcheck_of_a_module(make, training):
    module = make(8, 4, dilation=2).double().train(training)
    randomise(module)
    x = feature_map((2, 8, 3, 3), torch.float64).requires_grad_()
    names = [name for name, _ in module.named_parameters()]

    def function(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    inputs = (x, *(p.detach().requires_grad_() for p in module.parameters()))
    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, (x, *(p.detach().requires_grad_(i < 2) for i, p in enumerate(inputs[1:]))))


def test_checkpointed_and_used_twice():
    module, x = randomise(BAM(32)).double(), feature_map((2, 32, 6, 6), torch.float64).requires_grad_()

    def gradients(forward):
        wanted = [x, *module.parameters()]
        return torch.autograd.grad(forward(x).square().sum() + module(x).sin().sum(), wanted)

    plain = gradients(lambda x: by_layers(module, x))
    for ours in (
        gradients(module),
        gradients(lambda x: checkpoint(module, x, use_reentrant=False)),
        gradients(lambda x: checkpoint(lambda y: module(y * 1), x, use_reentrant=False)),
    ):
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 256, 28, 28), torch.bfloat16), ((8, 1024, 14, 14), torch.float32)], ids=["bf16", "f32"]
)
def test_peak_memory(shape, dtype, format):
    """The output, x's gradient, the reduction's and the parameters', and hardly more: under 2.3 maps in the second case."""
    module = BAM.official(shape[1]).to(dtype)
    x, grad = feature_map(shape, dtype, format).requires_grad_(), gradient(shape, dtype, format)
    leaves = [x, *module.parameters()]

    def step() -> tuple[Tensor, ...]:
        out = module(x)
        return out, *torch.autograd.grad(out, leaves, grad)

    assert path_taken(module, x).name == PATH
    step()
    reduced_grad = x.numel() // 16 * torch.float32.itemsize
    parameters = sum(p.nbytes for p in module.parameters())
    packed = module.spatial.convs[0].weight.numel() * torch.float32.itemsize
    assert peak_bytes(step, x.device) < 2.02 * x.nbytes + reduced_grad + parameters + packed


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled(dynamic):
    """One graph with the two passes in it, and no convolution, for which Inductor would turn the feature map to NHWC."""
    captured: list[str] = []

    def capture(graph: torch.fx.GraphModule, _: object) -> object:
        captured.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)

    module = randomise(BAM(32)).double()
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=aot_autograd(fw_compiler=capture))
    for shape in ((3, 32, 9, 9), (2, 32, 7, 12)):
        x, grad = feature_map(shape, torch.float64), gradient(shape, torch.float64)
        ours, plain = step(module, lambda _, x: compiled(x), x, grad), step(module, by_layers, x, grad)
        for name in ("out", "dx"):
            torch.testing.assert_close(ours[name], plain[name])
    assert {"bam_fused.squeeze.compiled", "bam_fused.squeeze_input_grad.compiled"} <= set(captured)
    assert not [name for name in captured if name.startswith("aten.convolution")]


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("make", [BAM, BAM.official])
def test_under_autocast(poisoned, make, format):
    module = randomise(make(64))
    x, grad = feature_map((4, 64, 9, 11), torch.bfloat16, format), gradient((4, 64, 9, 11), torch.bfloat16, format)
    check(module, x, grad, under=lambda: torch.autocast("cpu", torch.bfloat16))


class _Refusal:
    """What is in the way, and what is said of it."""

    @staticmethod
    def autocast(module, x):
        with torch.autocast("cpu", torch.bfloat16):
            return path_taken(module, x)

    @staticmethod
    def switched_off(module, x):
        with torch.no_grad():
            return path_taken(module, x)

    @staticmethod
    def half_weights(module, x):
        return path_taken(module.bfloat16(), x)

    @staticmethod
    def a_hook(module, x):
        module.spatial.convs[0].register_forward_hook(lambda *_: None)
        return path_taken(module, x)

    @staticmethod
    def the_eager_backend(module, x):
        with bam_fused.use_backend("eager"):
            return path_taken(module, x)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (_Refusal.autocast, "autocast"),
        (_Refusal.switched_off, "gradients"),
        (_Refusal.half_weights, "one dtype"),
        (_Refusal.a_hook, "hook"),
        (_Refusal.the_eager_backend, "no backend in use has a kernel"),
    ],
)
def test_what_is_in_the_way_is_said(refusal, said):
    path = refusal(BAM(32), torch.randn(2, 32, 5, 5))
    assert path.name == "composed"
    assert all(said in dict(path.refused)[name] for name in (PATH, "two passes"))


def test_what_is_in_the_way_of_fused_branches_is_said():
    def refused(change, x):
        change(module := BAM.official(32))
        path = path_taken(module, x.requires_grad_())
        return path.name, dict(path.refused)[PATH]

    x = torch.randn(2, 32, 5, 5)
    wrong = {
        "no BatchNorm2d": lambda m: setattr(m.spatial.norms, "1", nn.BatchNorm1d(2)),
        "alone": lambda m: setattr(m.spatial.norms[1], "bias", None),
        "single value": lambda m: None,
    }
    for said, change in wrong.items():
        name, reason = refused(change, x[:1] if said == "single value" else x)
        assert name == "two passes" and said in reason


def test_one_branch_and_crops_go_layer_by_layer():
    x = torch.randn(2, 32, 5, 6)
    for options, reason in (({"branches": "channel"}, "branch"), ({"legacy_pool": True}, "crop")):
        bam = BAM(32, **options)
        assert reason in training.why_not(live(bam, plan_of(bam)), x)
