"""Packages that are wanted by some commands only, and what to say when one is missing."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtra(RuntimeError):
    """A package of an optional extra is not installed; the message says which extra to install."""


def need(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as failure:
        package = failure.name or module
        raise MissingExtra(f'{package} is not installed: pip install "bam_fused[{extra}]"') from failure
