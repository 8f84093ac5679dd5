"""What Triton makes of its kernels, compiled ahead of time for any NVIDIA architecture and read without a GPU.

    python benchmarks/static/triton_kernels.py [--output triton_kernels.md]
    python benchmarks/static/triton_kernels.py --json      one record per kernel and architecture, to the standard output

TRITON_INTERPRET must not be set: Triton compiles nothing then.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
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
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bam_fused.backends.triton import operations
from bam_fused.backends.triton.gate_backward import gate_backward_kernel
from bam_fused.backends.triton.launch import Launch
from bam_fused.backends.triton.matrices import VECTOR_BYTES
from bam_fused.backends.triton.partials import Sums
from bam_fused.bench.machine import usable_cores

CAPABILITIES = (80, 90, 100, 120)
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
FEATURE_MAP_LOAD = r"ld\.global\.L1::evict_first\S*?(?:\.v(\d))?\.b(\d+)\s"  # x and grad alone are loaded so
FEATURE_MAP_SASS = r"\bLDG\.E\.EF\b|\bLDGSTS"  # the same in machine code
STORE = r"st\.global\S*?(?:\.v(\d))?\.b(\d+)\s"


@dataclass(frozen=True)
class Compiled:
    """What a kernel became: sizes in bytes."""

    registers: int
    stack: int  # of a thread: local memory, into which registers spill
    shared: int
    instructions: float  # per element
    loads: dict[int, int]  # of feature maps, by width
    stores: dict[int, int]  # of anything, by width


@dataclass(frozen=True)
class Specialisation:
    """What Triton compiles a launch's kernel for; launches that have the same run the same machine code."""

    signature: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[int, ...]  # the parameters that are multiples of 16
    warps: int


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
    return Specialisation(signature, constants, tuple(aligned), launch.warps)


def compiled_for(kernel: Any, what: Specialisation, element_bytes: int, capability: int) -> Compiled:
    """Compile a kernel for a compute capability (90 is 9.0)."""
    attributes = {(position,): [["tt.divisibility", VECTOR_BYTES]] for position in what.aligned}
    source = ASTSource(kernel, what.signature, what.constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": what.warps})
    said, ptx = _cuobjdump(compiled.asm["cubin"]), compiled.asm["ptx"]
    registers, stack = _resources(said)
    streams = 2 if kernel is gate_backward_kernel else 1
    instructions = _instructions_per_element(said, element_bytes, streams)
    loads, stores = _widths(FEATURE_MAP_LOAD, ptx), _widths(STORE, ptx)
    return Compiled(registers, stack, compiled.metadata.shared, instructions, loads, stores)


def _cuobjdump(cubin: bytes) -> str:
    """What cuobjdump, which Triton brings along, says of a kernel: its resources and its machine code."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", "--dump-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _resources(said: str) -> tuple[int, int]:
    """Registers and stack bytes per thread."""
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {said}")
    return int(found[1]), int(found[2])


def _loop(sass: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The innermost loop around the loads of feature maps, from (address, instruction) in order; everything if none is."""
    loads = [i for i, (_, text) in enumerate(sass) if re.search(FEATURE_MAP_SASS, text)]
    addresses = [address for address, _ in sass]
    bodies = [sass]
    for end, (address, text) in enumerate(sass):
        target = re.search(r"\bBRA(?:\.\w+)* (?:!?U?P\d+, )?`?\(?0x([0-9a-f]+)", text)
        if loads and target and int(target[1], 16) < address:
            start = addresses.index(int(target[1], 16))
            if start <= loads[0] and loads[-1] <= end:
                bodies.append(sass[start : end + 1])
    return min(bodies, key=len)


def _instructions_per_element(said: str, element_bytes: int, streams: int) -> float:
    """Of the loop around the loads, or of the whole kernel where there is no loop; every branch taken: an upper bound."""
    lines = (re.match(r"\s*/\*([0-9a-f]{4,5})\*/\s+(.*?);", line) for line in said.splitlines())
    sass = [(int(line[1], 16), line[2]) for line in lines if line]
    last = max((i for i, (_, text) in enumerate(sass) if "EXIT" in text), default=len(sass) - 1)
    body = _loop(sass[: last + 1])  # what follows is padding
    elements = 0
    for _, text in body:
        if re.search(FEATURE_MAP_SASS, text):
            width = re.search(r"\.(128|64|U?16|U?8)\b", text)
            elements += (int(width[1].strip("U")) if width else 32) // 8 // element_bytes
    return round(len(body) * streams / elements, 1) if elements else float(len(body))


def _widths(pattern: str, ptx: str) -> dict[int, int]:
    return dict(Counter(int(found[1] or 1) * int(found[2]) // 8 for found in re.finditer(pattern, ptx)))


def launches(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str
) -> Iterator[tuple[str, Launch, tuple[torch.dtype, ...]]]:
    """Every kernel that the operations launch for a feature map, with the dtypes of its tensors."""
    x = torch.empty(shape, dtype=dtype, device="meta")
    x = x.to(memory_format=torch.channels_last) if layout == "nhwc" else x
    reductions: list[Sums] = []
    for operation in operations.MODULES:
        arguments = operations.sample_arguments(operation, x)
        prepared = operations.prepare(operation, arguments)
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


def records(
    shapes: tuple[tuple[int, ...], ...] = SHAPES, capabilities: tuple[int, ...] = CAPABILITIES
) -> Iterator[dict[str, Any]]:
    """One record per kernel, shape, layout, dtype and architecture; kernels that are the same are compiled once."""
    known: dict[Any, Compiled] = {}
    for shape in shapes:
        for dtype in DTYPES:
            for layout in ("nchw", "nhwc"):
                for name, launch, dtypes in launches(shape, dtype, layout):
                    what = specialisation(launch, dtypes)
                    constants = {key: value for key, value in launch.values.items() if key.isupper()}
                    for capability in capabilities:
                        identity = name, capability, repr(what)
                        if identity not in known:
                            known[identity] = compiled_for(launch.kernel, what, dtypes[0].itemsize, capability)
                        yield {
                            "kernel": name,
                            "shape": shape,
                            "dtype": str(dtype).removeprefix("torch."),
                            "layout": layout,
                            "capability": capability,
                            "warps": launch.warps,
                            "constants": constants,
                            **asdict(known[identity]),
                        }


def _for_one(capability: int) -> list[dict[str, Any]]:
    return list(records(capabilities=(capability,)))


def all_records() -> list[dict[str, Any]]:
    """Those of every shape and architecture, the architectures side by side on the cores there are."""
    with ProcessPoolExecutor(usable_cores(), multiprocessing.get_context("spawn")) as pool:
        return [record for found in pool.map(_for_one, CAPABILITIES) for record in found]


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
        "the loop around the loads, or of the whole kernel where there is no loop; in all for sum_partials), every",
        "branch taken: an upper bound.",
        "",
        "| kernel | dtype | shape | layout | warps | constants | registers | shared memory | spilled | instructions |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, found in lines.items():
        names = ("registers", "shared", "stack", "instructions")
        columns = (" / ".join(str(row[name]) for row in found.values()) for name in names)
        text.append("| " + " | ".join(map(str, (*key, *columns))) + " |")
    return "\n".join([*text, ""])


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
