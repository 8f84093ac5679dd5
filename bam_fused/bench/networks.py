"""Whole networks in the benchmarks: as they come, against the same with fused BAMs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

import bam_fused
from bam_fused.bench.cases import FORMATS, Case, both_modes
from bam_fused.bench.description import Description
from bam_fused.bench.extras import need
from bam_fused.bench.problem import Problem, feature_map, in_float64, of_module, place

Build = Callable[[], nn.Module]
"""A network with random weights, the same every time, in whose place `fuse` gives one with fused BAMs."""


def network(name: str = "bam_resnet50") -> nn.Module:
    """A network of pytorchcv with random weights, the same every time, which is all that can be had without a download.

    Raises:
        MissingExtra: pytorchcv is not installed.
        ValueError: it has no network of this name.
    """
    model_provider = need("pytorchcv.model_provider", "demo")
    torch.manual_seed(0)
    model = model_provider.get_model(name, pretrained=False)
    assert isinstance(model, nn.Module)
    return model


def calibrate(model: nn.Module, batch: torch.Tensor, passes: int = 1) -> None:
    """Set BatchNorm's running statistics to what the batch gives, so that random weights make sane activations."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the passes
    model.train()
    with torch.no_grad():
        for _ in range(passes):
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def replaced(model: nn.Module) -> nn.Module:
    """A copy after `replace_bam`."""
    other = copy.deepcopy(model)
    bam_fused.replace_bam(other)
    return other


def describe(name: str, build: Build, fuse: Callable[[nn.Module], nn.Module] = replaced) -> Description:
    """A network against what `fuse` makes of it: a copy whose BAMs are fused."""

    def problem(case: Case, device: torch.device) -> Problem:
        model = build()
        calibrate(model, torch.randn(2, *case.shape[1:]))
        model.train(case.mode != "inference")
        reference = in_float64(model).function
        assert isinstance(reference, nn.Module)
        place(model, case, device)
        return Problem(
            inputs=(feature_map(case, device),),
            reference=of_module(reference.to(device)),
            competitors={"eager": of_module(model), "fused": of_module(fuse(model))},
            to_compile="eager",
            slack=100,
            by_norm=True,
        )

    return Description(
        problem,
        competitors=("eager", "fused"),
        cases={
            "readme": tuple(both_modes(name, (4, 3, 224, 224))),
            "full": tuple(
                case
                for n in (1, 8, 32)
                for memory_format in FORMATS
                for case in both_modes(name, (n, 3, 224, 224), "float32", memory_format)
            ),
        },
        network=True,
    )
