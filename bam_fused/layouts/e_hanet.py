"""The authors' code with another name for the last convolution and without the ReLU after the reduction."""

from bam_fused.layouts.layout import Row, variant
from bam_fused.layouts.official import OFFICIAL

_S = "spatial_att.gate_s.gate_s_"

E_HANET = variant(
    OFFICIAL,
    "e-hanet",
    source="Hazeliii/E-HANet, model/bam.py",
    spatial=(
        Row(_S + "conv_reduce0", _S + "bn_reduce0"),
        Row(_S + "conv_di_{i}", _S + "bn_di_{i}", _S + "rule_di_{i}"),
        Row("spatial_att.gate_s.gate-s_conv_final"),
    ),
    combine_is_open=False,
    partial=False,
)
