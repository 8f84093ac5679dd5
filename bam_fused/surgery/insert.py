"""insert_bam: put new BAMs into a network that has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bam_fused.modules import BAM
from bam_fused.modules.options import BAMOptions
from bam_fused.surgery import attach
from bam_fused.surgery.bottlenecks import bottlenecks
from bam_fused.surgery.channels_last import ChannelsLastBAM
from bam_fused.surgery.dry_run import dry_run
from bam_fused.surgery.fusing import fusing
from bam_fused.surgery.places import AFTER, BEFORE, Place, every_block, named
from bam_fused.text_table import text_table
from bam_fused.wrappers import unwrapped, unwrapping

AT = ("auto", "every-block", "classifiers")


@dataclass(frozen=True)
class Inserted:
    """One BAM that `insert_bam` put in."""

    name: str
    """Its name in the model, the attended module's with ".bam"."""
    position: str
    """"after" or "before" the module."""
    channels: int
    height: int
    width: int
    """The map's size in the dry run."""
    parameters: int
    """How many parameters it adds."""
    warning: str = ""
    """What to know about it: that the network's own rewriting for inference would drop it."""


class InsertReport(Sequence[Inserted]):
    """The BAMs that were put in, in the order of the forward; prints as a table."""

    def __init__(self, entries: Sequence[Inserted], image: tuple[int, ...]) -> None:
        self._entries = tuple(entries)
        self.image = image

    @property
    def parameters(self) -> int:
        """How many parameters all of them add."""
        return sum(entry.parameters for entry in self)

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Inserted]:
        return iter(self._entries)

    def __str__(self) -> str:
        height, width = self.image[-2:]
        head = ("BAM", "position", "channels", f"map at {height} x {width}", "parameters")
        rows = [
            (
                entry.name,
                entry.position,
                str(entry.channels),
                f"{entry.height} x {entry.width}",
                f"{entry.parameters:,}",
            )
            for entry in self
        ]
        foot = (f"{len(self)} modules", "", "", "", f"{self.parameters:,}")
        warnings = [f"warning: {entry.name}: {entry.warning}" for entry in self if entry.warning]
        return "\n".join((text_table(head, rows, foot=foot), *warnings))

    __repr__ = __str__


def insert_bam(
    model: nn.Module,
    *,
    at: str | Sequence[str] = "auto",
    position: str = AFTER,
    reduction: int = BAMOptions.reduction,
    dilation: int | Sequence[int] = BAMOptions.dilation,
    example: Any = None,
    **options: Any,
) -> InsertReport:
    """Put new BAMs into a network, in place: at its bottlenecks, in each block, or at modules given by name.

    The places are found by a dry run (on the meta device where the model allows it), so torchvision, timm and own models
    are treated alike. Each BAM becomes the child `bam` of a module; state_dict keys and parameter names that existed stay,
    and weights of the plain network load with ``strict=False``. deepcopy, pickle, DataParallel and torch.compile work.

    Args:
        model: takes images (N, C, H, W). Of a detection or segmentation model the backbone is looked at; DataParallel and
            torch.compile wrappers are seen through.
        at: "auto": before each downsampling, on maps of a quarter of the image and below (all maps in small-image networks),
            where the paper places BAM, and before each stage that is dilated in place of a stride; "every-block": at the
            end of each block (the outermost unit that adds, below the stages), before its residual addition (the paper's
            BAM-C), or on its output where inference merges the branch into another; "classifiers": before each
            classifier of a torchvision SSD or SSDlite (the paper, section 4.6); or names of modules as
            `model.named_modules()` has them.
        position: of BAMs at named modules: "after" acts on the module's output, "before" on its input.
        reduction, dilation: the BAMs', as in `BAM`.
        example: the dry run's input, a tensor or a tuple of arguments; None draws image batches of usual sizes.
        options: further keyword arguments of `BAM`. ``identity_start=True`` leaves the network's outputs unchanged until
            trained. `device` and `dtype` default to those of the module's parameters, `min_hidden` to 1.

    Maps may be (N, C, H, W) or, as in Swin, (N, H, W, C): the BAM there takes those.

    Returns:
        What was put in where; prints as a table. Its entries warn of BAMs that the network's own rewriting for inference
        (`fuse`, `reparameterize`, `switch_to_deploy`) would drop; places found by "auto" and "every-block" avoid that.

    Raises:
        TypeError, ValueError: an argument is not one of these; a place does not exist, does not handle a feature map
            (tokens, tuples), is called several times or has a BAM already; there is no
            downsampling or no block; `BAM` refuses its channels or options; the model is wrapped in
            DistributedDataParallel. The model is then as it was.

    An optimizer made before does not know the new parameters.

    Source: Park et al., "BAM: Bottleneck Attention Module", BMVC 2018, figure 1, table 2, sections 4.5 and 4.6.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if position not in (BEFORE, AFTER):
        raise ValueError(f"position must be 'after' or 'before', got {position!r}")
    if any(isinstance(one, nn.parallel.DistributedDataParallel) for one in unwrapping(model)):
        raise ValueError(
            "model is wrapped in DistributedDataParallel, which would not know the new parameters: wrap last"
        )
    root, prefix = _looked_at(unwrapped(model), whole=not isinstance(at, str) or at == "classifiers")
    names = _names(root, at)
    modules = dict(root.named_modules())
    trace = dry_run(root, example, [modules[name] for name in names or () if name in modules])
    fused = fusing(root)
    if names is None and trace.error is not None:
        raise ValueError(
            f"the model does not run on drawn images, `example` gives another input: {trace.error}"
        ) from trace.error
    if names is not None:
        places = named(root, trace, fused, names, BEFORE if at == "classifiers" else position)
    else:
        places = bottlenecks(trace, fused) if at == "auto" else every_block(trace, fused)
    bams = [_make(place, root, {"reduction": reduction, "dilation": dilation} | options) for place in places]
    for place in places:
        attach.check(place.module, place.name)
    _attach(root, example, list(zip(places, bams, strict=True)))
    entries = [
        Inserted(
            f"{prefix}{place.name}.{attach.CHILD}",
            place.position,
            place.channels,
            place.height,
            place.width,
            sum(parameter.numel() for parameter in bam.parameters()),
            place.warning,
        )
        for place, bam in zip(places, bams, strict=True)
    ]
    return InsertReport(entries, tuple(trace.image.shape))


def _attach(root: nn.Module, example: Any, pairs: list[tuple[Place, BAM]]) -> None:
    """Attach all BAMs and see each of them called once in a dry run, or attach none and raise ValueError."""
    for place, bam in pairs:
        attach.attach(place.module, bam, place.position == BEFORE)
    try:
        calls = _calls(root, example, pairs)
        for (place, bam), count in zip(pairs, calls, strict=True):
            if count == 2 and place.position == AFTER:  # once by a forward that runs through the module's children
                attach.detach(place.module)
                attach.append(place.module, bam)
        calls = _calls(root, example, pairs) if 2 in calls else calls
        for (place, _), count in zip(pairs, calls, strict=True):
            if count != 1:
                raise ValueError(f"a BAM at {place.name!r} would be called {count} times in one forward")
    except Exception:
        for place, _ in pairs:
            attach.detach(place.module)
        raise


def _calls(root: nn.Module, example: Any, pairs: list[tuple[Place, BAM]]) -> list[int]:
    """How often a dry run calls each BAM."""
    trace = dry_run(root, example, [bam for _, bam in pairs])
    return [len(trace.calls_of(bam)) for _, bam in pairs]


def _looked_at(model: nn.Module, whole: bool) -> tuple[nn.Module, str]:
    """The part that a dry run can run: of a detection or segmentation model the backbone, without feature pyramid."""
    prefix = ""
    for part in ("backbone", "body"):
        child = getattr(model, part, None)
        if not whole and isinstance(child, nn.Module):
            model, prefix = child, f"{prefix}{part}."
    return model, prefix


def _names(model: nn.Module, at: object) -> list[str] | None:
    """The module names that `at` stands for; None where the dry run must find them."""
    if isinstance(at, str):
        if at not in AT:
            raise ValueError(f"at must be one of {AT} or a list of module names, got {at!r}")
        if at != "classifiers":
            return None
        names = [name for name, _ in model.named_modules() if _is_classifier(name)]
        if not names:
            raise ValueError(
                "at='classifiers' needs a detector with head.classification_head.module_list (SSD, SSDlite)"
            )
        return names
    if not isinstance(at, Sequence) or not all(isinstance(name, str) for name in at):
        raise TypeError(f"at must be a string or a sequence of module names, got {type(at).__name__}")
    if not at:
        raise ValueError("at is an empty list of module names")
    return list(at)


def _is_classifier(name: str) -> bool:
    head, _, last = name.rpartition(".")
    return head == "head.classification_head.module_list" and last.isdigit()


def _make(place: Place, model: nn.Module, options: dict[str, Any]) -> BAM:
    """The BAM of a place, in the mode, on the device and in the dtype of its module, and synchronised if the model is."""
    tensors = [*place.module.parameters(), *model.parameters()]
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(()))
    keywords: dict[str, Any] = {"device": like.device, "dtype": like.dtype, "min_hidden": 1, **options}
    try:
        bam = (BAM if place.layout == "NCHW" else ChannelsLastBAM)(place.channels, **keywords)
    except ValueError as error:
        raise ValueError(f"at {place.name!r}: {error}") from error
    if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        nn.SyncBatchNorm.convert_sync_batchnorm(bam)
    return bam.train(place.module.training)
