"""bam_resnet50: pytorchcv's whole network as it comes against the same network after `replace_bam`."""

from __future__ import annotations

import copy

import torch
from torch import nn

import bam_fused
from bam_fused.bench.cases import FORMATS, Case, both_modes
from bam_fused.bench.description import Description
from bam_fused.bench.extras import need
from bam_fused.bench.problem import Competitor, Problem, feature_map, in_float64, of_module, place


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


def problem(case: Case, device: torch.device) -> Problem:
    model = network()
    calibrate(model, torch.randn(2, *case.shape[1:]))
    model.train(case.mode != "inference")
    reference = in_float64(model).function
    assert isinstance(reference, nn.Module)
    place(model, case, device)
    replaced = copy.deepcopy(model)
    bam_fused.replace_bam(replaced)
    competitors: dict[str, Competitor] = {"eager": of_module(model), "fused": of_module(replaced)}
    return Problem(
        inputs=(feature_map(case, device),),
        reference=of_module(reference.to(device)),
        competitors=competitors,
        to_compile="eager",
        slack=1000,
        by_norm=True,
    )


DESCRIPTION = Description(
    problem,
    competitors=("eager", "fused"),
    cases={
        "readme": tuple(both_modes("bam_resnet50", (4, 3, 224, 224))),
        "full": tuple(
            case
            for n in (1, 8, 32)
            for name in FORMATS
            for case in both_modes("bam_resnet50", (n, 3, 224, 224), "float32", name)
        ),
    },
    network=True,
)
