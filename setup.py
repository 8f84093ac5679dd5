"""Builds the compiled libraries, with ninja, and records what could not be built and why; csrc/building says how.

BAM_FUSED_BUILD says what to build: "auto" (the default: what can be built here), "python" (nothing), or "cpu", "cuda"
(just that library, and failing to is an error). Everything else about the package is in pyproject.toml.

The libraries use PyTorch's stable ABI, so any torch >= 2.10 gives headers that fit every later torch at run time. The
headers of the torch already in the environment serve, in an isolated build too; only where there is none does the build
ask for one of its own.
"""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "csrc"))  # build front ends leave this folder out

from building.command import COMMANDS, build_requirements, extensions

setup(
    ext_modules=extensions(),
    cmdclass=COMMANDS,
    setup_requires=build_requirements(),
)
