"""What the checkout holds besides packages: scripts, as modules, and compiled libraries."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def is_of_todays_sources(library: Path) -> bool:
    """Whether a compiled library of the checkout is there and newer than all that it is built from."""
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return library.exists() and library.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def load(path: str) -> ModuleType:
    """The module that a script is, by its path from the repository's root."""
    file = ROOT / path
    loader = importlib.machinery.SourceFileLoader(file.stem, str(file))
    module = sys.modules[file.stem] = ModuleType(file.stem)
    module.__file__ = str(file)
    loader.exec_module(module)
    return module
