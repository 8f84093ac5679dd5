"""The table that the tuning command measures on a device and the heuristics then prefer to their own rules.

A JSON file: device name -> "operation dtype layout RxK batch" -> the fields of the operation's config in heuristics.py.
It lies in the user's cache directory, or where the environment variable BAM_FUSED_TRITON_TABLE says.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from bam_fused.backends.triton.rows import Extent

Entry = dict[str, Any]
Table = dict[str, dict[str, Entry]]

log = logging.getLogger("bam_fused")


def path() -> Path:
    """Where the table is read from and written to."""
    chosen = os.environ.get("BAM_FUSED_TRITON_TABLE")
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "bam_fused" / "triton.json"


def read(file: Path) -> Table:
    """The table in a file; empty where there is none, or none that can be read, which is logged."""
    try:
        table = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("the Triton table %s is left out: %s", file, error)
        return {}
    return table if isinstance(table, dict) else {}


def write(file: Path, device_name: str, entries: dict[str, Entry]) -> None:
    """Put a device's entries into the table in a file, beside those that stand there."""
    table = read(file)
    table.setdefault(device_name, {}).update(entries)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(table, indent=1, sort_keys=True))
    partial.replace(file)  # a reader never sees half a table


def key(operation: str, extent: Extent, dtype: torch.dtype) -> str:
    """The entry of an operation, a dtype and a shape; batches that round up to the same power of two share one."""
    layout = "nchw" if extent.rows_are_channels else "nhwc"
    batch = 1 << (extent.samples - 1).bit_length()
    return f"{operation} {str(dtype).removeprefix('torch.')} {layout} {extent.rows}x{extent.columns} {batch}"


def device_name(device: torch.device) -> str:
    """The name under which a device's measurements stand."""
    return torch.get_device_module(device).get_device_name(device) if device.type != "cpu" else "cpu"


@functools.cache
def _entries(device: torch.device) -> dict[str, Entry]:
    table = read(path())
    return table.get(device_name(device), {}) if table else {}


class Config(Protocol):
    """An operation's config in heuristics.py."""

    def fits(self, extent: Extent) -> bool: ...


C = TypeVar("C", bound=Config)


def lookup(operation: str, extent: Extent, dtype: torch.dtype, device: torch.device, config: type[C]) -> C | None:
    """What was measured for a shape on a device; None where nothing was. The table is read once per process.

    An entry that is no config, or none that a kernel can run with, is left out and logged.
    """
    name = key(operation, extent, dtype)
    entry = _entries(device).get(name) if device.type != "meta" else None
    if entry is None:
        return None
    try:
        found = config(**entry)
        if found.fits(extent):
            return found
    except TypeError:
        pass
    log.warning("the entry %r of the Triton table %s is left out: %s is no config that fits", name, path(), entry)
    return None


def forget() -> None:
    """Have the next lookup read the table again."""
    _entries.cache_clear()
