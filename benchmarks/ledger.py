"""The traffic ledger: passes over the feature map and launches of each operation, counted instead of timed.

python benchmarks/ledger.py                                   the table
python benchmarks/ledger.py --output benchmarks/ledger.md     the page, with both memory formats
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from traffic import pages
from traffic.entries import OPERATIONS, SHAPE, Entry, entries, table

from bam_fused.backends import cpu
from bam_fused.bench.cases import FORMATS
from bam_fused.bench.table import markdown_table
from bam_fused.cli.progress import Progress
from bam_fused.text_table import text_table

PAGE = """# The traffic ledger

Bytes read and written over the bytes of x, and in brackets the launches: one training step of each operation, forward and
backward, float32, x of shape {shape}. Counted by `python benchmarks/ledger.py --output benchmarks/ledger.md`, not timed:
eager by what PyTorch dispatches (views are free, a broadcast dimension too), `compile` by the loop nests that torch.compile
of torch {torch} generates for the CPU, `fused` by the arguments of this package's operators, each of which is one pass over
them. The floor is what must be read and written at least. What is beyond it in the fused column are the logits and their
gradients; a test holds that column to the floor. Of `bam`, whose operators hand x on, the fused column counts too much: what
memory sees of it stands in the last table.
"""

MEMORY = """## What memory sees

Counted by the pages that are touched (`benchmarks/traffic/pages.cpp`), whatever a kernel says of itself: x of shape {shape},
float32, one thread, behind a simulated cache of {cache} MiB, twice a sample of x. "Reduced maps" is what is read and written
of all that is smaller than x, down to 64 KiB. `branches` and its backward are counted in passes over what they are given, a
reduction of shape {reduced}; bfloat16 is a batch twice as large. The kernels are those of {instructions}; with
avx512_bf16 a training step in bfloat16 writes and reads some reduced maps once more, as pairs. A test holds the figures of x
and of the reduction.
"""


def memory_section() -> str:
    """What operators and modules move between memory and a cache, by pages; or why that cannot be counted here."""
    reason = pages.why_not()
    if reason:
        return f"## What memory sees\n\nNot counted: {reason}.\n"
    head = ["passes over x", "memory format", "read", "written", "together", "reduced maps"]
    rows = [
        [one.name, one.memory_format, *(f"{n:.2f}" for n in (one.read, one.written, one.passes, one.small))]
        for one in pages.counted()
    ]
    page = MEMORY.format(
        shape=pages.SHAPE, reduced=pages.REDUCED, cache=pages.CACHE >> 20, instructions=cpu.instruction_set()
    )
    return f"{page}\n{markdown_table(head, rows)}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=FORMATS, default="NCHW", help="the memory format of x")
    parser.add_argument("--operation", action="append", choices=OPERATIONS, help="only this one (may be repeated)")
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out, which takes most of the time"
    )
    parser.add_argument("--output", type=Path, help="write a page in Markdown with both memory formats instead")
    options = parser.parse_args(arguments)
    operations = options.operation or OPERATIONS
    formats = list(FORMATS) if options.output else [options.format]
    progress = Progress(len(operations) * len(formats))
    found: dict[str, list[Entry]] = {}
    for memory_format in formats:
        for operation in operations:
            progress(f"{operation} {memory_format}")
            lines = entries(operation, memory_format, compile_too=not options.no_compile)
            found.setdefault(memory_format, []).extend(lines)
    progress.close()
    if options.output:
        parts = [PAGE.format(shape=SHAPE, torch=torch.__version__.partition("+")[0])]
        parts += [f"## {name}\n\n{markdown_table(*table(lines))}\n" for name, lines in found.items()]
        parts.append(memory_section())
        options.output.write_text("\n".join(parts))
        print(f"written: {options.output}")
    else:
        print(text_table(*table(found[options.format]), numbers=True))


if __name__ == "__main__":
    main()
