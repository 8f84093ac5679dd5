"""Course work for Python 2: the authors' layers as one flat module of convolutions without bias, added, or one branch."""

from bam_fused.layouts.layout import Layout, Row

NGUYENVIETAN = Layout(
    name="nguyenvietan",
    source="nguyenvietan/DL_Attention_PA1_ee898, models/bam_resnet.py",
    channel=(Row("conv1_c", "bn1_c", "relu1_c"), Row("conv2_c")),
    spatial=(
        Row("conv1_s", "bn1_s", "relu1_s"),
        Row("conv2_s", "bn2_s", "relu2_s"),
        Row("conv3_s", "bn3_s", "relu3_s"),
        Row("conv4_s"),
    ),
    combine="sum",
    mlp="conv",
    partial=True,  # its bam_resnet_c.py and bam_resnet_s.py have one branch
)
