"""The paper's reading of pytorch-attention: one BatchNorm at the end of each branch, added."""

from bam_fused.layouts.layout import Layout, Row

_S = "spatial_attn."

CHANGZY00 = Layout(
    name="changzy00",
    source="changzy00/pytorch-attention, attention_mechanisms/bam.py",
    channel=(
        Row("channel_attn.mlp.0", None, "channel_attn.mlp.1"),
        Row("channel_attn.mlp.2", "channel_attn.bn"),
    ),
    spatial=(
        Row(_S + "conv1"),
        Row(_S + "conv2.0", _S + "conv2.1", _S + "conv2.2"),
        Row(_S + "conv2.3", _S + "conv2.4", _S + "conv2.5"),
        Row(_S + "conv3", _S + "bn"),
    ),
    combine="sum",
)
