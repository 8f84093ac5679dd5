"""The authors' layers, numbered, with the MLP as 1x1 convolutions, multiplied."""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_attn.gate_c.", "spatial_attn.gate_s."

SIMPLERESEARCH = Layout(
    name="simpleresearch",
    source="Alokia/SimpleResearch-Pytorch, attention/BAM.py",
    channel=(Row(_C + "0", _C + "1", _C + "2"), Row(_C + "3")),
    spatial=(
        Row(_S + "0", _S + "1", _S + "2"),
        Row(_S + "3", _S + "4", _S + "5"),
        Row(_S + "6", _S + "7", _S + "8"),
        Row(_S + "9"),
    ),
    combine="product",
    mlp="conv",
    dilation_is_open=True,
)
