"""The public implementations of BAM as tables of names, one small file each.

A new one is a file with its table, a line here, and a worked case in the tests.
"""

from bam_fused.layouts.albertter import ALBERTTER
from bam_fused.layouts.asdf2kr import ASDF2KR
from bam_fused.layouts.barkinadiguzel import BARKINADIGUZEL
from bam_fused.layouts.bobmcdear import BOBMCDEAR
from bam_fused.layouts.changzy00 import CHANGZY00
from bam_fused.layouts.ee898 import EE898
from bam_fused.layouts.fightingcv import FIGHTINGCV
from bam_fused.layouts.gazaphrenology import GAZAPHRENOLOGY
from bam_fused.layouts.indexed import DSC_BAM, INDEXED, MINDSPORE, POOL_INSIDE
from bam_fused.layouts.layout import Layout
from bam_fused.layouts.near_official import DAYELIANXISHENG, E_HANET, MA_XU
from bam_fused.layouts.nguyenvietan import NGUYENVIETAN
from bam_fused.layouts.official import OFFICIAL
from bam_fused.layouts.pytorchcv import PYTORCHCV
from bam_fused.layouts.renovamen import RENOVAMEN
from bam_fused.layouts.shared_mlp import SHARED_MLP
from bam_fused.layouts.simpleresearch import SIMPLERESEARCH

_ALL = (
    OFFICIAL, PYTORCHCV, FIGHTINGCV, CHANGZY00, RENOVAMEN, BOBMCDEAR, ASDF2KR, EE898, SIMPLERESEARCH, GAZAPHRENOLOGY,
    ALBERTTER, SHARED_MLP, BARKINADIGUZEL, NGUYENVIETAN, MA_XU, DAYELIANXISHENG, E_HANET, INDEXED, POOL_INSIDE, DSC_BAM,
    MINDSPORE,
)  # fmt: skip

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _ALL}

__all__ = ["LAYOUTS"]
