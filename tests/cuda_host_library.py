"""Builds the CUDA kernels for the CPU (tests/cuda/host) and calls them on torch tensors.

The sources are those of csrc/cuda, compiled by an ordinary C++ compiler. A feature map is described by where its rows lie
in a flat tensor: offset, sample stride, row stride, in elements.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bam_fused.ops import OPERATORS

ROOT = Path(__file__).resolve().parents[1]
HOST = ROOT / "tests" / "cuda" / "host"
KERNELS = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
OPERATIONS = sorted((ROOT / "csrc" / "operations").glob("*.cpp"))
BUILD = ROOT / "build" / "cuda_host"

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
COMBINES = ("sum", "product", "max")
OPTIMISE = ("-O1", "-g1")
KINDS = ("ldcs", "ldg", "ldcg", "plain", "stcg")


def _digest(*texts: str) -> str:
    """Of everything that a compiled file can depend on."""
    headers = (*HOST.glob("*.h"), *(ROOT / "csrc").rglob("*.h"), *(ROOT / "csrc").rglob("*.cuh"))
    contents = b"".join(path.read_bytes() for path in sorted(headers))
    return hashlib.sha256("\0".join(texts).encode() + contents).hexdigest()[:20]


def _run(command: list[str], target: Path) -> Path:
    """Run a command that makes a file named by its last argument, unless the file is there from an earlier run."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{os.getpid()}-{target.name}")
        done = subprocess.run([*command, str(unfinished)], stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr
        unfinished.rename(target)
    return target


def build(name: str, sources: dict[Path, tuple[str, ...]], flags: tuple[str, ...], link: tuple[str, ...]) -> Path:
    """Compile the sources, each with flags of its own beside the common ones, two at a time, and link them.

    What was built from the same text with the same flags before is used again.
    """
    compiler = ["g++", "-std=c++20", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-fPIC", "-fvisibility=hidden", *flags]
    includes = (f"-I{HOST}", f"-I{ROOT / 'csrc' / 'cuda'}")

    def compile_one(item: tuple[Path, tuple[str, ...]]) -> Path:
        source, own = item
        command = [*compiler, *own, *includes, "-x", "c++", "-c", str(source), "-o"]
        return _run(command, BUILD / f"{source.stem}-{_digest(*command, source.read_text())}.o")

    with ThreadPoolExecutor(2) as pool:
        objects = [str(path) for path in pool.map(compile_one, sources.items())]
    command = ["g++", *flags, *objects, *link, "-o"]
    return _run(command, BUILD / f"{_digest(*command)}-{name}")


def build_library(*flags: str) -> Path:
    """The kernels behind plain C functions, for `HostKernels`."""
    sources = [*KERNELS, HOST / "fibers.cpp", HOST / "entry.cpp"]
    return build("kernels.so", dict.fromkeys(sources, ()), (*OPTIMISE, *flags), ("-shared",))


@functools.cache
def load_operators() -> torch.library.Library:
    """The operators over these kernels, as `torch.ops.bam_fused_cuda_host.*` for as long as this library lives."""
    library = torch.library.Library("bam_fused_cuda_host", "DEF")
    for operator in OPERATORS.values():
        if "cuda" in operator.backends:
            library.define(f"{operator.name}.compiled{operator.signature}")
    torch.ops.load_library(str(_build_operators()))
    return library


def _build_operators() -> Path:
    folder = Path(torch.__file__).parent
    stable = ("-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000", "-isystem", str(folder / "include"))
    stable += ("-DBAM_LIBRARY=bam_fused_cuda_host", "-DBAM_DISPATCH_KEY=CPU")
    operators = [*OPERATIONS, ROOT / "csrc" / "cuda" / "tensors.cpp"]
    sources: dict[Path, tuple[str, ...]] = dict.fromkeys([*KERNELS, HOST / "fibers.cpp"], ())
    sources |= dict.fromkeys([*operators, HOST / "operators.cpp"], stable)
    return build("operators.so", sources, OPTIMISE, ("-shared", f"-L{folder / 'lib'}", "-ltorch_cpu"))


class Call(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("samples", "rows", "columns")),
        *((name, ctypes.c_int) for name in ("dtype", "combine", "multiprocessors", "bandwidth", "threads")),
        ("seed", ctypes.c_uint64),
    )


class _Map(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("sample", ctypes.c_int64), ("row", ctypes.c_int64))


class _Logits(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("sample", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("float32", ctypes.c_bool),
    )


class _Results(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("float32", ctypes.c_bool))


@dataclass(frozen=True)
class Problem:
    """What a launcher is told besides its tensors."""

    samples: int
    rows: int
    columns: int
    dtype: torch.dtype
    combine: str = "sum"
    multiprocessors: int = 2
    bandwidth: int = 14000
    threads: int = 64
    seed: int = 0

    def call(self) -> Call:
        dtype, combine = DTYPES.index(self.dtype), COMBINES.index(self.combine)
        sizes, device = (self.samples, self.rows, self.columns), (self.multiprocessors, self.bandwidth, self.threads)
        return Call(*sizes, dtype, combine, *device, self.seed)


def _map(t: Tensor) -> _Map:
    assert t.dim() == 3 and (t.stride(2) == 1 or t.size(2) == 1)
    return _Map(t.data_ptr(), t.stride(0), t.stride(1))


def _logits(t: Tensor) -> _Logits:
    return _Logits(t.data_ptr(), t.stride(0), t.stride(1), t.dtype == torch.float32)


def _results(t: Tensor) -> _Results:
    assert t.is_contiguous()
    return _Results(t.data_ptr(), t.dtype == torch.float32)


class HostKernels:
    """The kernels, on the CPU. Tensors are (samples, rows, columns) with adjacent columns; logits (samples, n)."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def gate(self, problem: Problem, x: Tensor, row: Tensor, column: Tensor, out: Tensor) -> None:
        call = problem.call()
        arguments = (_map(x), _logits(row), _logits(column), _map(out))
        assert self._library.gate(ctypes.byref(call), *map(ctypes.byref, arguments)) == 0

    def gate_backward(
        self, problem: Problem, inputs: tuple[Tensor, ...], dx: Tensor, drow: Tensor, dcolumn: Tensor
    ) -> None:
        """`inputs` are grad, x, the row logits and the column logits; a grad of strides 0 is one number everywhere."""
        call = problem.call()
        grad, x, row, column = inputs
        uniform = not any(grad.stride())
        first = _Map(grad.data_ptr(), 0, 0) if uniform else _map(grad)
        others = (_map(x), _logits(row), _logits(column), _map(dx), _results(drow), _results(dcolumn))
        given = (ctypes.byref(first), int(uniform), *map(ctypes.byref, others))
        assert self._library.gate_backward(ctypes.byref(call), *given) == 0

    def global_avg_pool(self, problem: Problem, of_rows: bool, x: Tensor, means: Tensor) -> None:
        call = problem.call()
        arguments = (_map(x), _results(means))
        assert self._library.global_avg_pool(ctypes.byref(call), int(of_rows), *map(ctypes.byref, arguments)) == 0

    def accesses(self) -> dict[str, dict[int, int]]:
        """Accesses to global memory since the last call: kind -> width in bytes -> number."""
        raw = (ctypes.c_uint64 * (len(KINDS) * 5))()
        self._library.counts(raw)
        return {
            kind: {1 << log2: raw[i * 5 + log2] for log2 in range(5) if raw[i * 5 + log2]}
            for i, kind in enumerate(KINDS)
        }


def traffic(accesses: dict[str, dict[int, int]]) -> dict[str, int]:
    """Bytes by kind."""
    return {kind: sum(width * number for width, number in widths.items()) for kind, widths in accesses.items()}
