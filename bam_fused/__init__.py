"""bam_fused: BAM, the Bottleneck Attention Module, at the speed at which the feature map can be moved."""

from bam_fused import reference
from bam_fused.backends import BackendUnavailable, use_backend
from bam_fused.functional import gate, global_avg_pool
from bam_fused.modules import BAM
from bam_fused.version import __version__

__all__ = ["BAM", "BackendUnavailable", "__version__", "gate", "global_avg_pool", "reference", "use_backend"]
