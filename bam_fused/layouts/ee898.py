"""Course work on attention and a re-identification network made from it: the authors' layers, numbered."""

from bam_fused.layouts.layout import Layout, numbered

EE898 = Layout(
    name="ee898",
    source="vipingautam1906/AaP-ReID, models/bam.py (rabiaali95/EE898-PA1, bam.py, multiplies)",
    channel=numbered("channel_attention.ch.", 1, start=1),
    spatial=numbered("spatial_attention.spatial.", 3),
    combine="sum",
    combine_is_open=True,
)
