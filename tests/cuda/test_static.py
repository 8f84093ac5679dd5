"""The CUDA library as nvcc builds it, checked without a GPU: machine code, imported symbols, registration, introspection."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, is_of_todays_sources, load

pytestmark = [
    pytest.mark.cuda_build,
    pytest.mark.skipif(torch.version.cuda is None, reason="this PyTorch was built without CUDA"),
]

cuda_kernels = load("benchmarks/static/cuda_kernels.py")


INSTALLED = ROOT / "bam_fused/backends/cuda/libbam_fused_cuda.so"
DEFAULT = {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}
read = functools.cache(cuda_kernels.read)


def installed_for(architectures: set[str]) -> bool:
    """Whether the checkout's own library is of today's sources and holds code for these architectures."""
    return is_of_todays_sources(INSTALLED) and {kernel.arch for kernel in read(INSTALLED)} >= architectures


def built(folder: str, architectures: str) -> Path:
    """The library for these architectures (as in TORCH_CUDA_ARCH_LIST, the default if empty), built unless it is there.

    By one process at a time: the others find it finished, and theirs changes nothing.
    """
    numbers = [re.sub(r"\D", "", arch) for arch in architectures.split()]
    if installed_for({f"sm_{number}" for number in numbers} or DEFAULT):
        return INSTALLED
    lock = ROOT / "build" / f"{folder}.lock"
    lock.parent.mkdir(exist_ok=True)
    try:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return cuda_kernels.build(ROOT / "build" / folder, architectures)
    except RuntimeError as failure:
        if "no CUDA compiler" in str(failure):
            pytest.skip("no CUDA compiler (nvcc)")
        raise


def test_the_longest_way_takes_one_side_of_a_fork_and_each_loop_once() -> None:
    fork = ("0000: @P0 BRA 0x30", "0010: FADD", "0020: BRA 0x50", "0030: FMUL", "0040: FMUL", "0050: EXIT")
    assert cuda_kernels.longest_way(fork) == 4
    assert cuda_kernels.longest_way((*fork[:5], "0050: @P1 BRA 0x30", "0060: @!P2 BRA 0x0")) == 5


@pytest.fixture(scope="module")
def library() -> Path:
    """For two architectures at least; ninja keeps the objects for the next time."""
    return built("cuda_tests", "8.0 9.0+PTX")


@pytest.fixture(scope="module")
def kernels(library: Path) -> list:
    return read(library)


def check_machine_code(kernels: list) -> None:
    for kernel in kernels:
        name = f"{kernel.arch} {kernel.operation} {kernel.dtype} {kernel.access} {kernel.variant}"
        text = "\n".join(kernel.sass)
        assert kernel.local == 0 and kernel.stack == 0, f"{name} uses local memory"
        assert not re.search(r"\b(LDL|STL)\b", text), f"{name} spills"
        loads = [kernel.sass[i] for i in kernel.loads(kernel.sass)]
        assert loads, f"{name}: no load of a feature map"
        wide = kernel.vector > 1
        assert all((".128" in load) == wide for load in loads), f"{name}: {set(loads)}"
        if wide and kernel.operation != "global_avg_pool":
            assert re.search(r"\bSTG\.E\.128", text), f"{name}: no store of 16 bytes"
        assert not re.search(r"\b(RED|ATOMG)\S*\.F(16|32|64)", text), f"{name}: an atomic on a value"


def test_machine_code_of_two_architectures(kernels: list) -> None:
    architectures = {kernel.arch for kernel in kernels}
    assert architectures >= {"sm_80", "sm_90"}
    assert len(kernels) == len(architectures) * (30 + 30 + 20)
    check_machine_code(kernels)


def test_the_last_architecture_comes_as_ptx_too(library: Path, kernels: list) -> None:
    """From which the driver compiles for GPUs that came later."""
    command = [cuda_kernels.cuobjdump(), "-lptx", str(library)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"sm_\d+", listed)) == {
        max((kernel.arch for kernel in kernels), key=lambda arch: int(arch[3:]))
    }


def test_16_bit_kernels_use_the_hardware_exponential(kernels: list) -> None:
    for kernel in kernels:
        if kernel.operation == "gate" and kernel.dtype in ("bfloat16", "float16") and kernel.vector > 1:
            body = " ".join(kernel.loop())
            elements = len(kernel.loads(kernel.loop())) * kernel.vector
            copies = body.count("MUFU.RCP") // elements  # two where the assembler has made one for each dtype of logits
            assert copies in (1, 2)
            assert body.count("MUFU.EX2") == body.count("MUFU.RCP") == copies * elements


def logits_waited_for(instructions: tuple[str, ...]) -> list[str]:
    """The instructions that use a logit loaded by an earlier one on the way that falls through to them."""
    waiting: set[str] = set()
    found = []
    for line in instructions:
        if re.search(r": BRA", line):
            waiting.clear()
        load = re.search(r"LDG\.E\.?\S*CONSTANT (R\d+), (.*)", line)
        sources = re.findall(r"\bR\d+", load[2] if load else line)
        if waiting & set(sources):
            found.append(line)
        if load:
            first, words = int(load[1][1:]), 4 if ".128" in line else 1
            waiting |= {f"R{first + i}" for i in range(words)}
    return found


def test_no_logit_is_waited_for_before_all_loads_are_issued(kernels: list) -> None:
    """Converting a loaded logit between two loads of the feature map would take the latter out of flight."""
    for kernel in kernels:
        if kernel.vector == 1 or kernel.operation == "global_avg_pool":
            continue
        name = f"{kernel.arch} {kernel.operation} {kernel.dtype} {kernel.access}"
        body = kernel.loop()
        assert not logits_waited_for(body[: max(kernel.loads(body))]), name


def test_column_logits_are_not_waited_for_before_the_first_loads(kernels: list) -> None:
    for kernel in kernels:
        if kernel.vector > 1 and kernel.operation != "global_avg_pool":
            prologue = kernel.sass[: min(kernel.loads(kernel.sass))]
            used = logits_waited_for(prologue)
            assert not used, f"{kernel.arch} {kernel.operation} {kernel.dtype} {kernel.access}: {used}"


@pytest.mark.slow
def test_machine_code_of_all_default_architectures() -> None:
    kernels = read(built("cuda_static", ""))
    assert {kernel.arch for kernel in kernels} == DEFAULT
    check_machine_code(kernels)
    table = ROOT / "benchmarks" / "static" / "cuda_kernels.md"
    if "13.0" in (torch.version.cuda or ""):
        assert table.read_text() == cuda_kernels.table(kernels), (
            "make it again: python benchmarks/static/cuda_kernels.py"
        )


def test_no_symbol_of_libtorch_but_the_stable_ones(library: Path) -> None:
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True)
    symbols = [line.split()[-1] for line in listed.stdout.splitlines()]
    assert any(symbol.startswith("aoti_torch_") for symbol in symbols)
    assert [symbol for symbol in symbols if re.match(r"_ZNK?\d*(2at|3c10|5torch)|Py", symbol)] == []
    assert [symbol for symbol in symbols if re.match(r"cuda[A-Z]", symbol)] == [], (
        "the CUDA runtime is not linked statically"
    )


def run_with(library: Path, code: str) -> str:
    """Run code in a fresh Python that imports the built package."""
    environment = os.environ | {"PYTHONPATH": str(library.parents[3])}
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=library.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_library_loads_and_registers_its_operators(library: Path) -> None:
    code = """
import json, torch, bam_fused
from bam_fused.backends import cuda
keys = {name: torch._C._dispatch_has_kernel_for_dispatch_key(f"bam_fused::{name}.compiled", "CUDA")
        for name in ("gate", "gate_backward", "global_avg_pool")}
print(json.dumps({"registered": keys, "info": cuda.build_info(), "why_not": cuda.why_not(torch.device("cuda"))}))
"""
    said = json.loads(run_with(library, code))
    assert all(said["registered"].values())
    assert {"8.0", "9.0"} <= set(said["info"]["architectures"].replace("+PTX", "").split())
    assert said["info"]["torch_target"] == "2.10"
    assert said["why_not"] == (None if torch.cuda.is_available() else "no CUDA device")


@pytest.mark.gpu
def test_the_driver_confirms_what_the_machine_code_says(library: Path) -> None:
    code = "import json; from bam_fused.backends import cuda; print(json.dumps(cuda.kernels()))"
    found = json.loads(run_with(library, code))
    assert len(found) == 80
    assert all(kernel["local_bytes"] == 0 and kernel["blocks_per_multiprocessor"] >= 2 for kernel in found)


def test_every_kernel_is_listed_for_introspection(library: Path) -> None:
    """`kernels()` needs a device; without one its error names the driver, not a missing symbol."""
    if torch.cuda.is_available():
        pytest.skip("covered with the device")
    code = """
from bam_fused.backends import cuda
try:
    cuda.kernels()
except RuntimeError as error:
    print(error)
"""
    assert "reading the current device" in run_with(library, code)


def test_a_source_that_changes_is_compiled_again_where_the_library_was_linked(tmp_path: Path) -> None:
    """nvcc's programs look for libraries in the folder where they run: what the link made there must not be theirs."""
    if shutil.which("nvcc") is None or shutil.which("g++") is None:
        pytest.skip("no CUDA compiler (nvcc)")
    made, _ = load("csrc/building/old_glibc.py").libraries_to_link("g++")
    compiled = f"{made}nvcc -x cu -c /dev/null -o empty.o"
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run(compiled, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_architectures_that_nvcc_does_not_know_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"TORCH_CUDA_ARCH_LIST: this nvcc does not know '1\.0'"):
        cuda_kernels.build(ROOT / "build" / "cuda_refused", "1.0")
