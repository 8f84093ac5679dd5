"""Photographs as a network for ImageNet wants them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from bam_fused.bench.extras import need

SIZE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which such networks are fed with


def photograph(path: Path | None = None) -> Tensor:
    """A photograph as (3, H, W) from 0 to 1; without a path scikit-image's cat (chelsea, CC0), which comes with its wheel.

    Raises:
        MissingExtra: scikit-image is not installed.
        FileNotFoundError, ValueError: there is no such file, or it is no RGB or grey picture.
    """
    if path is None:
        pixels = need("skimage.data", "demo").chelsea()
    else:
        if not path.is_file():
            raise FileNotFoundError(f"no picture at {path}")
        pixels = need("skimage.io", "demo").imread(path)
    picture = torch.from_numpy(pixels)
    if picture.dim() == 2:
        picture = picture[:, :, None].expand(-1, -1, 3)
    if picture.dim() != 3 or picture.shape[2] not in (3, 4) or picture.dtype != torch.uint8:
        raise ValueError(f"{path} must be an RGB or grey picture of 8 bits, got {tuple(picture.shape)} {picture.dtype}")
    return picture[:, :, :3].permute(2, 0, 1) / 255


def centre(picture: Tensor) -> Tensor:
    """The largest square in the middle of a (3, H, W) picture, as (3, 224, 224)."""
    edge = min(picture.shape[1:])
    top, left = ((side - edge) // 2 for side in picture.shape[1:])
    return _resize(picture[:, top : top + edge, left : left + edge])


def crops(picture: Tensor, count: int) -> Tensor:
    """Squares of a (3, H, W) picture at random places and scales, every other one mirrored: (count, 3, 224, 224)."""
    generator = torch.Generator().manual_seed(0)
    most = min(picture.shape[1:])
    found = []
    for i in range(count):
        edge = int(torch.randint(2 * most // 3, most + 1, (), generator=generator))
        top, left = (int(torch.randint(0, side - edge + 1, (), generator=generator)) for side in picture.shape[1:])
        crop = picture[:, top : top + edge, left : left + edge]
        found.append(_resize(crop.flip(2) if i % 2 else crop))
    return torch.stack(found)


def normalise(pictures: Tensor) -> Tensor:
    """Pictures (..., 3, H, W) from 0 to 1 with ImageNet's mean and deviation taken out."""
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, DEVIATION))
    return (pictures - mean) / deviation


def _resize(picture: Tensor) -> Tensor:
    return functional.interpolate(picture[None], (SIZE, SIZE), mode="bilinear", antialias=True)[0]
