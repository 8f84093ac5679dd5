"""bam-fused visualize: what every BAM of a network does with a picture, as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bam_fused
from bam_fused.bench import pictures, plots
from bam_fused.bench.extras import need
from bam_fused.bench.networks import calibrate, network
from bam_fused.wrappers import unwrapped_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", type=Path, help="a picture (default: scikit-image's cat)")
    parser.add_argument("--model", default="bam_resnet50", help="a network of pytorchcv (default bam_resnet50)")
    parser.add_argument("--checkpoint", type=Path, help="its trained weights; without them it attends at random")
    parser.add_argument("--output", type=Path, default=Path("bam-fused-attention.png"), help="where the picture goes")


def _weights(path: Path) -> dict[str, Tensor]:
    """The state_dict of a checkpoint, also when it is one entry of several or was saved from DataParallel."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return unwrapped_names(saved.get("state_dict", saved))


def run(options: argparse.Namespace) -> int:
    need("matplotlib", "demo")
    photo = pictures.photograph(options.image)
    model = network(options.model)
    if options.checkpoint is None:
        print("no --checkpoint: the weights are random, and so is what the network attends to")
        calibrate(model, pictures.normalise(pictures.crops(photo, 4)))
    else:
        model.load_state_dict(_weights(options.checkpoint))
    images = pictures.normalise(pictures.centre(photo))[None]
    maps = bam_fused.visualize.attention_maps(model, images)
    for one in maps:
        low, high = float(one.attention.min()), float(one.attention.max())
        print(f"{one.name}: {tuple(one.features.shape)}, attention from {low:.2f} to {high:.2f}")
    print(f"written: {plots.save(bam_fused.visualize.draw(maps, images), options.output)}")
    return 0
