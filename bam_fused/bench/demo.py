"""The demo's measurements: pytorchcv's bam_resnet50 on a photograph, as it comes against after `replace_bam`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import bam_fused
from bam_fused.bench import memory, pictures, timing
from bam_fused.bench.networks import calibrate, network
from bam_fused.bench.timing import Call, Effort, Quantiles


@dataclass(frozen=True)
class Difference:
    """How far the replaced model's result is from the original's."""

    what: str
    largest: float
    relative: float
    """Over the largest absolute value of the original's, as are the next two."""
    original_off: float
    replaced_off: float
    """How far each of them is from the same model in float64: rounding, which neither is free of."""


@dataclass(frozen=True)
class Timed:
    """One thing timed before and after."""

    what: str
    original: Quantiles
    replaced: Quantiles
    speed_up: Quantiles
    peaks: tuple[int, int] | None = None
    """Peak bytes of original and replaced."""


@dataclass
class Subject:
    """The model as it comes, the same with the fused forward, and what they are shown."""

    original: nn.Module
    replaced: nn.Module
    report: Any
    picture: Tensor
    """(224, 224, 3), 0 to 1, to be shown."""
    photo: Tensor
    batch: Tensor

    @property
    def device(self) -> torch.device:
        return self.batch.device


def prepare(count: int, device: torch.device) -> Subject:
    """Build the model, calibrate its BatchNorm on crops of the photograph, and replace the BAMs of a copy.

    Raises:
        MissingExtra: pytorchcv or scikit-image is not installed.
    """
    photo = pictures.photograph()
    original = network()
    batch = pictures.normalise(pictures.crops(photo, count))
    calibrate(original, batch)
    original.eval().to(device)
    replaced = copy.deepcopy(original)
    report = bam_fused.replace_bam(replaced)
    picture = pictures.centre(photo)
    shown = pictures.normalise(picture)[None]
    return Subject(original, replaced, report, picture.permute(1, 2, 0), shown.to(device), batch.to(device))


Results = tuple[Tensor, ...]


def _difference(what: str, original: Results, replaced: Results, true: Results) -> Difference:
    def off(some: Results, others: Results) -> float:
        return max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True))

    scale = max(float(value.abs().max()) for value in original)
    largest = off(original, replaced)
    return Difference(what, largest, largest / scale, off(original, true) / scale, off(replaced, true) / scale)


def _output(model: nn.Module, x: Tensor) -> Results:
    with torch.no_grad():
        return (model(x),)


def _gradients(model: nn.Module, x: Tensor) -> Results:
    model = copy.deepcopy(model).train()  # the statistics that BatchNorm gathers stay out of the comparison
    output = model(x)
    return torch.autograd.grad(functional.cross_entropy(output, _labels(output)), list(model.parameters()))


def _labels(output: Tensor) -> Tensor:
    return torch.arange(output.shape[0], device=output.device) % output.shape[1]


def differences(subject: Subject) -> list[Difference]:
    """Outputs on the photograph and on the batch, and every parameter's gradient in a training step."""
    true = copy.deepcopy(subject.original).double()
    found = []
    for what, results, x in (
        ("output, photograph", _output, subject.photo),
        ("output, batch", _output, subject.batch),
        ("gradients, training step", _gradients, subject.batch),
    ):
        wide = results(true, x.double())
        found.append(_difference(what, results(subject.original, x), results(subject.replaced, x), wide))
    return found


def _inference(model: nn.Module, x: Tensor) -> Call:
    def call() -> Tensor:
        with torch.no_grad():
            return model(x)

    return call


def _training_step(model: nn.Module, x: Tensor) -> Call:
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        output = model(x)
        functional.cross_entropy(output, _labels(output)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # last, so that nothing of one step is left for the next one's memory

    return step


def _timed(what: str, original: Call, replaced: Call, device: torch.device, effort: Effort, with_memory: bool) -> Timed:
    samples = timing.interleave({"original": original, "replaced": replaced}, device, effort)
    peaks = (memory.peak_bytes(original, device), memory.peak_bytes(replaced, device)) if with_memory else None
    first, second = (Quantiles.of(times) for times in samples.values())
    return Timed(what, first, second, timing.ratio(samples["original"], samples["replaced"]), peaks)


def whole_network(subject: Subject, seconds: float, progress: Callable[[str], object]) -> list[Timed]:
    """Inference on the photograph and the batch, and a training step (forward, backward, SGD) on the batch."""
    count = len(subject.batch)
    found = []
    for what, x, make, share in (
        ("inference, 1 photograph", subject.photo, _inference, 0.2),
        (f"inference, batch of {count}", subject.batch, _inference, 0.3),
        (f"training step, batch of {count}", subject.batch, _training_step, 0.5),
    ):
        progress(what)
        calls = make(subject.original, x), make(subject.replaced, x)
        found.append(_timed(what, *calls, subject.device, Effort(share * seconds, least=3), with_memory=True))
    return found


def each_bam(subject: Subject, seconds: float, progress: Callable[[str], object]) -> list[Timed]:
    """Every replaced BAM alone, in inference, on the feature map that the batch gives it inside the network."""
    names = [entry.name for entry in subject.report.replaced]
    inputs: dict[str, Tensor] = {}
    hooks = [
        subject.original.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: inputs.update({name: args[0].clone()})
        )
        for name in names
    ]
    with torch.no_grad():
        subject.original(subject.batch)
    for hook in hooks:
        hook.remove()
    found = []
    for name, x in inputs.items():
        progress(name)
        before, after = (model.get_submodule(name) for model in (subject.original, subject.replaced))
        calls = _inference(before, x), _inference(after, x)
        what = f"{name}, {'x'.join(map(str, x.shape))}"
        found.append(_timed(what, *calls, subject.device, Effort(seconds / len(names), least=3), with_memory=False))
    return found


def bam_share(network: Timed, bams: list[Timed]) -> float:
    """The part of the original network's time that its BAMs take."""
    return sum(bam.original.median for bam in bams) / network.original.median
