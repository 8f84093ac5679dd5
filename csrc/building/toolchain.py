"""What both libraries are compiled with: the C++ compiler, the headers of torch, and what a library says of itself."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

CSRC = Path(__file__).resolve().parents[1]
TORCH_TARGET = (2, 10)
COMPILER_RUNTIME = "-lgcc -Wl,--exclude-libs,ALL"
"""Linked before the shared one, of which the library then needs only what every release of it has: unwinding.

What comes out of archives stays inside: some toolchains have libstdc++ as an archive alone, and its streams fail where half
of them is taken from the shared one that is in the process already."""


class CannotBuild(Exception):
    """A library cannot be built here; the message says why."""


def compiler() -> str:
    if sys.platform != "linux":
        raise CannotBuild(f"the compiled libraries are built on Linux, not on {sys.platform}")
    name = os.environ.get("CXX", "g++")
    if shutil.which(shlex.split(name)[0]) is None:
        raise CannotBuild(f"no C++ compiler: {name} is not on PATH (CXX names another)")
    return name


def find_torch() -> Path | None:
    """The folder of an installed torch: importable, or in the environment that an isolated build will install into."""
    spec = importlib.util.find_spec("torch")
    folders = [Path(spec.origin).parent] if spec and spec.origin else []
    folders += [Path(sysconfig.get_path(name)) / "torch" for name in ("purelib", "platlib")]
    return next((folder for folder in folders if (folder / "include/torch/csrc/stable/library.h").exists()), None)


def torch_folder() -> Path:
    folder = find_torch()
    if folder is None:
        raise CannotBuild(f"no torch >= {TORCH_TARGET[0]}.{TORCH_TARGET[1]} to compile against")
    return folder


def torch_version(folder: Path) -> str:
    line = next(line for line in (folder / "version.py").read_text().splitlines() if line.startswith("__version__"))
    return line.split("'")[1]


def quoted(path: Path | str) -> str:
    """A path for the shell that ninja starts."""
    return shlex.quote(str(path)).replace("$", "$$")


def prefix_map(folder: Path, name: str) -> str:
    """A flag that keeps this machine's folder out of what is built: the same sources give the same bytes anywhere.

    (nvcc names what is private to a file by a hash of the file's absolute path: kernels are the same bytes only when they
    are built in a folder of the same name.)
    """
    return quoted(f"-ffile-prefix-map={folder}={name}")


def stable_abi_flags(folder: Path, dispatch_key: str) -> str:
    """For a source that registers operators under this key, with the headers of the torch in this folder."""
    target = f"0x{TORCH_TARGET[0]:02x}{TORCH_TARGET[1]:02x}000000000000"
    headers = f"-isystem {quoted(folder / 'include')} {prefix_map(folder, 'torch')}"
    return f"-DBAM_DISPATCH_KEY={dispatch_key} -DTORCH_TARGET_VERSION={target} {headers}"


def introspection_flag(cxx: str, folder: Path, flags: str, **more: str) -> str:
    """What a library says of itself, for the one source that says it: a macro that is a C string of JSON."""
    version = subprocess.run([*shlex.split(cxx), "--version"], capture_output=True, text=True, check=True).stdout
    said = {
        "compiler": version.splitlines()[0],
        "flags": flags,
        "torch_headers": torch_version(folder),
        "torch_target": ".".join(map(str, TORCH_TARGET)),
        **more,
    }
    return quoted(f"-DBAM_BUILD_INFO={json.dumps(json.dumps(said))}")
