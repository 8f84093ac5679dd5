"""Loading a compiled library, and saying why there is none: setup.py leaves its reasons in build_record.json.

A library is an ordinary shared library beside the backend that it serves, not a Python module: loading it registers its
operators with PyTorch's dispatcher, those of the package (`torch.ops.bam_fused`) and those by which it says what it is
(`torch.ops.bam_fused_cpu`, `torch.ops.bam_fused_cuda`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

_FOLDER = Path(__file__).parent
_RECORD = _FOLDER.parent / "build_record.json"


class Library:
    """A compiled library that is loaded."""

    def __init__(self, name: str, path: Path) -> None:
        self.path = path
        self.operators: Any = getattr(torch.ops, f"bam_fused_{name}")
        """The operators by which it says what it is."""

    def build_info(self) -> dict[str, str]:
        """What it was built with: compiler, flags, versions."""
        return dict(json.loads(self.operators.build_info()))


def load_library(name: str) -> tuple[Library | None, str | None]:
    """The compiled library of the backend `name` and None, or None and the reason why it cannot be had."""
    path = _FOLDER / name / f"libbam_fused_{name}.so"
    if not path.exists():
        recorded = json.loads(_RECORD.read_text()).get(name) if _RECORD.exists() else None
        return None, f"not built: {recorded or 'this installation was made without it (BAM_FUSED_BUILD)'}"
    try:
        torch.ops.load_library(path)
    except OSError as error:  # built, but not for this machine: a missing shared library, say
        return None, f"the library does not load: {error}"
    return Library(name, path), None
