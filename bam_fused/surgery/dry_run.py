"""A dry run: which modules a network calls, in which order, on feature maps of which shape, and where branches join.

The network runs in eval mode without gradients, on the meta device where it can (nothing is computed and no weight is
copied), else where it is. Nothing is registered on it: the hooks are PyTorch's global ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

# Tried in this order where the caller gives no example: what most networks take, then what small or fixed ones take.
SIZES = (224, 32, 64, 28, 96, 128, 256, 299, 300, 384, 512)

_ADDITIONS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
_CONCATENATIONS = {"cat", "concat", "concatenate"}


@dataclass(eq=False)
class Call:
    """One call of one module."""

    name: str
    module: nn.Module
    parents: tuple[Call, ...]
    inputs: tuple[Any, ...]
    start: int
    end: int = -1
    output: Any = None
    children: list[Call] = field(default_factory=list)


@dataclass(eq=False)
class Join:
    """An addition or concatenation in the forward of a module itself."""

    kind: str
    """"add" or "cat" of feature maps, "tokens" for an addition of anything else: (N, L, C), windows."""
    size: tuple[int, int]
    """Rows and columns of the feature maps that it joins; zeros for tokens."""
    time: int
    """When it happened, on the clock of the calls' start and end."""
    inside: Call
    branch: Call | None
    """The call that made the operand with the longest history: a residual block's own branch."""


@dataclass(eq=False)
class Trace:
    """What a dry run saw; calls are in the order in which they ended."""

    example: tuple[Any, ...]
    calls: list[Call] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    error: Exception | None = None
    """What ended the run early."""

    @property
    def image(self) -> Tensor:
        """The first four-dimensional input."""
        return next(leaf for leaf in tree_leaves(self.example) if isinstance(leaf, Tensor) and leaf.dim() >= 3)

    def layout(self, value: Any) -> str:
        """ "NCHW" or "NHWC" for a feature map of the whole images, "" for anything else.

        A map has the image's aspect ratio but for rounding and padding. That tells one layout from the other, and whole
        images from windows of them and from attention; where a map would pass as either it is taken for NCHW.
        """
        batch = self.image.shape[0] if self.image.dim() == 4 else None
        if (
            not isinstance(value, Tensor)
            or value.dim() != 4
            or 0 in value.shape
            or value.shape[0] != (batch or value.shape[0])
        ):
            return ""
        if self._is_proportional(value.shape[2], value.shape[3]):
            return "NCHW"
        return "NHWC" if self._is_proportional(value.shape[1], value.shape[2]) else ""

    def _is_proportional(self, rows: int, columns: int) -> bool:
        height, width = self.image.shape[-2:]
        rounded = abs(rows * width - columns * height) <= max(height, width)
        padded = height != width and 0.8 < rows * width / (columns * height) < 1.25  # to multiples of 32, by detectors
        return rounded or padded

    def size(self, value: Any) -> tuple[int, int, int]:
        """(channels, rows, columns) of a feature map; zeros for anything else."""
        layout = self.layout(value)
        if not layout:
            return 0, 0, 0
        _, first, second, third = value.shape
        return (first, second, third) if layout == "NCHW" else (third, first, second)

    def is_wide(self, value: Any) -> bool:
        """Whether a value is a feature map of more than one position."""
        _, rows, columns = self.size(value)
        return rows * columns > 1

    def calls_of(self, module: nn.Module) -> list[Call]:
        """The finished calls of one module."""
        return [call for call in self.calls if call.module is module]


class _Recorder(TorchFunctionMode):
    """Keeps the stack of running modules, and for each tensor the call that returned it and the length of its history."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        super().__init__()
        self.names = {id(module): name for name, module in model.named_modules()}
        self.trace = trace
        self.stack: list[Call] = []
        self.clock = 0
        self.made_by: dict[int, list[Call]] = {}
        self.history: dict[int, int] = {}
        self.kept: list[Any] = []  # ids stay unique while their tensors live

    def before(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if id(module) in self.names:
            self.clock += 1
            call = Call(self.names[id(module)], module, tuple(self.stack), inputs, self.clock)
            if self.stack:
                self.stack[-1].children.append(call)
            self.stack.append(call)

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if id(module) in self.names and self.stack and self.stack[-1].module is module:
            self.clock += 1
            call = self.stack.pop()
            call.end, call.output = self.clock, output
            self.trace.calls.append(call)
            self._extend(output, inputs)
            for tensor in _tensors(output):
                self.made_by.setdefault(id(tensor), []).append(call)

    def _extend(self, output: Any, inputs: Any) -> None:
        """The outputs' history is one step longer than the longest of the inputs'."""
        steps = 1 + max((self.history.get(id(tensor), 0) for tensor in _tensors(inputs)), default=0)
        for tensor in _tensors(output):
            self.history[id(tensor)] = max(steps, self.history.get(id(tensor), 0))
            self.kept.append(tensor)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        operands = _tensors(args)
        # In-place additions return their operand, so who made it must be asked before.
        kind = self._kind_of_join(name, operands) if self.stack else ""
        if kind:
            longest = max(operands, key=lambda tensor: self.history.get(id(tensor), 0))
            _, rows, columns = self.trace.size(longest)
            self.trace.joins.append(Join(kind, (rows, columns), self.clock, self.stack[-1], self._maker(longest)))
        output = func(*args, **kwargs)
        if operands:
            self._extend(output, args)
            if (name.endswith("_") and not name.endswith("__")) or name.startswith("__i"):
                for tensor in _tensors(output):
                    self.made_by.pop(id(tensor), None)  # in place: no longer what the module returned
        return output

    def _maker(self, tensor: Tensor) -> Call | None:
        """The last call with parameters that returned the tensor: not the stochastic depth that handed it on."""
        calls = self.made_by.get(id(tensor), [])
        learned = [call for call in calls if next(call.module.parameters(), None) is not None]
        return next(iter(learned[-1:] or calls[-1:]), None)

    def _kind_of_join(self, name: str, operands: Sequence[Tensor]) -> str:
        if len(operands) < 2 or name not in _ADDITIONS | _CONCATENATIONS:
            return ""
        if all(self.trace.is_wide(tensor) for tensor in operands):
            same = len({(self.trace.layout(tensor), *self.trace.size(tensor)[1:]) for tensor in operands}) == 1
            return ("add" if name in _ADDITIONS else "cat") if same else ""
        alike = len({tensor.shape for tensor in operands}) == 1 and operands[0].dim() in (3, 4)
        return "tokens" if alike and name in _ADDITIONS and not self.trace.layout(operands[0]) else ""


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _on_meta(model: nn.Module) -> Iterator[None]:
    """The model with stand-ins on the meta device for its parameters and buffers.

    Not by `torch.func.functional_call`: a module that is there under two names would keep the stand-ins.
    """
    own = [
        (entries, name, tensor)
        for module in model.modules()
        for entries in (module._parameters, module._buffers)
        for name, tensor in entries.items()
        if tensor is not None
    ]
    stand_ins = {id(tensor): tensor.to("meta") for _, _, tensor in own}
    try:
        for entries, name, tensor in own:
            entries[name] = stand_ins[id(tensor)]  # type: ignore[assignment]
        yield
    finally:
        for entries, name, tensor in own:
            entries[name] = tensor  # type: ignore[assignment]


def _run(model: nn.Module, example: tuple[Any, ...], meta: bool) -> Trace:
    """One run, on the meta device or where the model is."""
    trace = Trace(example)
    recorder = _Recorder(model, trace)
    hooks = [register_module_forward_pre_hook(recorder.before), register_module_forward_hook(recorder.after)]
    try:
        with evaluating(model), _on_meta(model) if meta else nullcontext(), recorder:
            model(*example)
    except Exception as error:  # the caller decides whether what was seen suffices
        trace.error = error
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def _images(model: nn.Module) -> list[tuple[int, int]]:
    """Channels and sizes of images to try: what a timm model says it takes, what the first convolution takes, RGB."""
    config = getattr(model, "default_cfg", None)
    own = config.get("input_size") if isinstance(config, Mapping) else None
    convolution = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    first = 3 if convolution is None else convolution.in_channels
    tried = [(own[0], own[-1])] if own else []
    tried += [(channels, size) for channels in (first, 3) for size in SIZES]
    return list(dict.fromkeys(tried))


def dry_run(model: nn.Module, example: Any = None, reach: Sequence[nn.Module] = ()) -> Trace:
    """Run a model once and say what it called.

    Args:
        model: any module that takes one image batch, or whatever `example` is.
        example: its input, a tensor or a tuple of arguments; None draws batches of two images of several sizes until one
            fits.
        reach: a run that called all of these suffices, although an error ended it (detectors do not run on meta tensors to
            the end).

    Returns:
        The trace of the first run that suffices or came to its end; if none did, of the one that came furthest, with its
        `error`.
    """
    if example is not None:
        return _run(model, example if isinstance(example, tuple) else (example,), meta=False)
    own = [*model.parameters(), *model.buffers()]
    first = next((tensor for tensor in own if tensor.is_floating_point()), torch.zeros(()))
    best: Trace | None = None
    for meta in (True, False) if own else (False,):
        device = "meta" if meta else first.device
        if best is not None and "meta" not in str(best.error).lower():
            break  # what stopped the run would stop it on any device
        for channels, size in _images(model):
            image = torch.zeros(2, channels, size, size, device=device, dtype=first.dtype)
            trace = _run(model, (image,), meta)
            if trace.error is None or (reach and all(trace.calls_of(module) for module in reach)):
                return trace
            if best is None or len(trace.calls) > len(best.calls):
                best = trace
    assert best is not None
    return best
