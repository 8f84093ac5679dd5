"""The authors' layers with the MLP as 1x1 convolutions and one BatchNorm more, at the end of the channel branch."""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_att.mlp.", "spatial_att.gate_s."

ALBERTTER = Layout(
    name="albertter",
    source="albertter/cifar10.pytorch, models/BAM.py",
    channel=(Row(_C + "0", _C + "1", _C + "2"), Row(_C + "3", "channel_att.bn")),
    spatial=(
        Row(_S + "0", _S + "1", _S + "2"),
        Row(_S + "3", _S + "4", _S + "5"),
        Row(_S + "6", _S + "7", _S + "8"),
        Row("spatial_att.final"),
    ),
    combine="product",
    mlp="conv",
)
