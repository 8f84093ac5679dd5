"""Loading a compiled library, and saying why there is none: setup.py leaves its reasons in build_record.json."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

_RECORD = Path(__file__).parent.parent / "build_record.json"


def load_library(name: str) -> tuple[ModuleType | None, str | None]:
    """The compiled module `bam_fused.backends.<name>._C` and None, or None and the reason why it cannot be had."""
    module = f"bam_fused.backends.{name}._C"
    try:
        return importlib.import_module(module), None
    except ModuleNotFoundError as error:
        if error.name != module:
            return None, f"the library does not load: {error}"
    except ImportError as error:  # built, but not for this machine: a missing shared library, say
        return None, f"the library does not load: {error}"
    recorded = json.loads(_RECORD.read_text()).get(name) if _RECORD.exists() else None
    return None, f"not built: {recorded or 'this installation was made without it (BAM_FUSED_BUILD)'}"
