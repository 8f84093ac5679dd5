"""A flat module for CIFAR: BatchNorm and ReLU also after the last layer of each branch, multiplied.

Before December 2019 its code added x once more; such a module is left alone, its checkpoints are the same.
"""

from bam_fused.layouts.layout import Layout, Row

ASDF2KR = Layout(
    name="asdf2kr",
    source="asdf2kr/BAM-CBAM-pytorch, Models/attention.py",
    channel=(Row("fc1", "bn1_1d", True), Row("fc2", "bn2_1d", True)),
    spatial=(
        Row("conv1", "bn1_2d", True),
        Row("conv2", "bn2_2d", True),
        Row("conv3", "bn3_2d", True),
        Row("conv4", "bn4_2d", True),
    ),
    combine="product",
    dilation_is_open=True,
)
