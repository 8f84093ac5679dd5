"""What BAM.from_state_dict and BAM.to_layout say of bad checkpoints, prefixes and names."""

import pytest
import torch
from implementations import OfficialBAM, STANetBAM

from bam_fused import BAM


def _changed(**entries):
    state = OfficialBAM(32).state_dict()
    for key, value in entries.items():
        key = key.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


BAD = {
    "missing": (
        _changed(channel_att__gate_c__gate_c_fc_final__weight=None),
        "nearly those of layout 'official', but it lacks channel_att.gate_c.gate_c_fc_final.weight",
    ),
    "no running statistics": (
        _changed(channel_att__gate_c__gate_c_bn_1__running_mean=None),
        "lacks channel_att.gate_c.gate_c_bn_1.running_mean",
    ),
    "too many": (
        _changed(proj__weight=torch.ones(2)),
        "nearly those of layout 'official', but it also has proj.weight",
    ),
    "unknown": (STANetBAM(32).state_dict(), "fit no known layout"),
    "another width": (
        _changed(channel_att__gate_c__gate_c_fc_0__weight=torch.ones(2, 64)),
        r"gate_c_fc_0.weight has shape \(2, 64\), where \(2, 32\) goes with the 32 channels",
    ),
    "another kernel": (
        _changed(spatial_att__gate_s__gate_s_conv_di_0__weight=torch.ones(2, 2, 5, 5)),
        r"gate_s_conv_di_0.weight has shape \(2, 2, 5, 5\), where \(2, 2, 3, 3\)",
    ),
    "flat reduction": (
        _changed(spatial_att__gate_s__gate_s_conv_reduce0__weight=torch.ones(2, 32)),
        r"gate_s_conv_reduce0.weight must have shape \(hidden, channels, 1, 1\), got \(2, 32\)",
    ),
    "missing inside a network": (
        {"conv1.weight": torch.ones(1)}
        | {f"bam1.{k}": v for k, v in _changed(spatial_att__gate_s__gate_s_conv_final__bias=torch.ones(1)).items()}
        | {"bam1.spatial_att.gate_s.gate_s_conv_di_2.bias": torch.ones(1)},
        "read as a BAM: at 'bam1.' its entries are nearly those of layout 'official', but it also has "
        "spatial_att.gate_s.gate_s_conv_di_2.bias .known:",
    ),
    "several": (
        {f"bam{i}.{key}": value for i in (1, 2) for key, value in OfficialBAM(32).state_dict().items()},
        "state holds 2 BAMs; choose one with prefix: 'bam1.', 'bam2.'",
    ),
    "empty": ({}, "prefix must be the path of a BAM in state, got ''"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoints(case):
    state, message = BAD[case]
    before = list(state)
    with pytest.raises(ValueError, match=message):
        BAM.from_state_dict(state, combine="product")
    assert list(state) == before


def test_bad_prefix():
    with pytest.raises(ValueError, match=r"got 'bam9.'; BAMs are at 'bam1.'"):
        BAM.from_state_dict(
            {f"bam1.{k}": v for k, v in OfficialBAM(32).state_dict().items()}, combine="sum", prefix="bam9"
        )
    with pytest.raises(TypeError, match="prefix must be a string, got int"):
        BAM.from_state_dict(OfficialBAM(32).state_dict(), combine="sum", prefix=1)


@pytest.mark.parametrize("state", ["weights.pth", None, {"a": 3}, {1: torch.ones(1)}])
def test_not_a_state_dict(state):
    with pytest.raises(TypeError, match="state must"):
        BAM.from_state_dict(state, combine="sum")


@pytest.mark.parametrize(
    ("bam", "name", "message"),
    [
        (BAM(32), "official", "its channel layers are followed by .*, these by"),
        (BAM.official(32), "keras", "name must be one of"),
        (BAM.official(32, combine="max"), "pytorchcv", "combines by 'product', this module by 'max'"),
        (BAM.official(32, branches="channel"), "pytorchcv", "two branches"),
        (BAM.official(32, identity_start=True), "official", "residual_scale"),
        (BAM.official(32, spatial_layers=3), "indexed", "its spatial layers are followed by"),
    ],
)
def test_bad_to_layout(bam, name, message):
    with pytest.raises(ValueError, match=message):
        bam.to_layout(name)


def test_to_layout_wants_a_name():
    with pytest.raises(TypeError, match="name must be a string"):
        BAM.official(32).to_layout(None)
