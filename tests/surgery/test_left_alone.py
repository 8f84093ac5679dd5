"""What replace_bam must not touch: other arithmetic under BAM's names, and strangers under its name."""

import copy

import pytest
import torch
from implementations import (
    Asdf2krBAM,
    AttentionAlone,
    Changzy00BAM,
    OfficialBAM,
    RenovamenBAM,
    STANetBAM,
    WithItsSpatialMap,
    feature_map,
    randomise,
)
from torch import nn
from torch.nn.utils import prune

from bam_fused import replace_bam


def assert_left_alone(module, reason):
    model = nn.Sequential(module).double()
    kind, x = type(module), feature_map(3, 32, 9, 9)
    want = copy.deepcopy(model)(x)
    (entry,) = replace_bam(model)
    assert not entry.replaced and reason in entry.reason, entry
    assert type(module) is kind and torch.equal(model(x), want)


class GateTwice(OfficialBAM):
    def forward(self, x):
        return x + super().forward(x)


class NoResidual(OfficialBAM):
    def forward(self, x):
        return super().forward(x) - x


class Detached(OfficialBAM):
    def forward(self, x):
        return (1 + torch.sigmoid(self.channel_att(x.detach()) * self.spatial_att(x))) * x


class DropsInTraining(OfficialBAM):
    def forward(self, x):
        return torch.nn.functional.dropout(super().forward(x), 0.5, self.training)


class CountsItself(OfficialBAM):
    def forward(self, x):
        self.spatial_att.gate_s.gate_s_bn_di_0.running_mean.mul_(0.5)
        return super().forward(x)


class HardSigmoid(OfficialBAM):
    def forward(self, x):
        return (1 + torch.nn.functional.hardsigmoid(self.channel_att(x) * self.spatial_att(x))) * x


class ChannelsOnlyOnWideMaps(OfficialBAM):
    def forward(self, x):
        return super().forward(x) if x.shape[2] == x.shape[3] else x * (1 + torch.sigmoid(self.channel_att(x)))


class SigmoidAlone(AttentionAlone):
    def forward(self, x):
        return super().forward(x) - 1


@pytest.mark.parametrize("kind", [GateTwice, HardSigmoid])
def test_other_arithmetic(kind):
    assert_left_alone(randomise(kind(32)), "computes something else")


def test_other_gradient():
    assert_left_alone(randomise(Detached(32)), "in training the gradient")


def test_other_running_statistics():
    bam = CountsItself(32)
    (entry,) = replace_bam(bam)
    assert not entry.replaced and "statistic of spatial_att.gate_s.gate_s_bn_di_0.running_mean" in entry.reason


def test_other_training():
    assert_left_alone(DropsInTraining(32).eval(), "in training it computes something else")


def test_other_arithmetic_on_wide_maps():
    assert_left_alone(ChannelsOnlyOnWideMaps(32), "not square")


def test_forward_that_fails():
    class Fails(OfficialBAM):
        def forward(self, x):
            raise RuntimeError("needs a mask")

    bam = Fails(32)
    (entry,) = replace_bam(bam)
    assert not entry.replaced and "RuntimeError: needs a mask" in entry.reason and type(bam) is Fails


def test_forward_set_on_the_instance():
    bam = OfficialBAM(32)
    bam.forward = lambda x: x
    (entry,) = replace_bam(bam)
    assert not entry.replaced and "its forward is set on the instance" in entry.reason


def test_forward_set_on_a_child():
    bam = OfficialBAM(32)
    bam.spatial_att.gate_s.gate_s_bn_di_0.forward = lambda _: pytest.fail("it was run")
    (entry,) = replace_bam(bam)
    assert not entry.replaced
    assert "the forward of spatial_att.gate_s.gate_s_bn_di_0 is set on the instance" in entry.reason


def test_a_residual_counted_twice():
    assert_left_alone(randomise(Asdf2krBAM(32, doubled=True)), "computes something else")


def test_stranger_is_not_even_run():
    bam = STANetBAM(32)
    bam.register_forward_hook(lambda *_: pytest.fail("it was run"))
    bam.query_conv.forward = lambda *_: pytest.fail("it was run")
    (entry,) = replace_bam(nn.Sequential(bam))
    assert not entry.replaced and "fit no known layout" in entry.reason
    assert type(bam) is STANetBAM


def test_networks_named_after_bam_are_not_reported():
    class BamResNet(nn.Sequential):
        pass

    class CBAM(nn.Conv2d):
        pass

    assert len(replace_bam(BamResNet(CBAM(3, 3, 1)))) == 0


def test_extra_layer_under_the_official_names():
    bam = OfficialBAM(32)
    bam.spatial_att.proj = nn.Conv2d(1, 1, 1)
    (entry,) = replace_bam(bam)
    assert not entry.replaced
    assert "nearly those of layout 'official', but it also has spatial_att.proj.weight" in entry.reason


def test_missing_layer_under_the_official_names():
    bam = OfficialBAM(32)
    del bam.spatial_att.gate_s.gate_s_conv_final
    (entry,) = replace_bam(bam)
    assert not entry.replaced and "lacks spatial_att.gate_s.gate_s_conv_final.weight" in entry.reason


def _with_other_norms(bam):
    hidden = bam.channel_att.gate_c.gate_c_fc_0.out_features
    bam.channel_att.gate_c.gate_c_bn_1 = nn.LayerNorm(hidden)
    for name in ("reduce0", "di_0", "di_1"):
        setattr(bam.spatial_att.gate_s, f"gate_s_bn_{name}", nn.GroupNorm(1, hidden))
    return bam


@pytest.mark.parametrize("mode", [True, False])
def test_group_and_layer_norm_under_the_official_names(mode):
    """Their children are called as modules, so they are replaced rightly, a single image in training included."""
    bam = _with_other_norms(OfficialBAM(32)).double().train(mode)
    x = feature_map(1, 32, 9, 9)
    want = bam(x)
    (entry,) = replace_bam(bam)
    assert entry.replaced
    torch.testing.assert_close(bam(x), want, rtol=1e-12, atol=1e-12)


def test_another_activation_under_the_official_names():
    bam = OfficialBAM(32).double().eval()
    bam.channel_att.gate_c.gate_c_relu_1 = nn.SiLU()
    x = feature_map(3, 32, 9, 9)
    want = bam(x)
    assert replace_bam(bam).replaced
    torch.testing.assert_close(bam(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*jit.script.* is deprecated:DeprecationWarning")
def test_scripted_module():
    (entry,) = replace_bam(torch.jit.script(OfficialScriptable(32)))
    assert not entry.replaced and "scripted" in entry.reason


class OfficialScriptable(nn.Module):
    def __init__(self, channels):
        super().__init__()
        bam = OfficialBAM(channels)
        self.channel_att = nn.Module()
        self.channel_att.gate_c = bam.channel_att.gate_c
        self.spatial_att = nn.Module()
        self.spatial_att.gate_s = bam.spatial_att.gate_s

    def forward(self, x):
        return x


def test_meta_device_and_mixed_dtypes():
    (entry,) = replace_bam(OfficialBAM(32).to("meta"))
    assert not entry.replaced and "meta device" in entry.reason
    bam = OfficialBAM(32).half()
    bam.spatial_att.gate_s.gate_s_bn_di_0.float()
    (entry,) = replace_bam(bam)
    assert not entry.replaced and "torch.float16" in entry.reason and "torch.float32" in entry.reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NoResidual, "it returns F * sigmoid(...) without the F that a BAM adds"),
        (SigmoidAlone, "it returns sigmoid(...) without the 1 that a BAM adds"),
    ],
)
def test_what_a_bam_adds_is_missed_by_name(kind, reason):
    assert_left_alone(randomise(kind(32)), reason)


def test_another_tuple_is_named():
    bam = randomise(WithItsSpatialMap(32))
    (entry,) = replace_bam(bam)
    assert not entry.replaced and type(bam) is WithItsSpatialMap
    assert "it returns a tuple of 2 ((3, 32, 8, 8), (3, 1, 8, 8))" in entry.reason


def test_a_missing_norm_and_a_missing_branch_are_named():
    bam = Changzy00BAM(32)
    del bam.spatial_attn.bn
    (entry,) = replace_bam(bam)
    assert entry.reason.endswith("but it has no BatchNorm after spatial_attn.conv3")
    bam = RenovamenBAM(32)
    del bam.channel_attn.attn[1:]
    (entry,) = replace_bam(bam)
    assert entry.reason.endswith("but it has no channel branch (channel_attn.attn.ca_fc_0 and so on)")


def test_a_long_error_of_the_original_is_not_cut():
    class Fails(OfficialBAM):
        def forward(self, x):
            raise RuntimeError("needs a mask " * 20 + "at the end")

    (entry,) = replace_bam(Fails(32))
    assert entry.reason.endswith("at the end")


@pytest.mark.parametrize("name", ["BAMAdapter", "BAMS", "MyBAM_Block", "BAMSLayer", "BAM_spatial"])
def test_what_is_called_a_bam_gets_an_entry(name):
    stranger = type(name, (nn.Conv2d,), {})(3, 3, 1)
    (entry,) = replace_bam(nn.Sequential(stranger))
    assert entry.class_name == name and "fit no known layout" in entry.reason


def test_a_network_called_like_a_bam_does_not_hide_those_inside():
    class MobileNetV2_BAM(nn.Sequential):
        pass

    report = replace_bam(MobileNetV2_BAM(nn.Conv2d(3, 32, 1), STANetBAM(32), STANetBAM(32)))
    assert [(entry.name, entry.class_name) for entry in report] == [("1", "BAM"), ("2", "BAM")]


REWRITING = {
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "a parametrization": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("what", REWRITING)
def test_a_weight_computed_in_each_forward_is_named(what):
    bam = OfficialBAM(32)
    REWRITING[what](bam.spatial_att.gate_s.gate_s_conv_di_0)
    (entry,) = replace_bam(bam)
    assert not entry.replaced
    assert (
        f"the weight of spatial_att.gate_s.gate_s_conv_di_0 is computed anew in each forward by {what}" in entry.reason
    )
