"""bam_resnet18: pytorchcv's whole network as it comes against the same network after `replace_bam`."""

from __future__ import annotations

from bam_fused.bench.networks import describe, network

DESCRIPTION = describe("bam_resnet18", lambda: network("bam_resnet18"))
