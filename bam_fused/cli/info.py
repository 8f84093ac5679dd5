"""bam-fused info: versions, device, which backends run and why the others do not, what the binaries were built with."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from typing import Any

import torch

from bam_fused import backends
from bam_fused.bench import machine
from bam_fused.version import __version__

OPTIONAL = ("triton", "numpy", "torchvision", "timm", "pytorchcv", "scikit-image", "matplotlib", "onnxruntime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


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


def collect() -> dict[str, Any]:
    """Everything that the command prints."""
    status = {
        str(device): {name: backend.why_not(device) or "runs" for name, backend in backends.REGISTRY.items()}
        | {"eager": "runs"}
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
        "chosen backend": backends.current_backend(),
        "backends": status,
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


def run(options: argparse.Namespace) -> int:
    found = collect()
    print(json.dumps(found, indent=2, default=str) if options.json else "\n".join(_lines(found)))
    return 0
