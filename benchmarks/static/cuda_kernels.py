"""What nvcc made of the CUDA kernels, read without a GPU: registers, shared and local memory, instructions per element.

    python benchmarks/static/cuda_kernels.py [library.so] [--output cuda_kernels.md]

Without a library it builds one for the default architectures into build/cuda_static (a minute on two cores) with the
Python that runs it, which needs a CUDA build of PyTorch. `cuobjdump` is the toolkit's or the one in Triton's package.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bam_fused.bench.table import markdown_table

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {"d": "float64", "f": "float32", "13__nv_bfloat16": "bfloat16", "6__half": "float16"}
COMBINES = ("sum", "product", "max")
BATCH = 8  # kBatch of csrc/cuda/streaming/tiling.h: groups between two exchanges of row sums
NAME = re.compile(
    r"\d(gate|gate_backward|global_avg_pool|row_means)_kernelI"
    r"(13__nv_bfloat16|6__half|f|d)Li(\d+)E(?:Lb([01])EL(?:NS_7CombineE(\d)|b([01]))E)?"
)
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,5})\*/\s+(.*?);")


@dataclass(frozen=True)
class Kernel:
    """One instance of a kernel for one architecture."""

    arch: str
    operation: str
    dtype: str
    access: str
    variant: str
    vector: int
    registers: int
    stack: int
    local: int
    sass: tuple[str, ...]
    """Its instructions, "address: text", in order."""

    @property
    def streams(self) -> int:
        """How many feature maps it reads."""
        return 2 if self.operation == "gate_backward" else 1

    def loads(self, body: tuple[str, ...]) -> list[int]:
        """Where a body loads feature maps: with the streaming hint, but for the pool, which has no other constant loads."""
        pattern = r"LDG\.E\.\S*CONSTANT" if self.operation == "global_avg_pool" else r"LDG\.E\.EF"
        return [i for i, line in enumerate(body) if re.search(pattern, line)]

    def loops(self) -> list[tuple[str, ...]]:
        """The loops around the last load of a feature map, the innermost first."""
        addresses = [int(line.split(":")[0], 16) for line in self.sass]
        load = self.loads(self.sass)[-1]
        bodies = []
        for end, line in enumerate(self.sass):
            target = _target(line)
            if end >= load and 0 <= target <= addresses[load]:
                bodies.append(self.sass[addresses.index(target) : end + 1])
        return sorted(bodies, key=len)

    def loop(self) -> tuple[str, ...]:
        """The innermost loop around the loads of feature maps: those of the first groups stand before it."""
        return self.loops()[0]

    def instructions_per_element(self) -> float:
        """Of the loop around the loads and, once per batch, of the row sums, the longest way through: an upper bound."""
        inner, *outer = self.loops()
        per_element = longest_way(inner) / (len(self.loads(inner)) * self.vector / self.streams)
        if self.operation == "gate_backward" or (self.variant == "of rows" and self.access.endswith("across rows")):
            per_element += (longest_way(outer[0]) - longest_way(inner)) / (BATCH * self.vector)
        return per_element


def _target(line: str) -> int:
    """The address to which an instruction may branch, -1 where it does not."""
    found = re.search(r"\bBRA(?:\.\w+)* (?:!?U?P\d+, )?`?\(?0x([0-9a-f]+)", line)
    return int(found[1], 16) if found else -1


def longest_way(body: tuple[str, ...]) -> int:
    """The most instructions on a way from the first of a body to its last, of which each is executed once."""
    index = {int(line.split(":")[0], 16): i for i, line in enumerate(body)}
    ways = [0] * (len(body) + 1)
    for i in reversed(range(len(body))):
        target = index.get(_target(body[i]), 0)
        forward = ways[target] if target > i else 0
        leaves = forward > 0 and re.search(r": BRA 0x", body[i])
        ways[i] = 1 + max(forward, 0 if leaves else ways[i + 1])
    return ways[0]


def cuobjdump() -> str:
    """The disassembler of the CUDA toolkit, or Triton's.

    Raises:
        FileNotFoundError: there is neither.
    """
    folders = [os.environ.get(name, "") + "/bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    found = shutil.which("cuobjdump", path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    spec = importlib.util.find_spec("triton")
    if found is None and spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "backends/nvidia/bin/cuobjdump"
        found = str(packaged) if packaged.exists() else None
    if found is None:
        raise FileNotFoundError("no cuobjdump: neither a CUDA toolkit nor Triton's package has one")
    return found


def _dump(library: Path, what: str) -> list[str]:
    done = subprocess.run([cuobjdump(), what, str(library)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _by_function(lines: list[str]) -> dict[tuple[str, str], list[str]]:
    """(architecture, mangled name) -> the lines below it."""
    found: dict[tuple[str, str], list[str]] = {}
    arch, current = "", None
    for line in lines:
        if match := re.match(r"arch = (sm_\w+)", line):
            arch, current = match[1], None
        elif match := re.match(r"\s*Function\s*:?\s*(\S+?):?$", line):
            current = found.setdefault((arch, match[1]), [])
        elif current is not None:
            current.append(line)
    return found


def read(library: Path) -> list[Kernel]:
    """Every kernel in a library, for every architecture in it."""
    sass = _by_function(_dump(library, "--dump-sass"))
    kernels = []
    for (arch, name), lines in _by_function(_dump(library, "--dump-resource-usage")).items():
        match = NAME.search(name)
        if match is None:
            continue
        operation, dtype, vector, straddle, combine, rows = match.groups()
        if operation == "row_means":  # the pool's where no access runs across rows
            operation, rows = "global_avg_pool", "1"
        usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", " ".join(lines)))
        access = "element" if vector == "1" else "16 bytes across rows" if straddle == "1" else "16 bytes"
        instructions = (INSTRUCTION.match(line) for line in sass[arch, name])
        kernels.append(
            Kernel(
                arch=arch,
                operation=operation,
                dtype=DTYPES[dtype],
                access=access,
                variant=COMBINES[int(combine)] if combine else ("of rows" if rows == "1" else "of columns"),
                vector=int(vector),
                registers=int(usage["REG"]),
                stack=int(usage["STACK"]),
                local=int(usage["LOCAL"]),
                sass=tuple(f"{found[1]}: {found[2]}" for found in instructions if found),
            )
        )
    return kernels


def build(folder: Path, architectures: str = "") -> Path:
    """Build the package with its CUDA library into a folder; the library.

    `architectures` as in TORCH_CUDA_ARCH_LIST; empty means setup.py's default.
    """
    environment = os.environ | {"BAM_FUSED_BUILD": "cuda", "TORCH_CUDA_ARCH_LIST": architectures}
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build",
        "--build-lib",
        str(folder / "lib"),
        "--build-temp",
        str(folder / "temp"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the CUDA library does not build:\n{(done.stdout + done.stderr)[-2000:]}")
    return folder / "lib/bam_fused/backends/cuda/libbam_fused_cuda.so"


def table(kernels: list[Kernel]) -> str:
    """Markdown: for each kernel and architecture registers, then instructions per element; the widest of its variants."""
    archs = sorted({kernel.arch for kernel in kernels}, key=lambda arch: int(re.sub(r"\D", "", arch)))
    groups: dict[tuple[str, str, str], dict[str, list[Kernel]]] = {}
    for kernel in kernels:
        reduced = f" {kernel.variant}" if kernel.operation == "global_avg_pool" else ""
        key = (kernel.operation + reduced, kernel.dtype, kernel.access)
        groups.setdefault(key, {}).setdefault(kernel.arch, []).append(kernel)
    lines = [
        "# The CUDA kernels as compiled",
        "",
        "By `python benchmarks/static/cuda_kernels.py`, from the machine code; nothing here was measured on a GPU.",
        "Registers per thread / instructions per element of the loop around the loads and of the row sums (on the",
        "longest way through them: an upper bound); the larger of a kernel's variants (sum, product, max).",
        f"Local memory (spills, stack): at most {max(kernel.local + kernel.stack for kernel in kernels)} bytes.",
        "",
    ]
    rows = []
    for (operation, dtype, access), by_arch in sorted(groups.items()):
        cells = [
            f"{max(k.registers for k in found)} / {max(k.instructions_per_element() for k in found):.1f}"
            for found in (by_arch[arch] for arch in archs)
        ]
        rows.append([operation, dtype, access, *cells])
    return "\n".join([*lines, markdown_table(["operation", "dtype", "access", *archs], rows), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="?", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    kernels = read(options.library or build(ROOT / "build" / "cuda_static"))
    options.output.write_text(table(kernels))
    print(f"{options.output}: {len(kernels)} kernels")


if __name__ == "__main__":
    main()
