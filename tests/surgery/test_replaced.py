"""What people do with a model later: copies, hooks, changed layers, wrappers. A replaced BAM follows."""

import copy
import gc
import io
import pickle

import pytest
import torch
from implementations import OfficialBAM, feature_map
from networks import image, network
from torch import nn

from bam_fused import replace_bam, restore_bam


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
