"""The description of every operation and of what is made of them: one file each, found here by being there."""

from __future__ import annotations

import importlib
import pkgutil

from bam_fused.bench.description import Description


def _describe() -> dict[str, Description]:
    found = {
        name: importlib.import_module(f"{__name__}.{name}").DESCRIPTION for _, name, _ in pkgutil.iter_modules(__path__)
    }
    return dict(sorted(found.items(), key=lambda item: (item[1].network, item[0])))


DESCRIPTIONS = _describe()
"""By name: the module and its operations, then networks."""
