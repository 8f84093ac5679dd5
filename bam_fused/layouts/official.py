"""The authors' code, and the many copies that kept its names."""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_att.gate_c.gate_c_", "spatial_att.gate_s.gate_s_"

OFFICIAL = Layout(
    name="official",
    source="Jongchan/attention-module, MODELS/bam.py",
    channel=(Row(_C + "fc_{i}", _C + "bn_{j}", _C + "relu_{j}"), Row(_C + "fc_final")),
    spatial=(
        Row(_S + "conv_reduce0", _S + "bn_reduce0", _S + "relu_reduce0"),
        Row(_S + "conv_di_{i}", _S + "bn_di_{i}", _S + "relu_di_{i}"),
        Row(_S + "conv_final"),
    ),
    combine="product",
    combine_is_open=True,
    crops=True,
    partial=True,  # without the channel branch's BatchNorm, without any, with one branch
)
