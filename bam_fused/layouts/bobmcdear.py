"""attention-in-vision: the authors' layers with the MLP as 1x1 convolutions, multiplied.

Its two dilated convolutions are one module, called twice. A live module keeps that; a checkpoint holds the weights twice
and does not tell, so that a BAM made from it has two convolutions that start equal.
"""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_attention.mlp.", "spatial_attention."

BOBMCDEAR = Layout(
    name="bobmcdear",
    source="BobMcDear/attention-in-vision, bam.py",
    channel=(Row(_C + "0", _C + "1", _C + "2"), Row(_C + "3")),
    spatial=(
        Row(_S + "reduce_1.0", _S + "reduce_1.1", _S + "reduce_1.2"),
        Row(_S + "convs.0", _S + "convs.1", _S + "convs.2"),
        Row(_S + "convs.3", _S + "convs.4", _S + "convs.5"),
        Row(_S + "reduce_2"),
    ),
    combine="product",
    mlp="conv",
    dilation_is_open=True,
)
