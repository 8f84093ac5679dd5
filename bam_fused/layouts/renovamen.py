"""torchattn (on PyPI as `torchop`): the authors' layers with the MLP as 1x1 convolutions, added."""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_attn.attn.ca_", "spatial_attn.attn.sa_"

RENOVAMEN = Layout(
    name="renovamen",
    source="Renovamen/torchattn, torchop/conv/bam.py",
    channel=(Row(_C + "fc_{i}", _C + "bn_{j}", _C + "relu_{j}"), Row(_C + "fc_{n}")),
    spatial=(
        Row(_S + "reduce_conv_0", _S + "reduce_bn_0", _S + "reduce_relu_0"),
        Row(_S + "dc_conv_{i}", _S + "dc_bn_{i}", _S + "dc_relu_{i}"),
        Row(_S + "final_conv"),
    ),
    combine="sum",
    mlp="conv",
    dilation_is_open=True,
)
