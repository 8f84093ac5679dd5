"""The authors' module rewritten with lists or Sequential, so that its layers are numbered: MindSpore, Jittor and others."""

from bam_fused.layouts.layout import Layout, Row, numbered, variant

_C = "channel_att.gate_c."

INDEXED = Layout(
    name="indexed",
    source="MenghaoGuo/Awesome-Vision-Attentions (Jittor), code/channel_spatial_attentions/bam.py",
    channel=numbered(_C, 1, start=1),
    spatial=numbered("spatial_att.gate_s.", 3),
    combine="product",
    combine_is_open=True,
    crops=True,
)

POOL_INSIDE = variant(
    INDEXED,
    "indexed-pool-inside",
    source="rewrites that keep the pool as the first layer of gate_c",
    channel=numbered(_C, 1, start=2),
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
