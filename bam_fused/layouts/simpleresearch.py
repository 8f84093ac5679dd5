"""The authors' layers, numbered, with the MLP as 1x1 convolutions, multiplied."""

from bam_fused.layouts.layout import Layout, numbered

SIMPLERESEARCH = Layout(
    name="simpleresearch",
    source="Alokia/SimpleResearch-Pytorch, attention/BAM.py",
    channel=numbered("channel_attn.gate_c.", 1),
    spatial=numbered("spatial_attn.gate_s.", 3),
    combine="product",
    mlp="conv",
    dilation_is_open=True,
)
