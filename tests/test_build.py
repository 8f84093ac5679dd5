"""setup.py: what "auto" leaves out it says, what was asked for it refuses to leave out; the source distribution holds all
that a checkout builds from, and builds the same bytes, wherever it is.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from scripts import ROOT, is_of_todays_sources, load

CPU_LIBRARY = "bam_fused/backends/cpu/libbam_fused_cpu.so"
toolchain = load("csrc/building/toolchain.py")
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "build_record.json")


def _run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of setup.py in a folder, with no CUDA toolkit to be found."""
    without_cuda = {**os.environ, "CUDA_HOME": str(folder / "no_cuda")}
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *command.split("|")],
        cwd=folder,
        env={**without_cuda, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return _run(f"build_ext|--build-lib|{folder}|--build-temp|{folder / 't'}", ROOT, **environment)


def _record(folder: Path) -> dict[str, str]:
    record: dict[str, str] = json.loads((folder / "bam_fused/build_record.json").read_text())
    return record


def test_auto_without_a_compiler_records_why(tmp_path):
    done = _build(tmp_path, BAM_FUSED_BUILD="auto", CXX="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert _record(tmp_path)["cpu"] == "no C++ compiler: no-such-compiler is not on PATH (CXX names another)"


def test_auto_with_a_broken_compiler_records_why(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo broken 1.0 && exit\necho 'broken: out of order' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    earlier = tmp_path / CPU_LIBRARY
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of other sources")
    done = _build(tmp_path, BAM_FUSED_BUILD="auto", CXX=str(broken))
    assert done.returncode == 0, done.stderr
    assert "broken: out of order" in _record(tmp_path)["cpu"]
    assert not earlier.exists()


@pytest.mark.parametrize("library", ["cpu", "cuda"])
def test_an_explicit_request_that_cannot_be_met_is_an_error(tmp_path, library):
    done = _build(tmp_path, BAM_FUSED_BUILD=library, CXX="no-such-compiler")
    assert done.returncode != 0
    assert f"BAM_FUSED_BUILD={library}: no C++ compiler: no-such-compiler is not on PATH" in done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_python_builds_nothing(tmp_path):
    done = _build(tmp_path, BAM_FUSED_BUILD="python")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_an_unknown_mode_is_named(tmp_path):
    done = _build(tmp_path, BAM_FUSED_BUILD="fast")
    assert done.returncode != 0
    assert "BAM_FUSED_BUILD must be one of ('auto', 'python', 'cpu', 'cuda'), got 'fast'" in done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked; made in a copy of the checkout, where nothing of an earlier build can help."""
    folder = tmp_path_factory.mktemp("Verteilte Größe")  # a space and umlauts
    shutil.copytree(ROOT, folder / "checkout", ignore=NOT_SOURCE)
    done = _run(f"sdist|--dist-dir|{folder}", folder / "checkout")
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder)
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def test_the_sdist_holds_every_source(sdist):
    kept = [path.relative_to(sdist) for path in sdist.rglob("*") if path.is_file()]
    for part in ("csrc", "bam_fused", "tests", "benchmarks", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        there = ROOT / part
        files = [there] if there.is_file() else [path for path in there.rglob("*") if path.is_file()]
        names = {path.relative_to(ROOT) for path in files if not NOT_SOURCE("", path.relative_to(ROOT).parts)}
        assert names and not names - set(kept)


def _checkout_library(folder: Path) -> Path:
    """The one in place, where it is newer than every source; else a build whose objects stay for the next time."""
    if is_of_todays_sources(ROOT / CPU_LIBRARY):
        return ROOT / CPU_LIBRARY
    done = _run(f"build_ext|--build-lib|{folder}|--build-temp|{ROOT / 'build/test_build'}", ROOT, BAM_FUSED_BUILD="cpu")
    assert done.returncode == 0, done.stderr
    return folder / CPU_LIBRARY


def _first_gate(installed: Path) -> None:
    code = (
        "import bam_fused, torch; bam_fused.gate(torch.randn(2, 8, 5, 7), torch.randn(2, 8), torch.randn(2, 5, 7)); "
        "print(bam_fused.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed), "BAM_FUSED_BACKEND": "cpu", "BAM_FUSED_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installed, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("g++") is None, reason="no C++ compiler (g++) on Linux")
def test_the_sdist_installs_what_the_checkout_builds(sdist, tmp_path):
    """It runs away from the checkout; no path, no time of day and no order of files gets into its library: anyone can
    build it again and compare."""
    command = ["install", "-q", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "installed")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *command, f"{sdist}.tar.gz"],
        env={**os.environ, "BAM_FUSED_BUILD": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _first_gate(tmp_path / "installed")
    library = (tmp_path / "installed" / CPU_LIBRARY).read_bytes()
    assert library == _checkout_library(tmp_path / "checkout").read_bytes()
    assert str(ROOT).encode() not in library and str(sdist).encode() not in library


def test_one_wheel_serves_every_python(tmp_path):
    """The tag of a wheel with libraries: a platform, but no version of Python and none of its ABI."""
    script = (
        "import sys; sys.path.insert(0, 'csrc'); from building.command import COMMANDS, extensions\n"
        "from setuptools import Distribution\n"
        "wheel = COMMANDS['bdist_wheel'](Distribution({'name': 'bam_fused', 'ext_modules': extensions()}))\n"
        "wheel.finalize_options(); print(*wheel.get_tag())"
    )
    for mode, tag in (("cpu", f"py3 none {sys.platform}"), ("python", "py3 none any")):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "BAM_FUSED_BUILD": mode},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith(tag), done.stdout + done.stderr


def test_an_editable_install_finds_the_objects_of_earlier_builds():
    """It has a folder of its own otherwise, which is gone with it; a build of its own may have brought another torch."""
    script = (
        "import sys; sys.path.insert(0, 'csrc'); from building.command import COMMANDS, LIBRARIES\n"
        "from building.toolchain import torch_folder; from setuptools import Distribution\n"
        "plain, editable = (COMMANDS['build_ext'](Distribution()) for _ in range(2))\n"
        "editable.editable_mode, editable.distribution.get_command_obj('build').build_temp = True, '/gone'\n"
        "plain.ensure_finalized(); editable.ensure_finalized(); print(plain.build_temp, editable.build_temp)\n"
        "kernels = [step for step in LIBRARIES['cpu']().compile if step.name]\n"
        "print(len(kernels), sum(str(torch_folder()) in step.command for step in kernels))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    plain, editable, kernels, with_torch = done.stdout.split()
    assert plain == editable and int(kernels) > 0 and with_torch == "0"


NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}  # of manylinux_2_28


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the versions are those of x86-64")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
@pytest.mark.parametrize("library", ["cpu", "cuda"])
def test_a_library_loads_wherever_torch_does(library):
    """Nothing is asked of glibc or the C++ library that a manylinux_2_28 system does not have, whatever built it."""
    file = ROOT / f"bam_fused/backends/{library}/libbam_fused_{library}.so"
    if not file.exists():
        pytest.skip(f"the {library} library is not built here")
    done = subprocess.run(["objdump", "-pT", str(file)], capture_output=True, text=True, check=True)
    needed = re.findall(r"\*UND\*.*?\((\w+?)_([\d.]+)\) (\S+)", done.stdout)
    shared = {"GLIBCXX"} if "libstdc++.so" in done.stdout else set()
    assert {"GLIBC", *shared} <= {name for name, *_ in needed}
    too_new = [need for need in needed if tuple(map(int, need[1].split("."))) > NEWEST[need[0]]]
    assert too_new == []


def test_streams_work_where_the_toolchain_has_libstdcxx_as_an_archive_alone(tmp_path: Path) -> None:
    source, library = tmp_path / "stream.cpp", tmp_path / "stream.so"
    source.write_text(
        '#include <sstream>\nextern "C" __attribute__((visibility("default"))) bool works() '
        '{ std::ostringstream text; text << 80L << "."; return text.str() == "80."; }\n'
    )
    flags = f"-shared -fPIC -fvisibility=hidden -static-libstdc++ {toolchain.COMPILER_RUNTIME}".split()
    subprocess.run([os.environ.get("CXX", "g++"), str(source), "-o", str(library), *flags], check=True)
    loaded = f"import ctypes, torch; print(ctypes.CDLL({str(library)!r}).works() & 255)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
