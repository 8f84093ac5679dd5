"""`BAMBlock` of External-Attention-pytorch (the `fightingcv-attention` package) and its copies.

Three hidden Linear layers and three dilated convolutions. The original pads by 1 whatever the dilation, so that its
spatial map is smaller than x and must be 1 x 1 to be broadcast; the copies that pad by the dilation take any size.
"""

from bam_fused.layouts.layout import Layout, Row

FIGHTINGCV = Layout(
    name="fightingcv",
    source="xmu-xiaoma666/External-Attention-pytorch, model/attention/BAM.py",
    channel=(Row("ca.ca.fc{i}", "ca.ca.bn{i}", "ca.ca.relu{i}"), Row("ca.ca.last_fc")),
    spatial=(
        Row("sa.sa.conv_reduce1", "sa.sa.bn_reduce1", "sa.sa.relu_reduce1"),
        Row("sa.sa.conv_{i}", "sa.sa.bn_{i}", "sa.sa.relu_{i}"),
        Row("sa.sa.last_conv"),
    ),
    combine="sum",
    dilation=2,
    dilation_is_open=True,
    partial=True,  # without the BatchNorms of the channel branch
)
