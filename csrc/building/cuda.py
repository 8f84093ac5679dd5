"""The CUDA library: csrc/cuda, for every architecture asked for; no GPU is needed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from building.library import INTROSPECTION, Library, Step, shared_sources, sources
from building.old_glibc import libraries_to_link
from building.toolchain import (
    COMPILER_RUNTIME,
    CSRC,
    CannotBuild,
    compiler,
    introspection_flag,
    prefix_map,
    quoted,
    stable_abi_flags,
    torch_folder,
    torch_version,
)

FLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -Wall -DUSE_CUDA"
DEFAULT_ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")  # nvcc 13.0 miscompiles for 10.3


def find_cuda() -> Path:
    """The toolkit's folder: CUDA_HOME or CUDA_PATH, where the nvcc on PATH says it lives, or /usr/local/cuda.

    The nvcc on PATH may be a script in front of the real one, so that its own place says nothing.
    """
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            folder = Path(os.environ[variable])
            if not (folder / "bin/nvcc").exists():
                raise CannotBuild(f"{variable} is {folder}, which holds no bin/nvcc")
            return folder
    found = shutil.which("nvcc")
    if found:
        said = subprocess.run([found, "--dryrun", "-x", "cu", "-c", os.devnull], capture_output=True, text=True).stderr
        tops = [line.split("TOP=")[1] for line in said.splitlines() if "TOP=" in line]
        if tops:
            return Path(tops[0].strip()).resolve()
    folder = Path("/usr/local/cuda")
    if not (folder / "bin/nvcc").exists():
        raise CannotBuild("no CUDA compiler: no nvcc on PATH or in /usr/local/cuda (CUDA_HOME names another toolkit)")
    return folder


def nvcc_says(cuda: Path, *flags: str) -> str:
    return subprocess.run([str(cuda / "bin/nvcc"), *flags], capture_output=True, text=True, check=True).stdout


def architectures(cuda: Path) -> list[str]:
    """What to compile for, as in TORCH_CUDA_ARCH_LIST ("8.0", "9.0a", "12.0+PTX"); never asks a GPU.

    The default ends with PTX, from which the driver compiles for GPUs that came later.
    """
    known = {line.removeprefix("compute_") for line in nvcc_says(cuda, "--list-gpu-arch").split()}
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").replace(",", " ").split()
    if not listed:
        default = [arch for arch in DEFAULT_ARCHITECTURES if arch.replace(".", "") in known]
        return [*default[:-1], f"{default[-1]}+PTX"]
    for arch in listed:
        number = arch.removesuffix("+PTX").replace(".", "")
        if number.rstrip("af") not in known:
            raise CannotBuild(f"TORCH_CUDA_ARCH_LIST: this nvcc does not know {arch!r} (it knows {sorted(known)})")
    return listed


def gencode(archs: list[str]) -> str:
    flags = []
    for arch in archs:
        number = arch.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if arch.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return " ".join(flags)


def static_runtime(cuda: Path) -> Path:
    """The folder of the CUDA runtime to link statically: the library then needs no toolkit, only a driver."""
    found = next((cuda / lib for lib in ("lib64", "lib") if (cuda / lib / "libcudart_static.a").exists()), None)
    if found is None:
        raise CannotBuild(f"the CUDA toolkit in {cuda} has no libcudart_static.a")
    return found


def cuda_library() -> Library:
    """The kernels (.cu) by nvcc, the operators around them (.cpp) by the C++ compiler."""
    cxx, torch, cuda = compiler(), torch_folder(), find_cuda()
    if not (torch / "lib/libtorch_cuda.so").exists():
        raise CannotBuild(f"the torch in this environment ({torch_version(torch)}) was built without CUDA")
    archs, runtime = architectures(cuda), static_runtime(cuda)
    nvcc_flags = f"-std=c++17 -O3 -Xcompiler=-fPIC,-fvisibility=hidden {gencode(archs)}"
    nvcc = f"{quoted(cuda / 'bin/nvcc')} -ccbin {shlex.split(cxx)[0]} {nvcc_flags}"
    steps = [Step(nvcc, source) for source in sources("cuda", ".cu")]
    headers = f"-isystem {quoted(cuda / 'include')} {stable_abi_flags(torch, 'CUDA')}"
    cxx_flags = f"{cxx} {FLAGS} {prefix_map(CSRC, 'csrc')} {headers}"
    said = introspection_flag(
        cxx,
        torch,
        f"{FLAGS}; nvcc {nvcc_flags}",
        toolkit=nvcc_says(cuda, "--version").strip().splitlines()[-1],
        architectures=" ".join(archs),
    )
    for source in [*shared_sources(), *sources("cuda", ".cpp")]:
        own = said if source.name == INTROSPECTION else ""
        steps.append(Step(f"{cxx_flags} {own}", source))
    make, system = libraries_to_link(cxx)
    link = (
        f"{make}{cxx} -shared -Wl,-s $in -o $out {COMPILER_RUNTIME} -L{quoted(torch / 'lib')} -ltorch_cpu -ltorch_cuda "
        f"-L{quoted(runtime)} -lcudart_static {system}"
    )
    return Library(steps, link)
