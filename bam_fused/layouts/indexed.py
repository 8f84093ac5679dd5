"""The authors' module rewritten with lists or Sequential, so that its layers are numbered: MindSpore, Jittor and others."""

from bam_fused.layouts.layout import Layout, Row, variant

_C, _S = "channel_att.gate_c.", "spatial_att.gate_s."

INDEXED = Layout(
    name="indexed",
    source="MenghaoGuo/Awesome-Vision-Attentions (Jittor), code/channel_spatial_attentions/bam.py",
    channel=(Row(_C + "1", _C + "2", _C + "3"), Row(_C + "4")),
    spatial=(
        Row(_S + "0", _S + "1", _S + "2"),
        Row(_S + "3", _S + "4", _S + "5"),
        Row(_S + "6", _S + "7", _S + "8"),
        Row(_S + "9"),
    ),
    combine="product",
    combine_is_open=True,
    crops=True,
)

POOL_INSIDE = variant(
    INDEXED,
    "indexed-pool-inside",
    source="rewrites that keep the pool as the first layer of gate_c",
    channel=(Row(_C + "2", _C + "3", _C + "4"), Row(_C + "5")),
    crops=False,
)

DSC_BAM = variant(
    POOL_INSIDE,
    "dsc-bam",
    source="blacklancer/DSC-BAM, models/BAM.py: BatchNorm and ReLU at the end of the channel branch",
    channel=(Row(_C + "2", _C + "3", _C + "4"), Row(_C + "5", _C + "6", _C + "7")),
)

MINDSPORE = variant(
    INDEXED,
    "mindspore",
    source="mindspore-ai/models, research/cv/resnet50_bam",
    norm_entries=("gamma", "beta", "moving_mean", "moving_variance"),
)
