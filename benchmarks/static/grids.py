"""The grids of the CUDA kernels on five GPUs, worked out without any of them.

    python benchmarks/static/grids.py [--output grids]      one page per GPU

The tilings are the library's own choice (csrc/cuda/streaming/choose_tiling.h, compiled here by g++); registers and
instructions are those of cuda_kernels.md. How many blocks reside on a multiprocessor follows from a GPU's limits by the
arithmetic of NVIDIA's occupancy calculator.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import hashlib
import math
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bam_fused.bench.table import markdown_table

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
WARPS = 8  # of the widest block
BATCHES = (1, 8, 32, 256)
# (C, H, W): the bottlenecks of ResNet-50 as in the paper, those of ResNet-18, CIFAR's, a detector's feature map, and
# rows of an odd length in groups that are wider than a block
PAPER = ((256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7))
OTHERS = (
    (64, 56, 56),
    (128, 28, 28),
    (256, 14, 14),
    (256, 32, 32),
    (512, 16, 16),
    (1024, 8, 8),
    (256, 200, 336),
    (256, 17, 19),
)
LAYOUTS = ("nchw", "nhwc")
ELEMENT_SIZES = {"bfloat16": 2, "float32": 4, "float64": 8}  # float16 has bfloat16's grids


@dataclass(frozen=True)
class Gpu:
    """What of a GPU decides its grids. Bandwidth in GB/s and clock in GHz are the vendor's figures."""

    name: str
    arch: str
    multiprocessors: int
    bandwidth: float
    clock: float
    warps: int
    blocks: int
    shared: int
    """These three are a multiprocessor's limits, the last in bytes."""

    @property
    def in_flight(self) -> int:
        """The bytes that a multiprocessor must have under way: for a round trip to memory under load, of 1.35 us."""
        return int(1.35e-6 * self.bandwidth * 1e9 / self.multiprocessors)

    @property
    def share(self) -> int:
        """A multiprocessor's of the bandwidth, in bytes per microsecond, as csrc/cuda/device.cpp has it."""
        return int(self.bandwidth * 1e3 / self.multiprocessors)

    def resident(self, registers: int, shared: int, warps: int) -> int:
        """Blocks of that many warps on a multiprocessor of 65536 registers."""
        quarter = 16384 // (math.ceil(registers * 32 / 256) * 256)  # warps are dealt out to four schedulers
        by_shared = self.shared // (math.ceil(shared / 128) * 128 + 1024)
        return min(self.blocks, min(self.warps, 4 * quarter) // warps, by_shared)


GPUS = (
    Gpu("H200", "sm_90", 132, 4800, 1.755, 64, 32, 228 * 1024),
    Gpu("H100", "sm_90", 132, 3350, 1.755, 64, 32, 228 * 1024),
    Gpu("A100", "sm_80", 108, 2039, 1.410, 64, 32, 164 * 1024),
    Gpu("L4", "sm_89", 58, 300, 2.040, 48, 24, 100 * 1024),
    Gpu("RTX 5090", "sm_120", 170, 1792, 2.407, 48, 24, 100 * 1024),
)


class _Question(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("samples", "rows", "columns")),
        *((name, ctypes.c_int) for name in ("vector", "straddle", "element_size", "maps", "flight", "sum_size")),
        *((name, ctypes.c_int) for name in ("row_sums", "column_sums", "multiprocessors", "bandwidth")),
        ("resident", ctypes.c_int * (WARPS + 1)),
    )


class _Answer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("threads", "group_rows", "slab_slots", "slabs", "split_rows")),
        *((name, ctypes.c_int) for name in ("splits", "resident")),
        ("blocks", ctypes.c_int64),
        *((name, ctypes.c_double) for name in ("waves", "busy_lanes", "partial_bytes", "time", "least_time")),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    """grids.cpp, compiled into build/grids; what was compiled from the same text before is used again."""
    headers = sorted((ROOT / "csrc").rglob("*.h"))
    source = HERE / "grids.cpp"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (*headers, source))).hexdigest()[:20]
    target = ROOT / "build" / "grids" / f"{digest}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        includes = (
            f"-I{ROOT / 'csrc' / 'cuda'}",
            f"-I{ROOT / 'tests' / 'cuda' / 'host'}",
        )  # the latter for the runtime
        command = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", *includes, str(source), "-o", str(target)]
        subprocess.run(command, check=True)
    library = ctypes.CDLL(str(target))
    library.choose.restype = _Answer
    return library


@functools.cache
def _compiled() -> dict[tuple[str, str, str, str], tuple[int, float]]:
    """(operation, dtype, access, architecture) -> registers and instructions per element, from cuda_kernels.md."""
    lines = [
        line.strip("| ").split(" | ") for line in (HERE / "cuda_kernels.md").read_text().splitlines() if "|" in line
    ]
    found = {}
    for line in lines[2:]:
        for arch, cell in zip(lines[0][3:], line[3:], strict=True):
            registers, instructions = cell.split(" / ")
            found[line[0], line[1], line[2], arch] = int(registers), float(instructions)
    return found


@dataclass(frozen=True)
class Grid:
    """One call: the library's tiling and what follows from it."""

    gpu: Gpu
    operation: str
    dtype: str
    shape: tuple[int, int, int]
    layout: str
    batch: int
    tiling: _Answer
    bytes_in_flight: int
    """Of loads, on a multiprocessor, at most."""
    issue: float
    """The share of the issue slots that the instructions take at the memory's full bandwidth."""
    traffic: float
    """Microseconds for the maps at that bandwidth."""

    @property
    def partials(self) -> float:
        """Bytes of partial sums, as a share of the traffic."""
        return self.tiling.partial_bytes / (self.traffic * 1e3 * self.gpu.bandwidth)

    @property
    def multiple(self) -> float:
        """The time that the model gives the call, over the least: a launch and the maps' bytes at 0.91 of the bandwidth."""
        return float(self.tiling.time / self.tiling.least_time)


def straddles(shape: tuple[int, int, int], dtype: str) -> bool:
    """Whether rows of positions end within 16 bytes."""
    return ELEMENT_SIZES[dtype] < 8 and shape[1] * shape[2] % (16 // ELEMENT_SIZES[dtype]) != 0


def grid(gpu: Gpu, operation: str, dtype: str, shape: tuple[int, int, int], layout: str, batch: int) -> Grid:
    channels, positions, size = shape[0], shape[1] * shape[2], ELEMENT_SIZES[dtype]
    rows, columns = (channels, positions) if layout == "nchw" else (positions, channels)
    vector = 1 if size == 8 else 16 // size
    straddle = columns % vector != 0
    access = "element" if vector == 1 else "16 bytes across rows" if straddle else "16 bytes"
    backward, pool = operation == "gate_backward", operation == "global_avg_pool"
    read, maps = (2, 3) if backward else (1, 1) if pool else (1, 2)
    name = operation + (f" of {'rows' if layout == 'nchw' else 'columns'}" if pool else "")
    registers, instructions = _compiled()[name, dtype, access, gpu.arch]
    wide = vector > 1
    flight = (1 if wide else 4) if backward else 4 if pool else (2 if wide or size == 8 else 4)
    question = _Question(
        *(batch, rows, columns),
        *(vector, straddle, size, maps, flight, 8 if size == 8 else 4),
        *(backward or (pool and layout == "nchw"), backward or (pool and layout == "nhwc")),
        *(gpu.multiprocessors, gpu.share),
    )
    for warps in range(1, WARPS + 1):
        shared = _library().shared_bytes_of(ctypes.byref(question), 32 * warps)
        question.resident[warps] = gpu.resident(registers, shared, warps)
    tiling = _library().choose(ctypes.byref(question))
    traffic = batch * channels * positions * size * maps / gpu.bandwidth / 1e3
    slots = 4 * 32 * gpu.multiprocessors * gpu.clock * 1e9  # a second's, each for one lane
    elements = gpu.bandwidth * 1e9 / (maps * size)
    return Grid(
        gpu=gpu,
        operation=operation,
        dtype=dtype,
        shape=shape,
        layout=layout,
        batch=batch,
        tiling=tiling,
        bytes_in_flight=int(tiling.resident * tiling.threads * tiling.busy_lanes * flight * vector * size * read),
        issue=instructions * elements / slots / tiling.busy_lanes,
        traffic=traffic,
    )


def grids(gpu: Gpu, shapes: tuple[tuple[int, int, int], ...] = PAPER + OTHERS) -> Iterator[Grid]:
    for operation in ("gate", "gate_backward", "global_avg_pool"):
        for dtype in ELEMENT_SIZES:
            for shape in shapes:
                for layout in LAYOUTS:
                    if operation == "global_avg_pool" and layout == "nchw" and not straddles(shape, dtype):
                        continue  # a few threads for each row: there is nothing to choose
                    for batch in BATCHES:
                        yield grid(gpu, operation, dtype, shape, layout, batch)


def page(gpu: Gpu) -> str:
    """Markdown: a table for each operation, a line for each dtype, shape and layout, a column for each batch size."""
    text = [
        f"# Grids on {gpu.name}",
        "",
        "By `python benchmarks/static/grids.py`, from a model fitted to measurements on an H100; none of these is one.",
        f"{gpu.multiprocessors} multiprocessors ({gpu.arch}), {gpu.bandwidth:.0f} GB/s, {gpu.clock} GHz: "
        f"{gpu.in_flight / 1024:.0f} KB in flight on each keep the memory busy.",
        "",
        "**tile**: rows x slots of a block's group, times slabs; rows of a split, in a batch of one. **resident**: threads",
        "of a block, times blocks on a multiprocessor. **in flight**: KB of loads on a multiprocessor, at most. **issue**:",
        "share of the issue slots at full bandwidth. **partial**: bytes of partial sums, as a share of the traffic. For",
        "each batch: blocks, waves of resident blocks, and the model's time as a multiple of the least that it could be.",
        "The gate, which sums nothing, is cut as suits each batch. The pool of rows that no access straddles has no tiling.",
    ]
    head = ["dtype", "shape", "layout", "tile", "resident", "in flight", "issue", "partial"]
    head += [f"batch {batch}" for batch in BATCHES]
    for operation, rows in _rows(grids(gpu)).items():
        text += ["", f"## {operation}", "", markdown_table(head, rows)]
    return "\n".join([*text, ""])


def _rows(all_of: Iterable[Grid]) -> dict[str, list[list[str]]]:
    """The cells of each operation's table."""
    by_line: dict[tuple[str, str, str, str], list[Grid]] = {}
    for found in all_of:
        key = (found.operation, found.dtype, "x".join(map(str, found.shape)), found.layout)
        by_line.setdefault(key, []).append(found)
    rows: dict[str, list[list[str]]] = {}
    for (operation, *of), line in by_line.items():
        t = line[0].tiling
        tile = f"{t.group_rows} x {t.slab_slots}" + (f" x {t.slabs}" if t.slabs > 1 else "") + f"; {t.split_rows}"
        cells = [*of, tile, f"{t.threads} x {t.resident}", f"{line[0].bytes_in_flight / 1024:.0f}"]
        cells += [f"{line[0].issue:.0%}", f"{line[0].partials:.1%}", *map(_cell, line)]
        rows.setdefault(operation, []).append(cells)
    return rows


def _cell(found: Grid) -> str:
    return f"{found.tiling.blocks}: {found.tiling.waves:.2f}, {found.multiple:.2f}"


def path(folder: Path, gpu: Gpu) -> Path:
    return folder / f"{re.sub(' ', '_', gpu.name.lower())}.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "grids", help="folder of the pages")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for gpu in GPUS:
        path(options.output, gpu).write_text(page(gpu))
    print(f"{options.output}: {len(GPUS)} pages")


if __name__ == "__main__":
    main()
