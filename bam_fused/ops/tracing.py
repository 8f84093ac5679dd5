"""When a public function must be made of standard PyTorch operators alone."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def wants_standard_operators() -> bool:
    """True while PyTorch exports or traces (the artefact must run without bam_fused), or transforms what is computed.

    Transforms are vmap and the others of torch.func, and forward-mode differentiation, which our operators do not know.
    """
    return (
        torch._C._get_tracing_state() is not None
        or torch.compiler.is_exporting()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )
