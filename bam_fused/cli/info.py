"""bam-fused info: versions, device, which backends run and why the others do not, what the binaries were built with."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from typing import Any

import torch

from bam_fused import backends
from bam_fused.bench import machine
from bam_fused.composition.explain import paths_of
from bam_fused.modules import BAM
from bam_fused.version import __version__

OPTIONAL = ("triton", "numpy", "torchvision", "timm", "pytorchcv", "scikit-image", "matplotlib", "onnxruntime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument(
        "--check", action="store_true", help="exit 1, and say why, where nothing faster than eager PyTorch runs"
    )
    parser.add_argument(
        "--device", action="append", type=torch.device, help="what --check looks at (default: CUDA devices, else the CPU)"
    )  # fmt: skip


def devices() -> list[torch.device]:
    """The CPU, and every CUDA device."""
    return [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]


def _build_info(backend: str) -> dict[str, Any]:
    """What the backend's library says it was built with; empty where there is no library or it has nothing to say."""
    module = importlib.import_module(f"bam_fused.backends.{backend}")
    try:
        return dict(module.build_info()) if hasattr(module, "build_info") else {}
    except Exception as failure:  # the command must report a broken library, not die of it
        return {"not readable": f"{type(failure).__name__}: {failure}"}


def _paths(device: torch.device) -> dict[str, str]:
    """How the paper's module runs on a device, and why not faster; `replace_bam`'s report says it of each module."""
    found = paths_of(BAM(256, device=device))
    return {mode: path.described() for mode, path in found._asdict().items()}


def collect() -> dict[str, Any]:
    """Everything that the command prints."""
    status = {
        str(device): {name: backend.why_not(device) or "runs" for name, backend in backends.REGISTRY.items()}
        for device in devices()
    }
    return {
        "versions": {
            "bam_fused": __version__,
            "torch": torch.__version__,
            "CUDA of torch": torch.version.cuda or "none",
            "python": platform.python_version(),
            "system": platform.platform(),
            **{package: machine.package_version(package) or "not installed" for package in OPTIONAL},
        },
        "devices": {str(device): machine.device_name(device) for device in devices()},
        "chosen backend": backends.current_backend() + (", strict" if backends.current().strict else ""),
        "backends": status,
        "paths of a BAM": {str(device): _paths(device) for device in devices()},
        "built with": {name: found for name in backends.REGISTRY if (found := _build_info(name))},
    }


def _lines(value: Any, indent: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [f"{indent}{value}"]
    width = max((len(str(key)) for key, inner in value.items() if not isinstance(inner, dict)), default=0)
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines += [f"{indent}{key}:", *_lines(inner, indent + "  ")]
        else:
            lines.append(f"{indent}{str(key).ljust(width)}  {inner}")
    return lines


def missing(wanted: list[torch.device]) -> list[str]:
    """Why, device by device, the choice in force gives nothing faster than eager PyTorch; nothing where it was chosen."""
    current = backends.current_backend()
    found = []
    for device in wanted:
        names = backends.auto_order("gate", device) if current == "auto" else (current,)
        reasons = {name: backends.why_not(name, "gate", device) for name in names if name != "eager"}
        if reasons and all(reasons.values()):
            found.append(f"{device}: no fast backend: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
    return found


def run(options: argparse.Namespace) -> int:
    found = collect()
    print(json.dumps(found, indent=2, default=str) if options.json else "\n".join(_lines(found)))
    if not options.check:
        return 0
    wrong = missing(options.device or devices()[1:] or devices())
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))
