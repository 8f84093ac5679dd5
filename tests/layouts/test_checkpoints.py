"""BAM.from_state_dict, BAM.to_layout and BAM.from_module: forms of checkpoints."""

import copy

import pytest
import torch
from implementations import PUBLIC, IndexedBAM, OfficialBAM, RenovamenBAM, feature_map, randomise
from torch import nn

from bam_fused import BAM
from bam_fused.layouts import LAYOUTS


def official(channels=32, **options):
    return randomise(OfficialBAM(channels, **options)).double().eval()


def assert_same_output(bam, module, channels=32):
    x = feature_map(3, channels, 9, 9)
    torch.testing.assert_close(bam.eval()(x), module.eval()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", PUBLIC)
def test_every_layout_and_its_round_trip(layout):
    module = randomise(PUBLIC[layout](32)).double()
    state = module.state_dict()
    bam = BAM.from_state_dict(state, combine=LAYOUTS[layout].combine, dilation=LAYOUTS[layout].dilation)
    assert_same_output(bam, module)
    back = bam.to_layout(layout)
    assert list(back) == list(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_table_can_be_written_and_recognised(name):
    layout = LAYOUTS[name]
    fit = layout.rows(1, 2)
    bam = BAM(
        32,
        combine=layout.combine,
        channel_layers=len(fit.channel) - 1,
        spatial_layers=len(fit.spatial) - 2,
        channel_hidden=fit.channel[0].after,
        spatial_hidden=fit.spatial[1].after,
        spatial_reduce=fit.spatial[0].after,
        final=(fit.channel[-1].after, fit.spatial[-1].after),
    )
    state = bam.to_layout(name)
    again = BAM.from_state_dict(state, combine=layout.combine, dilation=4)
    assert_same_output(randomise(again).double(), randomise(bam).double())


def test_weights_travel_from_one_layout_to_another():
    """Linear to 1x1 convolution and back, where both implementations have the same layers."""
    module = official(combine="sum")
    bam = BAM.from_state_dict(module.state_dict(), combine="sum")
    renovamen = PUBLIC["renovamen"](32).double().eval()
    renovamen.load_state_dict(bam.to_layout("renovamen"))
    assert_same_output(renovamen, module)
    back = BAM.from_module(renovamen).to_layout("official")
    assert all(torch.equal(back[key], value) for key, value in module.state_dict().items())


WRAPPED = {
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled and distributed": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "training script": lambda state: {"epoch": 3, "arch": "resnet50", "state_dict": WRAPPED["module."](state)},
    "inside a network": lambda state: {"conv1.weight": torch.ones(3)} | {f"bam3.{key}": v for key, v in state.items()},
    "mmdet plugin": lambda state: {f"layer1.plugin.module.{key}": value for key, value in state.items()},
    "numpy": lambda state: {key: value.numpy() for key, value in state.items()},
    "before num_batches_tracked": lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_forms_of_checkpoints(wrap):
    module = official()
    state = WRAPPED[wrap](module.state_dict())
    before = copy.deepcopy(state)
    assert_same_output(BAM.from_state_dict(state, combine="product"), module)
    assert list(state) == list(before)


@pytest.mark.parametrize("prefix", ["bam2", "bam2.", "module.bam2", "module.bam2."])
def test_prefix_chooses_one_of_several(prefix):
    bams = {f"bam{i}": official(32 * i) for i in (1, 2, 3)}
    network = nn.DataParallel(nn.ModuleDict(bams))
    bam = BAM.from_state_dict(network.state_dict(), combine="product", prefix=prefix)
    assert bam.channels == 64
    assert_same_output(bam, bams["bam2"], 64)


def test_mindspore_names():
    module = randomise(IndexedBAM(32)).double()
    names = {"running_mean": "moving_mean", "running_var": "moving_variance", "weight": "gamma", "bias": "beta"}
    norms = {name for name, child in module.named_modules() if "BatchNorm" in type(child).__name__}
    state = {}
    for key, value in module.state_dict().items():
        path, entry = key.rsplit(".", 1)
        if entry != "num_batches_tracked":
            state[f"bam1.{path}.{names[entry] if path in norms else entry}"] = value.numpy()
    bam = BAM.from_state_dict(state, combine="product", prefix="bam1")
    assert_same_output(bam, module)
    assert set(bam.to_layout("mindspore")) == {key.removeprefix("bam1.") for key in state}


def test_combine_is_asked_for_where_the_names_leave_it_open():
    with pytest.raises(ValueError, match=r"combine must be given for layout 'official'.*'product'.*'sum'"):
        BAM.from_state_dict(official().state_dict())
    with pytest.raises(ValueError, match="combine must be one of"):
        BAM.from_state_dict(official().state_dict(), combine="mul")
    module = official(combine="sum")
    assert_same_output(BAM.from_state_dict(module.state_dict(), combine="sum"), module)


@pytest.mark.parametrize("layout", ["pytorchcv", "fightingcv", "changzy00", "renovamen"])
def test_combine_may_be_left_out_where_the_layout_tells(layout):
    bam = BAM.from_state_dict(PUBLIC[layout](32).state_dict(), dilation=4)
    assert bam.combine == LAYOUTS[layout].combine


def test_dilation_and_padding_are_no_part_of_a_checkpoint():
    module = official(dilation=2)
    assert_same_output(BAM.from_state_dict(module.state_dict(), combine="product", dilation=2), module)
    fightingcv = PUBLIC["fightingcv"](32, padding=1).double()
    bam = BAM.from_state_dict(fightingcv.state_dict(), dilation=2, padding=1).eval()
    x = feature_map(3, 32, 7, 7)
    torch.testing.assert_close(bam(x), fightingcv.eval()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "reduction"), [(20, 16), (100, 14), (30, 4), (320, 16), (7, 2)])
def test_widths_that_divide_badly(channels, reduction):
    module = official(channels, reduction=reduction)
    bam = BAM.from_state_dict(module.state_dict(), combine="product")
    assert bam.options.hidden == channels // reduction
    assert_same_output(bam, module, channels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_follows_the_checkpoint(dtype):
    bam = BAM.from_state_dict(official().to(dtype).state_dict(), combine="product")
    assert {parameter.dtype for parameter in bam.parameters()} == {dtype}


def test_weights_are_copied():
    state = official().state_dict()
    bam = BAM.from_state_dict(state, combine="product")
    with torch.no_grad():
        bam.channel.linears[0].weight.zero_()
    assert state["channel_att.gate_c.gate_c_fc_0.weight"].abs().sum() > 0


@pytest.mark.parametrize("layout", PUBLIC)
def test_from_module_shares_what_it_is_made_of(layout):
    module = randomise(PUBLIC[layout](32)).double().eval()
    bam = BAM.from_module(module)
    assert not bam.training
    assert {id(p) for p in bam.parameters()} == {id(p) for p in module.parameters()}
    assert {id(b) for b in bam.buffers()} == {id(b) for b in module.buffers()}
    assert_same_output(bam, module)
    assert type(module) is PUBLIC[layout]


def test_from_module_keeps_the_original_padding():
    module = PUBLIC["fightingcv"](32, padding=1).double().eval()
    x = feature_map(3, 32, 7, 7)
    torch.testing.assert_close(BAM.from_module(module)(x), module(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_from_module_inside_a_wrapper(wrap):
    module = official()
    assert_same_output(BAM.from_module(wrap(module)), module)


def test_from_module_with_many_layers():
    module = randomise(RenovamenBAM(32, layers=3)).double().eval()
    assert_same_output(BAM.from_module(module), module)


class _Doubled(OfficialBAM):
    def forward(self, x):
        return 2 * super().forward(x)


def _silu():
    module = official()
    module.channel_att.gate_c.gate_c_relu_1 = nn.SiLU()
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(3, 3, 1), "fit no known layout"),
        (_Doubled(32), "layout 'official': even as the nearest form, .*, it computes something else"),
        (_silu(), "gate_c_relu_1 is a SiLU, not a ReLU"),
    ],
)
def test_bad_from_module(module, message):
    with pytest.raises(ValueError, match=message):
        BAM.from_module(module)


def test_from_module_wants_a_module():
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got dict"):
        BAM.from_module({})
