"""setuptools' build_ext, building each library with ninja and recording what could not be built and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

from building.cpu import cpu_library
from building.cuda import cuda_library
from building.library import Library, ninja_file
from building.toolchain import CSRC, TORCH_TARGET, CannotBuild, compiler, find_torch

LIBRARIES: dict[str, Callable[[], Library]] = {"cpu": cpu_library, "cuda": cuda_library}
MODES = ("auto", "python", *LIBRARIES)


def build_mode() -> str:
    mode = os.environ.get("BAM_FUSED_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"BAM_FUSED_BUILD must be one of {MODES}, got {mode!r}")
    return mode


def extensions() -> list[Extension]:
    mode = build_mode()
    wanted = {"auto": tuple(LIBRARIES), "python": ()}.get(mode, (mode,))
    return [Extension(f"bam_fused.backends.{name}.libbam_fused_{name}", sources=[]) for name in wanted]


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


class BuildLibraries(build_ext):
    """build_ext that builds each Extension above with ninja and writes bam_fused/build_record.json beside the package."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.editable_mode:  # the front end's folder goes when it ends: what is compiled shall serve the next build
            self.build_temp = f"build/temp.{self.plat_name}-{sys.implementation.cache_tag}"

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
        package = CSRC.parent if self.inplace else Path(self.build_lib).resolve()
        (package / "bam_fused").mkdir(parents=True, exist_ok=True)
        file = package / "bam_fused/build_record.json"
        before = json.loads(file.read_text()) if file.exists() else {}  # what an earlier build in place left
        file.write_text(json.dumps(before | record, indent=1) + "\n")

    def get_ext_filename(self, fullname: str) -> str:
        """A plain name: the libraries know nothing of Python, so nothing of its version either."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

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
            output.unlink(missing_ok=True)  # one from an earlier build would be of other sources
            raise CannotBuild(f"the compiler failed: {done.stdout.strip()[-300:]}")


class PortableWheel(bdist_wheel):
    """bdist_wheel whose wheel serves every Python: the libraries are for a platform, but import no symbol of Python's."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


COMMANDS = {"build_ext": BuildLibraries, "bdist_wheel": PortableWheel}
