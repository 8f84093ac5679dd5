"""Give the BAMs of a live model the fused forward and take it away again; put BAMs into models that have none."""

from bam_fused.surgery.insert import Inserted, InsertReport, insert_bam
from bam_fused.surgery.replace import replace_bam, restore_bam
from bam_fused.surgery.report import Entry, Report

__all__ = ["Entry", "InsertReport", "Inserted", "Report", "insert_bam", "replace_bam", "restore_bam"]
