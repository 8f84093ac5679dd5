"""replace_bam on live models: what is replaced, with which results, and what the report says."""

import copy

import pytest
import torch
from implementations import PUBLIC, FightingcvBAM, OfficialBAM, PytorchcvBAM, RenovamenBAM, feature_map, randomise
from networks import network
from torch import nn
from worked_cases import freeze_norms

from bam_fused import replace_bam, restore_bam


@pytest.mark.parametrize("mode", ["eval", "train", "frozen"])
@pytest.mark.parametrize("layout", PUBLIC)
def test_output_gradients_and_statistics_stay(layout, mode):
    torch.manual_seed(0)
    original = randomise(nn.Sequential(PUBLIC[layout](32), nn.Conv2d(32, 4, 1))).double()
    model = copy.deepcopy(original)
    assert [entry.layout for entry in replace_bam(model).replaced] == [layout]
    for module in (original, model):
        module.eval() if mode == "eval" else freeze_norms(module) if mode == "frozen" else module.train()
    x = feature_map(3, 32, 12, 12)
    results = []
    for module in (original, model):
        leaf = x.clone().requires_grad_()
        out = module(leaf)
        out.square().sum().backward()
        results.append([out, leaf.grad, *(p.grad for p in module.parameters()), *module.buffers()])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("combine", ["sum", "product", "max"])
def test_verification_tells_how_the_branches_are_combined(combine):
    model = network(OfficialBAM(32, combine=combine))
    (entry,) = replace_bam(model)
    assert entry.replaced and entry.combine == combine


def test_zero_logits_do_not_hide_how_the_branches_are_combined():
    bam = OfficialBAM(32, combine="sum")
    for parameter in bam.parameters():
        nn.init.zeros_(parameter)
    (entry,) = replace_bam(bam)
    assert entry.combine == "sum"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype(dtype):
    bam = randomise(OfficialBAM(32)).to(dtype).eval()
    x = feature_map(3, 32, 9, 9, dtype=dtype)
    want = copy.deepcopy(bam).double()(x.double())
    eager = (bam(x) - want).abs().max()
    (entry,) = replace_bam(bam)
    assert entry.replaced
    assert bam(x).dtype == dtype
    assert (bam(x) - want).abs().max() <= 1.05 * eager + 1e-14


def test_model_that_is_itself_a_bam():
    (entry,) = replace_bam(OfficialBAM(32))
    assert entry.name == "" and entry.replaced


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("kind", [OfficialBAM, PytorchcvBAM, RenovamenBAM])
def test_more_hidden_layers(kind, layers):
    (entry,) = replace_bam(kind(32, layers=layers))
    assert entry.replaced


def test_official_with_more_dilated_convolutions_and_another_dilation():
    bam = randomise(OfficialBAM(64, reduction=8, convs=3, dilation=6)).eval()
    x = feature_map(2, 64, 14, 14, dtype=torch.float32)
    want = bam(x)
    assert replace_bam(bam).replaced
    torch.testing.assert_close(bam(x), want)


def test_original_fightingcv_block_on_its_one_size():
    bam = randomise(FightingcvBAM(32, padding=1)).double().eval()
    x = feature_map(3, 32, 7, 7)
    want = bam(x)
    (entry,) = replace_bam(bam)
    assert entry.replaced and entry.combine == "sum"
    torch.testing.assert_close(bam(x), want, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="padding must equal dilation"):
        bam(feature_map(3, 32, 9, 9))


@pytest.mark.parametrize("legacy_pool", [False, None, True])
def test_maps_that_are_not_square(legacy_pool):
    bam = randomise(OfficialBAM(32)).double().eval()
    x = feature_map(3, 32, 9, 13)
    crop = bam(x)
    full = copy.deepcopy(bam)
    full.channel_att.crops = False
    (entry,) = replace_bam(bam, legacy_pool=legacy_pool)
    assert "crop" in entry.reason
    torch.testing.assert_close(bam(x), full(x) if legacy_pool is False else crop, rtol=1e-12, atol=1e-12)
    if legacy_pool is not False:  # what the authors' pool refuses is refused with its own error
        with pytest.raises(RuntimeError, match=r"mat1 and mat2|Output size is too small|shapes cannot be multiplied"):
            bam(feature_map(3, 32, 6, 13))


def test_legacy_pool_leaves_true_pools_alone():
    bam = OfficialBAM(32, pool="global").double().eval()
    x = feature_map(3, 32, 9, 13)
    want = bam(x)
    (entry,) = replace_bam(bam)
    assert entry.reason == ""
    torch.testing.assert_close(bam(x), want, rtol=1e-12, atol=1e-12)


def test_unverified():
    model = nn.Sequential(OfficialBAM(32), FightingcvBAM(32)).double().eval()
    x = feature_map(3, 32, 9, 9)
    want = model(x)
    report = replace_bam(model, verify=False)
    assert [entry.combine for entry in report.replaced] == ["product", "sum"]
    assert all(entry.difference is None and entry.reason == "not verified" for entry in report)
    torch.testing.assert_close(model(x), want, rtol=1e-12, atol=1e-12)


def test_report_prints_as_a_table():
    report = replace_bam(network())
    header, rule, row = str(report).splitlines()
    assert header.split()[:2] == ["module", "class"] and set(rule) == {"-", " "}
    assert row.split()[:5] == ["1", "OfficialBAM", "official", "product", "32"] and "replaced" in row
    assert len(report) == 1 and report[0] is report.replaced[0] and report.left_alone == ()


def test_model_without_bam():
    report = replace_bam(nn.Sequential(nn.Conv2d(3, 3, 1)))
    assert len(report) == 0 and str(report) == "no BAM found"


@pytest.mark.parametrize("function", [replace_bam, restore_bam])
def test_not_a_module(function):
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got dict"):
        function({})


@pytest.mark.parametrize(("option", "kinds"), [("verify", "a bool"), ("legacy_pool", "a bool or None")])
def test_options_are_bools(option, kinds):
    with pytest.raises(TypeError, match=f"{option} must be {kinds}, got str"):
        replace_bam(OfficialBAM(32), **{option: "no"})


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("layout", PUBLIC)
def test_results_stay_on_maps_that_are_not_square(layout, verify):
    bam = randomise(PUBLIC[layout](32)).double().train()
    x = feature_map(3, 32, 9, 13)
    other = copy.deepcopy(bam)
    replace_bam(bam, verify=verify)
    results = []
    for module in (bam, other):
        leaf = x.clone().requires_grad_()
        out = module(leaf)
        out.square().sum().backward()
        results.append((out, leaf.grad))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
