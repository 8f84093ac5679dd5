"""The authors' code with some of its names changed."""

from bam_fused.layouts.layout import Row, variant
from bam_fused.layouts.official import OFFICIAL

_S = "spatial_att.gate_s."
_DILATED, _LAST = OFFICIAL.spatial[1:]

MA_XU = variant(
    OFFICIAL,
    "ma-xu",
    source="ma-xu/ResidualAttention, models/bam_resnet.py: no BatchNorm in the channel branch",
    channel=(
        Row("channel_att.fc.gate_c_fc_0", None, "channel_att.fc.gate_c_relu_1"),
        Row("channel_att.fc.gate_c_fc_final"),
    ),
    combine_is_open=False,
    crops=False,
    partial=False,
)

DAYELIANXISHENG = variant(
    OFFICIAL,
    "dayelianxisheng",
    source="dayelianxisheng/Module, Attention/BAM.py: the reduction is numbered",
    spatial=(Row(_S + "0", _S + "1", _S + "2"), _DILATED, _LAST),
    combine_is_open=False,
    crops=False,
    partial=False,
)

E_HANET = variant(
    OFFICIAL,
    "e-hanet",
    source="Hazeliii/E-HANet, model/bam.py: no ReLU after the reduction",
    spatial=(
        Row(_S + "gate_s_conv_reduce0", _S + "gate_s_bn_reduce0"),
        Row(_S + "gate_s_conv_di_{i}", _S + "gate_s_bn_di_{i}", _S + "gate_s_rule_di_{i}"),
        Row(_S + "gate-s_conv_final"),
    ),
    combine_is_open=False,
    partial=False,
)
