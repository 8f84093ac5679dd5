"""Scripts outside the packages, as modules."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load(path: str) -> ModuleType:
    """The module that a script is, by its path from the repository's root."""
    file = ROOT / path
    loader = importlib.machinery.SourceFileLoader(file.stem, str(file))
    module = sys.modules[file.stem] = ModuleType(file.stem)
    module.__file__ = str(file)
    loader.exec_module(module)
    return module
