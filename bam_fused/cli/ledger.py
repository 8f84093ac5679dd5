"""bam-fused ledger: passes over the feature map and launches of each operation, counted instead of timed."""

from __future__ import annotations

import argparse

from bam_fused.bench.cases import FORMATS
from bam_fused.bench.ledger import OPERATIONS, Entry, entries, table
from bam_fused.bench.table import markdown_table, text_table
from bam_fused.cli.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMATS, default="NCHW", help="the memory format of x")
    parser.add_argument("--operation", action="append", choices=OPERATIONS, help="only this one (may be repeated)")
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out, which takes most of the time"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(options: argparse.Namespace) -> int:
    operations = options.operation or OPERATIONS
    progress = Progress(len(operations))
    found: list[Entry] = []
    for operation in operations:
        progress(operation)
        found += entries(operation, options.format, compile_too=not options.no_compile)
    progress.close()
    print((markdown_table if options.markdown else text_table)(*table(found)))
    return 0
