"""Course work on attention and a re-identification network made from it: the authors' layers, numbered, added."""

from bam_fused.layouts.layout import Layout, Row

_C, _S = "channel_attention.ch.", "spatial_attention.spatial."

EE898 = Layout(
    name="ee898",
    source="rabiaali95/EE898-PA1, bam.py; vipingautam1906/AaP-ReID, models/bam.py",
    channel=(Row(_C + "1", _C + "2", _C + "3"), Row(_C + "4")),
    spatial=(
        Row(_S + "0", _S + "1", _S + "2"),
        Row(_S + "3", _S + "4", _S + "5"),
        Row(_S + "6", _S + "7", _S + "8"),
        Row(_S + "9"),
    ),
    combine="sum",
)
