"""Give the BAMs of a live model the fused forward, and take it away again."""

from bam_fused.surgery.replace import replace_bam, restore_bam
from bam_fused.surgery.report import Entry, Report

__all__ = ["Entry", "Report", "replace_bam", "restore_bam"]
