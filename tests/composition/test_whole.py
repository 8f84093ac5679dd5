"""A whole BAM as one operator: right for every option, the same bits however it is cut, and refused where it may not run."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from accuracy import assert_no_worse_than_eager
from drawing import DTYPES, FORMATS, feature_map, memory_order
from implementations import PUBLIC, randomise
from torch import nn

from bam_fused import BAM, replace_bam, use_backend
from bam_fused.backends import cpu
from bam_fused.bench.memory import peak_bytes
from bam_fused.composition import whole
from bam_fused.composition.path import path_of
from bam_fused.composition.plan import live, plan_of
from bam_fused.composition.run import run

if cpu.library is None:
    pytest.skip(f"no CPU library: {cpu.why_not(torch.device('cpu'))}", allow_module_level=True)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def why_not(module, x):
    return whole.why_not(live(module, plan_of(module)), x)


def drawn(generator: random.Random):
    """A BAM with drawn options, whose layers keep the size of what passes them, and a shape that it takes."""
    pick = generator.choice
    channels = pick([16, 17, 32, 64, 128, 320, generator.randint(16, 1024)])
    layers, legacy = generator.randint(1, 3), generator.random() < 0.3
    bam = BAM(
        channels,
        16 if channels > 64 else pick([1, 4, 16]),
        [generator.randint(1, 5) for _ in range(layers)],
        combine=pick(["sum", "product", "max"]),
        branches=pick(["both", "both", "channel", "spatial"]),
        channel_layers=generator.randint(1, 3),
        spatial_layers=layers,
        channel_hidden=pick(["none", "relu", "bn", "bn-relu"]),
        spatial_hidden=pick(["none", "relu", "bn", "bn-relu"]),
        final=pick(["none", "bn", "bn-relu"]),
        channel_bias=pick([True, False]),
        spatial_bias=pick([True, False]),
        mlp=pick(["linear", "conv"]),
        legacy_pool=legacy,
    )
    randomise(bam, seed=generator.randint(0, 10**6)).eval()
    for weight in (parameter for parameter in bam.parameters() if parameter.dim() > 1):
        weight.mul_(2 / weight[0].numel() ** 0.5)
    side = 70 if channels <= 128 else 20
    height = generator.randint(1, side)
    width = generator.randint(height, 2 * height - 1) if legacy else generator.randint(1, side)
    return bam, (generator.randint(1, 3), channels, height, width)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_drawn_options_and_shapes(poisoned, dtype, seed):
    generator = random.Random(seed)
    bam, shape = drawn(generator)
    bam, x = bam.to(dtype), feature_map(shape, dtype, generator.choice(FORMATS))
    exact = copy.deepcopy(bam).double()
    assert path_of(bam, plan_of(bam), x).name == "one operator"
    out, eager = bam(x), run(bam, plan_of(bam), x)
    noise = 10.0 if dtype == torch.float64 else 0.0  # the float64 that judges float64 rounds as much itself
    assert_no_worse_than_eager("out", out, eager, run(exact, plan_of(exact), x.double()), noise)
    assert memory_order(out) == memory_order(eager)


@pytest.mark.parametrize("layout", PUBLIC)
def test_every_layout_takes_it(layout):
    module = randomise(PUBLIC[layout](32)).eval()
    x = feature_map((2, 32, 9, 9))
    original = copy.deepcopy(module)
    replace_bam(module)
    plan = plan_of(module)
    path = path_of(module, plan, x)
    if path.name == "composed":  # fightingcv's padding is not its dilation
        assert layout == "fightingcv" and "a padding that is not its dilation" in path.reason
        return
    assert path.name == "one operator", path.reason
    torch.testing.assert_close(module(x), original(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "shape, reduction", [((3, 64, 30, 31), 16), ((5, 160, 14, 14), 16), ((5, 512, 7, 7), 8)], ids=str
)
def test_same_bits_for_any_number_of_threads_and_in_any_batch(shape, reduction, format):
    """The last one's weights fit in the output of a batch, and have to be cut for a single sample."""
    bam, x = randomise(BAM(shape[1], reduction)).eval(), feature_map(shape, format=format)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(bam(x))
            assert torch.equal(bam(x[1:2]), results[0][1:2])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels, side", [(256, 56), (512, 28), (1024, 14), (2048, 7)])
def test_needs_little_more_memory_than_its_output(channels, side, dtype):
    """At every bottleneck of ResNet50, and in its last blocks, where the packed weights are eleven times the output."""
    module = BAM.official(channels).to(dtype).eval()
    for x in (torch.rand(1, channels, side, side).to(dtype), torch.rand(3, channels, side, side).to(dtype)):
        module(x)
        assert peak_bytes(lambda x=x: module(x), x.device) < 1.05 * x.nbytes


def test_samples_that_lie_between_each_other():
    bam, x = randomise(BAM(64)).eval(), feature_map((64, 3, 20, 20)).transpose(0, 1)
    assert torch.equal(bam(x), bam(x.contiguous()))


def test_the_stride_between_samples_means_nothing_where_there_is_one():
    bam, x = BAM(64).eval(), torch.rand(1, 64, 20, 20)
    assert torch.equal(bam(x.as_strided(x.shape, (0, 400, 20, 1))), bam(x))


def test_a_changed_tensor_counts_at_once():
    bam, x = randomise(BAM.official(32)).eval(), feature_map((2, 32, 9, 9))
    bam(x)
    for tensor in bam.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1.25)
    torch.testing.assert_close(bam(x), run(bam, plan_of(bam), x), rtol=1e-4, atol=1e-4)


def test_empty_and_not_a_number():
    bam = randomise(BAM(32)).eval()
    assert bam(torch.randn(0, 32, 9, 9)).shape == (0, 32, 9, 9)
    x = feature_map((2, 32, 12, 12))
    x[1, 3, 5, 5] = float("nan")
    assert torch.equal(bam(x).isnan(), run(bam, plan_of(bam), x).isnan())


def test_a_residual_scale_is_applied():
    bam, x = randomise(BAM(32, identity_start=True)).eval(), feature_map((2, 32, 9, 9))
    assert why_not(bam, x) is None
    torch.testing.assert_close(bam(x), run(bam, plan_of(bam), x), rtol=1e-4, atol=1e-4)


def test_what_it_refuses():
    bam, x = BAM(32).eval(), feature_map((2, 32, 9, 9))
    assert why_not(bam, x) is None
    assert why_not(bam, x.double()) == "x is torch.float64, a layer torch.float32"
    assert why_not(bam, x[:, :16]) == "x has 16 channels, not 32"
    assert why_not(bam, x.to("meta")) == "no backend in use has a kernel for it on meta"
    assert why_not(bam, x.long()) == "x is no plain dense floating-point tensor"
    with torch.autocast("cpu"):
        assert why_not(bam, x) == "autocast is on, and x is torch.float32, not torch.bfloat16"
        assert why_not(bam, x.half()) == "autocast is on, and x is torch.float16, not torch.bfloat16"
        assert why_not(bam.double(), x.bfloat16()) == "x is torch.bfloat16, a layer torch.float64"
        bam.float()
    with use_backend("eager"):
        assert why_not(bam, x) == "no backend in use has a kernel for it on cpu"
    with torch.enable_grad():
        assert why_not(bam, x) == "a gradient is wanted"
        assert why_not(copy.deepcopy(bam).requires_grad_(False), x) is None
        assert why_not(copy.deepcopy(bam).requires_grad_(False), x.requires_grad_()) == "a gradient is wanted"
    assert "padding" in why_not(BAM(32, padding=3).eval(), x)
    bam.spatial.convs[1] = nn.Conv2d(2, 2, 3, padding=4, dilation=4, padding_mode="reflect")
    assert "padding" in why_not(bam, x)
    assert why_not(BAM(32).train(), x) == "a norm takes the batch's own statistics"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("make", [BAM, BAM.official])
def test_under_autocast(poisoned, make, dtype):
    bam = randomise(make(64)).eval()
    exact = copy.deepcopy(bam).double()
    for format in ("contiguous", "channels_last"):
        x = feature_map((3, 64, 9, 11), dtype, format)
        with torch.autocast("cpu", dtype):
            assert path_of(bam, plan_of(bam), x).name == "one operator"
            out = bam(x)
            with use_backend("eager"):
                eager = bam(x)
        assert out.dtype == eager.dtype == dtype
        assert_no_worse_than_eager("out", out, eager, exact(x.double()))


def test_the_plain_form_is_the_same():
    """What runs the operator where no kernel is: a graph that holds it runs on any device."""
    for seed in range(8):
        bam, shape = drawn(random.Random(seed))
        bam, x = bam.double(), feature_map(shape, torch.float64)
        with use_backend("eager"):
            torch.testing.assert_close(whole.run(live(bam, plan_of(bam)), x), run(bam, plan_of(bam), x))


def test_compiled_whole_with_dynamic_shapes():
    bam = randomise(BAM(32)).eval()
    compiled = torch.compile(bam, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 32, 9, 9), (3, 32, 11, 8)):
        x = feature_map(shape)
        assert torch.equal(compiled(x), bam(x))
