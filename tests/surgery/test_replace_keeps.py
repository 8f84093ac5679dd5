"""replace_bam leaves everything else of a model as it was, and restore_bam leaves it as it had been."""

import pytest
import torch
from implementations import OfficialBAM
from networks import image, network
from torch import nn

from bam_fused import BAM, replace_bam, restore_bam


def test_one_module_under_two_names_is_one_entry():
    bam = OfficialBAM(32)
    model = nn.Sequential(bam, nn.Sequential(bam))
    assert [entry.name for entry in replace_bam(model)] == ["0"]
    assert model[0] is model[1][0] is bam


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


def test_own_modules_are_named_and_kept():
    bam = BAM(32)
    model = nn.Sequential(bam)
    (entry,) = replace_bam(model)
    assert entry.replaced and type(bam) is BAM
