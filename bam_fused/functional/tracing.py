"""When a public function must be made of standard PyTorch operators alone."""

from __future__ import annotations

import torch


def wants_standard_operators() -> bool:
    """True while PyTorch exports or traces (the artefact must run without bam_fused) or applies vmap or func.grad."""
    return (
        torch._C._get_tracing_state() is not None
        or torch.compiler.is_exporting()
        or torch._C._are_functorch_transforms_active()
    )
