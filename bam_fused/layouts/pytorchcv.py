"""osmr's model zoo, the `pytorchcv` package: `BamBlock` of bam_resnet18 to bam_resnet152."""

from bam_fused.layouts.layout import Layout, Row

PYTORCHCV = Layout(
    name="pytorchcv",
    source="osmr/pytorchcv, pytorchcv/models/bamresnet.py",
    channel=(
        Row("ch_att.init_fc.fc", "ch_att.init_fc.bn", "ch_att.init_fc.activ"),
        Row("ch_att.main_fcs.fc{j}.fc", "ch_att.main_fcs.fc{j}.bn", "ch_att.main_fcs.fc{j}.activ"),
        Row("ch_att.final_fc"),
    ),
    spatial=(
        Row("sp_att.init_conv.conv", "sp_att.init_conv.bn", "sp_att.init_conv.activ"),
        Row("sp_att.dil_convs.conv{j}.conv", "sp_att.dil_convs.conv{j}.bn", "sp_att.dil_convs.conv{j}.activ"),
        Row("sp_att.final_conv"),
    ),
    combine="product",
)
