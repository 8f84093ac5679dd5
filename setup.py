"""Builds the compiled libraries, with ninja, and records what could not be built and why.

BAM_FUSED_BUILD says what to build: "auto" (the default: what can be built here), "python" (nothing), or "cpu", "cuda"
(just that library, and failing to is an error). Everything else about the package is in pyproject.toml.

The libraries use PyTorch's stable ABI, so any torch >= 2.10 gives headers that fit every later torch at run time. The
headers of the torch already in the environment serve, in an isolated build too; only where there is none does the build
ask for one of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
TORCH_TARGET = (2, 10)
MODES = ("auto", "python", "cpu", "cuda")


class CannotBuild(Exception):
    """A library cannot be built here; the message says why."""


@dataclass
class Step:
    """One source file, and the command that compiles it; `name` tells apart what is compiled more than once."""

    command: str
    source: Path
    name: str = ""


@dataclass
class Library:
    """How to build one library: its compile steps, then its link."""

    compile: list[Step]
    link: str


def build_mode() -> str:
    mode = os.environ.get("BAM_FUSED_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"BAM_FUSED_BUILD must be one of {MODES}, got {mode!r}")
    return mode


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


def compiler() -> str:
    if sys.platform != "linux":
        raise CannotBuild(f"the compiled libraries are built on Linux, not on {sys.platform}")
    name = os.environ.get("CXX", "g++")
    if shutil.which(shlex.split(name)[0]) is None:
        raise CannotBuild(f"no C++ compiler: {name} is not on PATH (CXX names another)")
    return name


def torch_version(folder: Path) -> str:
    line = next(line for line in (folder / "version.py").read_text().splitlines() if line.startswith("__version__"))
    return line.split("'")[1]


def quoted(path: Path | str) -> str:
    """A path for the shell that ninja starts."""
    return shlex.quote(str(path)).replace("$", "$$")


def stable_abi_flags(folder: Path) -> str:
    target = f"0x{TORCH_TARGET[0]:02x}{TORCH_TARGET[1]:02x}000000000000"
    return f"-DTORCH_TARGET_VERSION={target} -isystem {quoted(folder / 'include')}"


def introspection_flags(cxx: str, folder: Path, flags: str, **more: str) -> str:
    """Flags of the one source that uses pybind11: its headers, and what the library says of itself."""
    import pybind11

    version = subprocess.run([*shlex.split(cxx), "--version"], capture_output=True, text=True, check=True).stdout
    said = {
        "BAM_COMPILER": version.splitlines()[0],
        "BAM_FLAGS": flags,
        "BAM_TORCH_VERSION": torch_version(folder),
        "BAM_TORCH_TARGET": ".".join(map(str, TORCH_TARGET)),
        **more,
    }
    defines = " ".join(shlex.quote(f'-D{name}="{text}"') for name, text in said.items())
    return f"-isystem {quoted(pybind11.get_include())} -isystem {quoted(sysconfig.get_path('include'))} {defines}"


def cpu_library() -> Library:
    cxx, torch = compiler(), torch_folder()
    sources = ROOT / "csrc/cpu"
    flags = "-std=c++17 -O3 -fPIC -fvisibility=hidden -Wall -Wno-psabi"
    sets = {"baseline": "-DBAM_VECTOR_BYTES=16"}
    if platform.machine() in ("x86_64", "AMD64"):
        flags += " -DBAM_X86_64"
        sets["avx2"] = "-DBAM_VECTOR_BYTES=32 -mavx2 -mfma -mf16c"
        sets["avx512"] = (
            "-DBAM_VECTOR_BYTES=64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c "
            "-Wno-uninitialized -Wno-maybe-uninitialized"  # false alarms in GCC 12's own avx512fintrin.h
        )
    cxx_flags = f"{cxx} {flags}"
    steps = [
        Step(f"{cxx_flags} {more} -DBAM_INSTRUCTION_SET={name}", sources / "instruction_set.cpp", name)
        for name, more in sets.items()
    ]
    steps += [
        Step(f"{cxx_flags} {stable_abi_flags(torch)}", sources / f"{name}.cpp")
        for name in ("dispatch", "gate", "global_avg_pool")
    ]
    steps.append(Step(cxx_flags, sources / "choose_instruction_set.cpp"))
    steps.append(Step(f"{cxx_flags} {introspection_flags(cxx, torch, flags)}", sources / "introspection.cpp"))
    link = f"{cxx} -shared -static-libgcc -Wl,-s -L{quoted(torch / 'lib')} -ltorch_cpu"
    return Library(steps, link)


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


DEFAULT_ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")  # nvcc 13.0 miscompiles for 10.3


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


def cuda_library() -> Library:
    cxx, torch, cuda = compiler(), torch_folder(), find_cuda()
    if not (torch / "lib/libtorch_cuda.so").exists():
        raise CannotBuild(f"the torch in this environment ({torch_version(torch)}) was built without CUDA")
    archs = architectures(cuda)
    sources = ROOT / "csrc/cuda"
    flags = "-std=c++17 -O3 -fPIC -fvisibility=hidden -Wall -DUSE_CUDA"
    cxx_flags = f"{cxx} {flags} -isystem {quoted(cuda / 'include')}"
    nvcc_flags = f"-std=c++17 -O3 -Xcompiler=-fPIC,-fvisibility=hidden {gencode(archs)}"
    nvcc = f"{quoted(cuda / 'bin/nvcc')} -ccbin {shlex.split(cxx)[0]} {nvcc_flags}"
    steps = [Step(nvcc, sources / f"{name}_kernel.cu") for name in ("gate_backward", "gate", "global_avg_pool")]
    steps += [
        Step(f"{cxx_flags} {stable_abi_flags(torch)}", sources / f"{name}.cpp")
        for name in ("device", "tensors", "gate", "global_avg_pool", "register")
    ]
    toolkit = nvcc_says(cuda, "--version").strip().splitlines()[-1]
    said = introspection_flags(
        cxx, torch, f"{flags}; nvcc {nvcc_flags}", BAM_TOOLKIT=toolkit, BAM_ARCHITECTURES=" ".join(archs)
    )
    steps.append(Step(f"{cxx_flags} {said}", sources / "introspection.cpp"))
    runtime = next((cuda / lib for lib in ("lib64", "lib") if (cuda / lib / "libcudart_static.a").exists()), None)
    if runtime is None:
        raise CannotBuild(f"the CUDA toolkit in {cuda} has no libcudart_static.a")
    link = (
        f"{cxx} -shared -static-libgcc -Wl,-s -L{quoted(torch / 'lib')} -ltorch_cpu -ltorch_cuda "
        f"-L{quoted(runtime)} -lcudart_static -ldl -lrt -lpthread"
    )
    return Library(steps, link)


LIBRARIES: dict[str, Callable[[], Library]] = {"cpu": cpu_library, "cuda": cuda_library}


def in_ninja(path: Path) -> str:
    return re.sub(r"[$ :]", r"$\g<0>", str(path))


def ninja_file(library: Library, output: Path) -> str:
    """The build of one library in ninja's language."""
    lines, objects = [], []
    for number, step in enumerate(library.compile):
        built = f"{step.source.stem}{'.' + step.name if step.name else ''}.o"
        command = f"{step.command} -MMD -MF $out.d -c $in -o $out"
        lines += [f"rule compile{number}", f"  command = {command}", "  depfile = $out.d", "  deps = gcc"]
        lines.append(f"build {built}: compile{number} {in_ninja(step.source)}")
        objects.append(built)
    compiler_and_flags, _, libraries = library.link.partition(" -shared ")
    lines += ["rule link", f"  command = {compiler_and_flags} -shared $in -o $out {libraries}"]
    lines += [f"build {in_ninja(output)}: link {' '.join(objects)}", ""]
    return "\n".join(lines)


class BuildLibraries(build_ext):
    """build_ext that builds each Extension below with ninja and writes bam_fused/build_record.json beside the package."""

    def run(self) -> None:
        mode = build_mode()
        record = {}
        for extension in self.extensions:
            name = extension.name.split(".")[-2]
            try:
                self.build_library(name, Path(self.get_ext_fullpath(extension.name)).resolve())
                record[name] = "built"
            except CannotBuild as reason:
                if mode == name:
                    raise SystemExit(f"BAM_FUSED_BUILD={mode}: {reason}") from None
                record[name] = str(reason)
        package = ROOT if self.inplace else Path(self.build_lib).resolve()
        (package / "bam_fused").mkdir(parents=True, exist_ok=True)
        file = package / "bam_fused/build_record.json"
        before = json.loads(file.read_text()) if file.exists() else {}  # what an earlier build in place left
        file.write_text(json.dumps(before | record, indent=1) + "\n")

    def build_library(self, name: str, output: Path) -> None:
        try:
            import ninja

            library = LIBRARIES[name]()
        except ModuleNotFoundError as missing:
            raise CannotBuild(f"{missing.name} is not installed (pip install {missing.name})") from None
        folder = Path(self.build_temp).resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        (folder / "build.ninja").write_text(ninja_file(library, output))
        jobs = os.environ.get("MAX_JOBS")
        command = [str(Path(ninja.BIN_DIR) / "ninja"), *(["-j", jobs] if jobs else [])]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            print(done.stdout, file=sys.stderr)
            raise CannotBuild(f"the compiler failed: {done.stdout.strip()[-300:]}")


def extensions() -> list[Extension]:
    mode = build_mode()
    wanted = {"auto": tuple(LIBRARIES), "python": ()}.get(mode, (mode,))
    return [Extension(f"bam_fused.backends.{name}._C", sources=[]) for name in wanted]


def build_requirements() -> list[str]:
    """A torch of the build's own, where a compiler waits for one and the environment has none.

    Asked for only when a build front end collects requirements (it runs egg_info for that): in a plain
    `python setup.py build_ext` setuptools would download gigabytes unasked.
    """
    if "egg_info" not in sys.argv or not extensions() or find_torch():
        return []
    try:
        compiler()
    except CannotBuild:
        return []
    return [f"torch>={TORCH_TARGET[0]}.{TORCH_TARGET[1]}"]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildLibraries}, setup_requires=build_requirements())
