"""The machine a run was taken on: what has to stand beside a figure for it to mean something."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path

import torch

from bam_fused.bench.results import Machine
from bam_fused.version import __version__


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """What a person calls the device, with what else decides its speed."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {usable_cores()} cores, {torch.backends.cpu.get_cpu_capability()}"


def slug(device: torch.device) -> str:
    """The device's name as a folder name: results/<slug>/."""
    return re.sub(r"[^a-z0-9]+", "-", device_name(device).lower().replace("(r)", "")).strip("-")


def package_version(package: str) -> str | None:
    """The installed version of a package, None where it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def load_per_core() -> float:
    """Other work on the machine: the load average of the last minute over the cores (0 where unknown)."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0


def describe(device: torch.device) -> Machine:
    """Device, versions, threads, load and time, as they go into a results file."""
    return {
        "device": device_name(device),
        "slug": slug(device),
        "type": device.type,
        "threads": torch.get_num_threads(),
        "bam_fused": __version__,
        "torch": torch.__version__,
        "triton": package_version("triton"),
        "onnxruntime": package_version("onnxruntime"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_per_core_before": round(load_per_core(), 2),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
