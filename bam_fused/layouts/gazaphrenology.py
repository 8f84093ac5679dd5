"""No BatchNorm in the channel branch, three convolutions of dilations 1, 2 and 4 in the spatial one, added."""

from bam_fused.layouts.layout import Layout, Row

_S = "SpatialConvs."

GAZAPHRENOLOGY = Layout(
    name="gazaphrenology",
    source="gazaphrenology997/Attention_Module, BAM.py",
    channel=(Row("Conv.0", None, "Conv.1"), Row("Conv.2")),
    spatial=(
        Row("SpatialDilation.0", "SpatialDilation.1", "SpatialDilation.2"),
        Row(_S + "0", _S + "1", _S + "2"),
        Row(_S + "3", _S + "4", _S + "5"),
        Row(_S + "6", _S + "7", _S + "8"),
        Row("spatial_out"),
    ),
    combine="sum",
    dilation=(1, 2, 4),
    dilation_is_open=True,
    mlp="conv",
)
