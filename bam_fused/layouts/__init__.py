"""The public implementations of BAM as tables of names, one small file each.

A new one is a file with its table, a line here, and a worked case in the tests.
"""

from bam_fused.layouts.bobmcdear import BOBMCDEAR
from bam_fused.layouts.changzy00 import CHANGZY00
from bam_fused.layouts.fightingcv import FIGHTINGCV
from bam_fused.layouts.indexed import INDEXED, MINDSPORE, POOL_INSIDE
from bam_fused.layouts.layout import Layout
from bam_fused.layouts.official import OFFICIAL
from bam_fused.layouts.pytorchcv import PYTORCHCV
from bam_fused.layouts.renovamen import RENOVAMEN

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (OFFICIAL, PYTORCHCV, FIGHTINGCV, CHANGZY00, RENOVAMEN, BOBMCDEAR, INDEXED, POOL_INSIDE, MINDSPORE)
}

__all__ = ["LAYOUTS"]
