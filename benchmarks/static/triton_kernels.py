"""What Triton makes of its kernels, compiled ahead of time for any NVIDIA architecture and read without a GPU.

    python benchmarks/static/triton_kernels.py [--output triton_kernels.md]
    python benchmarks/static/triton_kernels.py --json      one record per kernel and architecture, to the standard output

TRITON_INTERPRET must not be set: Triton compiles nothing then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from grids import GPUS, Gpu
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import sm_arch_from_capability
from triton.compiler import ASTSource

from bam_fused.backends.triton.gate_backward import gate_backward_kernel
from bam_fused.backends.triton.launch import Launch
from bam_fused.backends.triton.partials import Sums
from bam_fused.backends.triton.rows import VECTOR_BYTES
from bam_fused.bench import triton_operations
from bam_fused.bench.machine import usable_cores
from bam_fused.bench.table import markdown_table

# The GPU that stands for each compute capability, 8.0 first.
DEVICES = {
    80: next(gpu for gpu in GPUS if gpu.name == "A100"),
    90: next(gpu for gpu in GPUS if gpu.name == "H200"),
    100: Gpu("B200", "sm_100", 148, 8000, 1.965, 64, 32, 228 * 1024),
    120: next(gpu for gpu in GPUS if gpu.name == "RTX 5090"),
}
CAPABILITIES = tuple(DEVICES)
# The paper's bottlenecks in ResNet-50, a detector's feature map, and rows that begin at no multiple of a vector.
SHAPES = (
    (32, 256, 56, 56),
    (32, 512, 28, 28),
    (32, 1024, 14, 14),
    (32, 2048, 7, 7),
    (2, 256, 200, 336),
    (32, 256, 17, 19),
)
DTYPES = (torch.bfloat16, torch.float32)

POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float64: "*fp64"}
LOAD = r"ld\.global\S*?(?:\.v(\d))?\.b(\d+)\s"
STREAMED_LOAD = r"ld\.global\.L1::evict_first\S*?(?:\.v(\d))?\.b(\d+)\s"  # x and grad, where logits are loaded besides
SASS_LOAD = r"\bLDG\.E"  # the same in machine code
STREAMED_SASS_LOAD = r"\bLDG\.E\.EF"
STORE = r"st\.global\S*?(?:\.v(\d))?\.b(\d+)\s"


Code = list[tuple[int, str]]
"""A kernel's instructions, each with its address."""


@dataclass(frozen=True)
class Compiled:
    """What a kernel became: sizes in bytes."""

    registers: int
    stack: int  # of a thread: local memory, into which registers spill
    shared: int
    instructions: float  # per element
    under_way: int  # of feature maps, for a thread, at most
    loads: dict[int, int]  # of feature maps, by width
    stores: dict[int, int]  # of anything, by width


@dataclass(frozen=True)
class Specialisation:
    """What Triton compiles a launch's kernel for; launches that have the same run the same machine code."""

    signature: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[int, ...]  # the parameters that are multiples of 16
    warps: int
    registers: int | None


def specialisation(launch: Launch, dtypes: tuple[torch.dtype, ...]) -> Specialisation:
    """Of a launch on 16-byte aligned tensors of these dtypes."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    aligned: list[int] = []
    for position, parameter in enumerate(launch.kernel.params):
        if position < len(dtypes):
            signature[parameter.name] = POINTERS[dtypes[position]]
            aligned.append(position)
            continue
        value = launch.values[parameter.name]
        specialised = not parameter.do_not_specialize
        if parameter.is_constexpr or (specialised and value == 1):
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = value
            continue
        signature[parameter.name] = "i32" if value < 2**31 else "i64"
        if specialised and value % 16 == 0:
            aligned.append(position)
    return Specialisation(signature, constants, tuple(aligned), launch.warps, launch.registers)


def compiled_for(capability: int, wanted: list[tuple[Any, Specialisation, int]]) -> list[Compiled]:
    """Compile kernels, each with the bytes of an element, for a compute capability (90 is 9.0)."""
    made = [_compile(kernel, what, capability) for kernel, what, _ in wanted]
    codes = _disassembled([_machine_code(one.asm["cubin"]) for one in made], capability)
    return [
        _read(one, code, kernel is gate_backward_kernel, "u_ptr" in what.signature, element_bytes)
        for one, code, (kernel, what, element_bytes) in zip(made, codes, wanted, strict=True)
    ]


def _compile(kernel: Any, what: Specialisation, capability: int) -> Any:
    attributes = {(position,): [["tt.divisibility", VECTOR_BYTES]] for position in what.aligned}
    source = ASTSource(kernel, what.signature, what.constants, attributes)
    options = {"num_warps": what.warps, "maxnreg": what.registers}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def _read(compiled: Any, code: Code, two_streams: bool, streamed: bool, element_bytes: int) -> Compiled:
    ptx = compiled.asm["ptx"]
    registers, stack = _resources(compiled.asm["cubin"])
    machine = Machine(code, streamed)
    return Compiled(
        registers,
        stack,
        compiled.metadata.shared,
        machine.instructions_per_element(element_bytes, 2 if two_streams else 1),
        machine.under_way(),
        _widths(STREAMED_LOAD if streamed else LOAD, ptx),
        _widths(STORE, ptx),
    )


def _said(tool: str, *arguments: str, about: bytes) -> str:
    """What a tool of the CUDA toolkit, which Triton brings along, says of a file of these bytes."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    with tempfile.NamedTemporaryFile() as file:
        file.write(about)
        file.flush()
        return subprocess.run([str(path), *arguments, file.name], capture_output=True, text=True, check=True).stdout


def _machine_code(cubin: bytes) -> bytes:
    """The section of an ELF file that holds its one kernel."""
    (at,), (size, number, names) = struct.unpack_from("<Q", cubin, 0x28), struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, at + i * size) for i in range(number)]
    strings = headers[names][4]
    ((start, length),) = (
        (start, length) for name, _, _, _, start, length in headers if cubin.startswith(b".text.", strings + name)
    )
    return cubin[start : start + length]


def _disassembled(codes: list[bytes], capability: int) -> list[Code]:
    """Many kernels' machine code at a time: the disassembler takes a third of a second to begin, and no time for one."""
    architecture = sm_arch_from_capability(capability).replace("sm_", "SM")
    text = _said("nvdisasm", "--binary", architecture, about=b"".join(codes))
    lines = iter(re.findall(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?);", text, re.MULTILINE))
    return [[(int(at, 16), line) for at, line in itertools.islice(lines, len(code) // 16)] for code in codes]


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes per thread."""
    said = _said("cuobjdump", "--dump-resource-usage", about=cubin)
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {said}")
    return int(found[1]), int(found[2])


class Machine:
    """A kernel's machine code; `streamed`: feature maps are loaded with a hint."""

    def __init__(self, sass: Code, streamed: bool) -> None:
        last = max((i for i, (_, text) in enumerate(sass) if "EXIT" in text), default=len(sass) - 1)
        self._load = STREAMED_SASS_LOAD if streamed else SASS_LOAD
        self._sass = sass[: last + 1]  # what follows is padding
        self._body = self._loop()

    def _loads(self, text: str) -> int:
        """The bytes that an instruction loads of a feature map."""
        if not re.search(self._load, text):
            return 0
        width = re.search(r"\.(128|64|U?16|U?8)\b", text)
        return (int(width[1].strip("U")) if width else 32) // 8

    def _loop(self) -> list[str]:
        """The innermost loop around the loads of feature maps; everything if none is."""
        loads = [i for i, (_, text) in enumerate(self._sass) if self._loads(text)]
        addresses = [address for address, _ in self._sass]
        bodies = [self._sass]
        for end, (address, text) in enumerate(self._sass):
            target = re.search(r"\bBRA(?:\.\w+)* (?:!?U?P\d+, )?`?\(?0x([0-9a-f]+)", text)
            if loads and target and int(target[1], 16) < address:
                start = addresses.index(int(target[1], 16))
                if start <= loads[0] and loads[-1] <= end:
                    bodies.append(self._sass[start : end + 1])
        return [text for _, text in min(bodies, key=len)]

    def instructions_per_element(self, element_bytes: int, streams: int) -> float:
        """Of the loop around the loads, or of the whole kernel where there is no loop; every branch taken."""
        elements = sum(map(self._loads, self._body)) // element_bytes
        return round(len(self._body) * streams / elements, 1) if elements else float(len(self._body))

    def under_way(self) -> int:
        """The most bytes of feature maps that a thread has asked for and not yet waited for; twice around a loop.

        Loads answer in their order: who uses one has waited for all before it.
        """
        waiting: list[tuple[set[int], int]] = []  # registers, bytes
        most = 0
        for text in self._body * (2 if len(self._body) < len(self._sass) else 1):
            plain = re.sub(r"^@!?U?P\d+ ", "", text)
            operation, _, operands = plain.partition(" ")
            stores = operation.startswith(("ST", "BAR", "BRA"))
            used = {int(found) for found in re.findall(r"\bR(\d+)", operands if stores else operands.partition(",")[2])}
            for i in reversed(range(len(waiting))):
                if waiting[i][0] & used:
                    del waiting[: i + 1]
                    break
            size = self._loads(text)
            target = re.search(r"\bR(\d+)", operands)
            if size and target:
                waiting.append((set(range(int(target[1]), int(target[1]) + max(1, size // 4))), size))
                most = max(most, sum(bytes_ for _, bytes_ in waiting))
        return most


def _widths(pattern: str, ptx: str) -> dict[int, int]:
    return dict(Counter(int(found[1] or 1) * int(found[2]) // 8 for found in re.finditer(pattern, ptx)))


def launches(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str
) -> Iterator[tuple[str, Launch, tuple[torch.dtype, ...]]]:
    """Every kernel that the operations launch for a feature map, with the dtypes of its tensors."""
    x = torch.empty(shape, dtype=dtype, device="meta")
    x = x.to(memory_format=torch.channels_last) if layout == "nhwc" else x
    reductions: list[Sums] = []
    for operation in triton_operations.MODULES:
        arguments = triton_operations.sample_arguments(operation, x)
        prepared = triton_operations.prepare(operation, arguments)
        sums = [value for value in vars(prepared).values() if isinstance(value, Sums)]
        inputs = sum(isinstance(argument, Tensor) for argument in arguments)
        written = len(prepared.launch.kernel.arg_names) - len(prepared.launch.values) - inputs - len(sums)
        yield operation, prepared.launch, (*(dtype,) * (inputs + written), *(_partial_dtype(s, x) for s in sums))
        reductions += sums
    for s in reductions:
        if s.splits > 1:
            yield "sum_partials", s.launch, (_partial_dtype(s, x), dtype)


def _partial_dtype(sums: Sums, x: Tensor) -> torch.dtype:
    return sums.target(x.new_empty(0)).dtype


def in_use(launch: Launch) -> float:
    """The share of a tile's lanes that hold elements, at most."""
    value = launch.values
    if "VECTORS" in value:
        return value["group_vectors"] / (value["tiles"] * value["VECTORS"])
    columns, tile = value["columns"] * (1 if value["DENSE"] else value["WIDTH"]), value["TILE_COLUMNS"]
    rows, tile_rows = value["rows"], value["TILE_ROWS"]
    return columns / (triton.cdiv(columns, tile) * tile) * rows / (triton.cdiv(rows, tile_rows) * tile_rows)


def in_flight(gpu: Gpu, launch: Launch, compiled: Compiled) -> int:
    """The bytes of feature maps that a multiprocessor has under way, at most."""
    resident = gpu.resident(compiled.registers, compiled.shared, launch.warps)
    programs = min(resident, launch.grid[0] / gpu.multiprocessors)
    return int(programs * 32 * launch.warps * compiled.under_way * in_use(launch))


def records(capability: int) -> list[dict[str, Any]]:
    """One record per kernel, shape, layout and dtype; kernels that are the same are compiled once."""
    cases = [
        (case, name, launch, specialisation(launch, dtypes), dtypes[0].itemsize)
        for case in itertools.product(SHAPES, DTYPES, ("nchw", "nhwc"))
        for name, launch, dtypes in launches(*case)
    ]
    wanted = {(name, repr(what)): (launch.kernel, what, size) for _, name, launch, what, size in cases}
    compiled = dict(zip(wanted, compiled_for(capability, [*wanted.values()]), strict=True))
    gpu, found = DEVICES[capability], []
    for (shape, dtype, layout), name, launch, what, _ in cases:
        streams = 0 if name == "sum_partials" else 2 if name == "gate_backward" else 1
        became = compiled[name, repr(what)]
        found.append(
            {
                "kernel": name,
                "shape": shape,
                "dtype": str(dtype).removeprefix("torch."),
                "layout": layout,
                "capability": capability,
                "warps": launch.warps,
                "constants": {key: value for key, value in launch.values.items() if key.isupper()},
                "in_flight": in_flight(gpu, launch, became) if streams else 0,
                "reads": streams * math.prod(shape) * dtype.itemsize // gpu.multiprocessors,
                **asdict(became),
            }
        )
    return found


def all_records() -> list[dict[str, Any]]:
    """Those of every architecture, side by side on the cores there are."""
    with ProcessPoolExecutor(usable_cores(), multiprocessing.get_context("spawn")) as pool:
        return [record for found in pool.map(records, CAPABILITIES) for record in found]


def table(rows: list[dict[str, Any]]) -> str:
    """The records as Markdown, one line for all architectures."""
    lines: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in rows:
        tile = ", ".join(f"{key} {value}" for key, value in row["constants"].items() if key != "COMBINE")
        key = (row["kernel"], row["dtype"], "x".join(map(str, row["shape"])), row["layout"], row["warps"], tile)
        lines.setdefault(key, {})[row["capability"]] = row
    architectures = " / ".join(f"sm_{capability}" for capability in sorted({row["capability"] for row in rows}))
    text = [
        "# The Triton kernels as compiled",
        "",
        f"By `python benchmarks/static/triton_kernels.py`, Triton {triton.__version__}, from the machine code for",
        f"{architectures}; nothing here was measured on a GPU.",
        "Registers per thread, bytes of shared memory per program, bytes spilled per thread, instructions per element (of",
        "the loop around the loads, or of the whole kernel where there is no loop), every branch taken: an upper bound.",
        "In flight: KB of feature maps that a multiprocessor has asked for and not yet waited for, at most: of the programs",
        "that reside on it, or of those there are if they are fewer, and of the lanes that hold elements. What keeps the",
        "memory busy: " + ", ".join(f"{gpu.in_flight / 1024:.0f} on {gpu.name}" for gpu in DEVICES.values()) + ".",
        "",
    ]
    columns = {"registers": "registers", "shared memory": "shared", "spilled": "stack", "instructions": "instructions"}
    table_rows = []
    for key, found in lines.items():
        cells = [" / ".join(str(row[name]) for row in found.values()) for name in columns.values()]
        reads = key[0] != "sum_partials"
        cells.append(" / ".join(f"{row['in_flight'] / 1024:.0f}" for row in found.values()) if reads else "")
        table_rows.append([*map(str, key), *cells])
    head = ["kernel", "dtype", "shape", "layout", "warps", "constants", *columns, "in flight"]
    return "\n".join([*text, markdown_table(head, table_rows), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="records instead of a table")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    found = all_records()
    if options.json:
        print(json.dumps(found))
    else:
        options.output.write_text(table(found))
        print(f"{options.output}: {len(found)} kernels")


if __name__ == "__main__":
    main()
