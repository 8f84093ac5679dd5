"""A rewrite for segmentation: no BatchNorm in the channel branch, one more at the end of the spatial one, multiplied."""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_attention.shared_MLP.", "spatial_attention."
_D = _S + "dilation_convs."

SHARED_MLP = Layout(
    name="shared-mlp",
    source="IMU-Y/Atherosclerotic_Plaque, model/BAM.py",
    channel=(Row(_C + "0", None, _C + "1"), Row(_C + "2")),
    spatial=(
        Row(_S + "reduce_conv.0", _S + "reduce_conv.1", _S + "reduce_conv.2"),
        Row(_D + "0", _D + "1", _D + "2"),
        Row(_D + "3", _D + "4", _D + "5"),
        Row(_S + "final_conv.0", _S + "final_conv.1"),
    ),
    combine="product",
)
