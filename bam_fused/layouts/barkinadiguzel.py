"""The paper's formula to the letter: ReLU after the hidden layers, one BatchNorm at the end of each branch, added."""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_att.", "spatial_att."

BARKINADIGUZEL = Layout(
    name="barkinadiguzel",
    source="barkinadiguzel/BAM-Replication, src/blocks/bam_blocks.py",
    channel=(Row(_C + "mlp.0", None, _C + "mlp.1"), Row(_C + "mlp.2", _C + "bn")),
    spatial=(
        Row(_S + "conv_reduce", None, _S + "relu"),
        Row(_S + "conv1", None, _S + "relu"),
        Row(_S + "conv2", None, _S + "relu"),
        Row(_S + "conv_expand", _S + "bn"),
    ),
    combine="sum",
    mlp="conv",
    dilation_is_open=True,
)
