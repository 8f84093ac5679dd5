"""BAM as an nn.Module."""

from bam_fused.modules.bam import BAM

__all__ = ["BAM"]
