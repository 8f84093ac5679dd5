"""replace_bam and restore_bam on live models: what is replaced, and that nothing else changes."""

import copy
import gc
import io
import pickle

import pytest
import torch
from implementations import PUBLIC, FightingcvBAM, OfficialBAM, PytorchcvBAM, RenovamenBAM, feature_map, randomise
from torch import nn
from worked_cases import freeze_norms

from bam_fused import BAM, replace_bam, restore_bam


def network(bam=None, channels=32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 3), bam or OfficialBAM(channels), nn.Conv2d(channels, 4, 1)).double()


def image(h=12, w=12):
    return feature_map(3, 3, h, w)


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


def test_one_module_under_two_names_is_one_entry():
    bam = OfficialBAM(32)
    model = nn.Sequential(bam, nn.Sequential(bam))
    assert [entry.name for entry in replace_bam(model)] == ["0"]
    assert model[0] is model[1][0] is bam


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


def test_second_call_changes_nothing():
    model = network()
    first = replace_bam(model)
    forward = model[1].__class__
    second = replace_bam(model)
    assert model[1].__class__ is forward
    assert [entry.name for entry in second.replaced] == [entry.name for entry in first.replaced] == ["1"]


def test_restore_gives_the_own_forward_back():
    model = network().eval()
    want = model(image())
    replace_bam(model)
    assert type(model[1]) is not OfficialBAM
    assert restore_bam(model) == 1
    assert type(model[1]) is OfficialBAM and set(vars(model[1])) == set(vars(OfficialBAM(32)))
    assert torch.equal(model(image()), want)
    assert restore_bam(model) == 0


def test_verification_leaves_no_trace():
    model = network().train()
    model(image()).sum().backward()
    model[1].spatial_att.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    versions = [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    calls = []
    for module in model.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
    rng = torch.get_rng_state()
    assert replace_bam(model).replaced
    assert torch.equal(torch.get_rng_state(), rng)
    assert not calls
    assert versions == [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, model.parameters(), strict=True))
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class ByList(OfficialBAM):
    """Calls its layers through a plain list and a bound method, which a copy by reference would share."""

    def __init__(self, channels):
        super().__init__(channels)
        self.branches = [self.channel_att, {"spatial": (self.spatial_att,)}]
        self.finish = self._finish

    def _finish(self, x):
        return (1 + torch.sigmoid(self.branches[0](x) * self.branches[1]["spatial"][0](x))) * x

    def forward(self, x):
        return self.finish(x)


def test_layers_in_plain_lists_are_not_touched():
    bam = ByList(32).train()
    state = {key: value.clone() for key, value in bam.state_dict().items()}
    (entry,) = replace_bam(bam)
    assert entry.replaced, entry
    assert all(torch.equal(value, state[key]) for key, value in bam.state_dict().items())
    assert all(parameter.grad is None for parameter in bam.parameters())


def test_isinstance_and_children_stay():
    model = network()
    before = [id(module) for module in model.modules()]
    replace_bam(model)
    assert isinstance(model[1], OfficialBAM)
    assert before == [id(module) for module in model.modules()]


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_works_where_the_caller_turned_gradients_off(grad):
    model = network()
    with grad():
        assert replace_bam(model).replaced


def test_works_under_another_default_device():
    model = network()
    with torch.device("meta"):
        assert replace_bam(model).replaced


def test_frozen_parameters_stay_frozen():
    model = network().requires_grad_(False)
    assert replace_bam(model).replaced
    assert not any(parameter.requires_grad for parameter in model.parameters())


def _pickled(model):
    return pickle.loads(pickle.dumps(model))


def _saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, _pickled, _saved])
def test_duplicates_are_fused_and_can_be_restored(duplicate):
    model = network().eval()
    want = model(image())
    replace_bam(model)
    other = duplicate(model)
    torch.testing.assert_close(other(image()), want, rtol=1e-12, atol=1e-12)
    assert type(other[1]) is type(model[1])
    assert restore_bam(other) == 1 and torch.equal(other(image()), want)


def test_hooks_on_the_module_and_on_called_children_run_once():
    model = network()
    replace_bam(model)
    calls = []
    model[1].register_forward_hook(lambda module, args, out: calls.append("bam"))
    model[1].spatial_att.gate_s.gate_s_conv_final.register_forward_hook(lambda *_: calls.append("conv"))
    model[1].channel_att.gate_c.gate_c_bn_1.register_forward_pre_hook(lambda *_: calls.append("bn"))
    model(image())
    assert sorted(calls) == ["bam", "bn", "conv"]


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_hook_on_a_container_brings_the_own_forward_back(kind):
    model = network().eval()
    want = model(image())
    replace_bam(model)
    seen = []
    handle = getattr(model[1].channel_att, kind)(lambda *_: seen.append(1))
    out = model(image())
    out.sum().backward()
    assert seen and torch.equal(out, want)
    handle.remove()
    seen.clear()
    torch.testing.assert_close(model(image()), want, rtol=1e-12, atol=1e-12)
    assert not seen


def test_layer_added_to_a_container_later_is_run():
    model = network().eval()
    replace_bam(model)
    model[1].channel_att.gate_c.add_module("twice", Scale(2.0))
    fused = model(image())
    restore_bam(model)
    torch.testing.assert_close(fused, model(image()), rtol=0, atol=0)


def test_forward_set_on_a_container_later_is_run():
    model = network().eval()
    replace_bam(model)
    model[1].spatial_att.forward = lambda x: torch.zeros_like(x)
    half = model[1](torch.ones(3, 32, 9, 9, dtype=torch.float64))
    torch.testing.assert_close(half, torch.full_like(half, 1.5))


def test_layer_put_in_place_of_another_later_is_run():
    model = network().eval()
    replace_bam(model)
    model[1].channel_att.gate_c.gate_c_fc_final = nn.Linear(2, 32, dtype=torch.float64)
    fused = model(image())
    restore_bam(model)
    torch.testing.assert_close(fused, model(image()), rtol=1e-12, atol=1e-12)


def test_class_subclassed_by_someone_else_since():
    """As torch's fully_shard does, which makes the module's class a subclass of it."""
    bam = OfficialBAM(32).double().eval()
    x = feature_map(3, 32, 9, 9)
    want = bam(x)
    replace_bam(bam)
    bam.__class__ = type("Sharded", (type(bam),), {})
    torch.testing.assert_close(bam(x), want, rtol=1e-12, atol=1e-12)
    assert replace_bam(bam)[0].reason == "already"
    assert restore_bam(bam) == 1 and torch.equal(bam(x), want)
    assert replace_bam(bam).replaced and type(bam).__name__ == "Sharded"
    torch.testing.assert_close(bam(x), want, rtol=1e-12, atol=1e-12)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_keyword_call():
    bam = OfficialBAM(32).eval()
    x = feature_map(3, 32, 9, 9, dtype=torch.float32)
    want = bam(in_tensor=x)
    replace_bam(bam)
    torch.testing.assert_close(bam(in_tensor=x), want)


def test_model_that_is_itself_a_bam():
    (entry,) = replace_bam(OfficialBAM(32))
    assert entry.name == "" and entry.replaced


def test_data_parallel_and_its_replicas():
    model = nn.DataParallel(network())
    assert [entry.name for entry in replace_bam(model)] == ["module.1"]
    assert list(model.state_dict()) == list(nn.DataParallel(network()).state_dict())
    replica = model.module[1]._replicate_for_data_parallel()
    assert type(replica) is type(model.module[1])


def test_distributed_data_parallel(tmp_path):
    def replace_and_train():
        model = nn.parallel.DistributedDataParallel(network())
        assert [entry.name for entry in replace_bam(model)] == ["module.1"]
        out = model(image())
        torch.testing.assert_close(out, network()(image()), rtol=1e-12, atol=1e-12)
        out.sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        replace_and_train()
        gc.collect()  # the model must be gone before the process group, else its last reference can deadlock
    finally:
        torch.distributed.destroy_process_group()


def test_after_sync_batchnorm_conversion():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(network()).eval()
    want = model(image())
    assert replace_bam(model).replaced
    torch.testing.assert_close(model(image()), want, rtol=1e-12, atol=1e-12)
    assert isinstance(model[1].channel_att.gate_c.gate_c_bn_1, nn.SyncBatchNorm)


def test_sync_batchnorm_conversion_after_replacement():
    model = network().eval()
    want = model(image())
    replace_bam(model)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    torch.testing.assert_close(model(image()), want, rtol=1e-12, atol=1e-12)


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


def test_own_modules_are_named_and_kept():
    bam = BAM(32)
    model = nn.Sequential(bam)
    (entry,) = replace_bam(model)
    assert entry.replaced and type(bam) is BAM


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
