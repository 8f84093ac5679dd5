"""Compiling the kernels ahead of time, for any NVIDIA architecture and without a GPU, and reading what came out.

`python -m bam_fused.backends.triton.ahead` prints a table of registers, shared memory and vector widths, as Markdown;
with --json, one record per kernel and architecture.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bam_fused.backends.triton import gate, gate_backward, global_avg_pool
from bam_fused.backends.triton.launch import Launch, describe
from bam_fused.backends.triton.matrices import VECTOR_BYTES
from bam_fused.backends.triton.partials import Sums

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
STORE = r"st\.global\S*?(?:\.v(\d))?\.b(\d+)\s"


@dataclass(frozen=True)
class Compiled:
    """What a kernel became: sizes in bytes."""

    registers: int
    stack: int  # of a thread: local memory, into which registers spill
    shared: int
    loads: dict[int, int]  # of feature maps, by width
    stores: dict[int, int]  # of anything, by width


def compile_launch(launch: Launch, dtypes: tuple[torch.dtype, ...], capability: int) -> Compiled:
    """Compile a launch for a compute capability (90 is 9.0), for 16-byte aligned tensors of these dtypes."""
    kernel = launch.kernel
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    aligned = [["tt.divisibility", VECTOR_BYTES]]
    for position, parameter in enumerate(kernel.params):
        if position < len(dtypes):
            signature[parameter.name] = POINTERS[dtypes[position]]
            attributes[(position,)] = aligned
            continue
        value = launch.values[parameter.name]
        specialised = not parameter.do_not_specialize
        if parameter.is_constexpr or (specialised and value == 1):
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = value
            continue
        signature[parameter.name] = "i32" if value < 2**31 else "i64"
        if specialised and value % 16 == 0:
            attributes[(position,)] = aligned
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": launch.warps})
    registers, stack = _resources(compiled.asm["cubin"])
    ptx = compiled.asm["ptx"]
    return Compiled(registers, stack, compiled.metadata.shared, _widths(FEATURE_MAP_LOAD, ptx), _widths(STORE, ptx))


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes per thread, from cuobjdump, which Triton brings along."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {said}")
    return int(found[1]), int(found[2])


def _widths(pattern: str, ptx: str) -> dict[int, int]:
    return dict(Counter(int(found[1] or 1) * int(found[2]) // 8 for found in re.finditer(pattern, ptx)))


def launches(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str
) -> Iterator[tuple[str, Launch, tuple[torch.dtype, ...]]]:
    """Every kernel that the operations launch for a feature map, with the dtypes of its tensors."""
    n, c, h, w = shape
    x = torch.empty(shape, dtype=dtype, device="meta")
    x = x.to(memory_format=torch.channels_last) if layout == "nhwc" else x
    logits = describe(x.new_empty(n, c)), describe(x.new_empty(n, 1, h, w))
    forward = gate.plan(describe(x), *logits, "sum")
    backward = gate_backward.plan(describe(x), describe(x), *logits, "sum")
    pool = global_avg_pool.plan(describe(x))
    assert forward is not None and backward is not None and pool is not None
    yield "gate", forward[0], (dtype,) * 4
    sums = (backward.row_sums, backward.column_sums)
    yield "gate_backward", backward.launch, (*(dtype,) * 5, *(_partial_dtype(s, x) for s in sums))
    yield "global_avg_pool", pool[0], (dtype, _partial_dtype(pool[1], x))
    for s in (*sums, pool[1]):
        if s.parts > 1:
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
                    constants = {key: value for key, value in launch.values.items() if key.isupper()}
                    for capability in capabilities:
                        identity = name, dtypes, launch.warps, capability, *launch.values.items()
                        if identity not in known:
                            known[identity] = compile_launch(launch, dtypes, capability)
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


def table(rows: list[dict[str, Any]]) -> str:
    """The records as Markdown, one line for all architectures."""
    lines: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in rows:
        tile = ", ".join(f"{key} {value}" for key, value in row["constants"].items() if key != "COMBINE")
        key = (row["kernel"], row["dtype"], "x".join(map(str, row["shape"])), row["layout"], row["warps"], tile)
        lines.setdefault(key, {})[row["capability"]] = row
    architectures = " / ".join(f"sm_{capability}" for capability in sorted({row["capability"] for row in rows}))
    text = [
        "# Triton kernels, compiled ahead of time",
        "",
        f"By `python -m bam_fused.backends.triton.ahead`, Triton {triton.__version__}, without a GPU; for {architectures}:",
        "registers per thread, bytes of shared memory per program, bytes spilled per thread. Not measured on a GPU.",
        "",
    ]
    text.append("| kernel | dtype | shape | layout | warps | constants | registers | shared memory | spilled |")
    text.append("|---|---|---|---|---|---|---|---|---|")
    for key, found in lines.items():
        columns = (" / ".join(str(row[name]) for row in found.values()) for name in ("registers", "shared", "stack"))
        text.append("| " + " | ".join(map(str, (*key, *columns))) + " |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="records instead of a table")
    found = list(records())
    print(json.dumps(found) if parser.parse_args().json else table(found))


if __name__ == "__main__":
    main()
