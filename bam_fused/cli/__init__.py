"""The command line: `bam-fused <command>`, also `python -m bam_fused <command>`; one file per command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bam_fused.backends import BackendUnavailable
from bam_fused.bench.extras import MissingExtra
from bam_fused.cli import bench, demo, info, report, visualize
from bam_fused.version import __version__

COMMANDS = (info, demo, bench, report, visualize)


def parser() -> argparse.ArgumentParser:
    """The parser with one subcommand per file."""
    main_parser = argparse.ArgumentParser(
        prog="bam-fused", description="BAM, the Bottleneck Attention Module, at the speed of the memory."
    )
    main_parser.add_argument("--version", action="version", version=f"bam_fused {__version__}")
    commands = main_parser.add_subparsers(metavar="command", required=True)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        help_text = (command.__doc__ or "").splitlines()[0].partition(": ")[2]
        subparser = commands.add_parser(name, help=help_text, description=help_text)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0 all is well, 1 what it looked for went wrong, 2 it could not do its work."""
    options = parser().parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
    except (MissingExtra, BackendUnavailable, FileNotFoundError, ValueError) as failure:
        print(f"bam-fused: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has read what it wanted; what is left must not meet the pipe at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    assert isinstance(status, int)
    return status
