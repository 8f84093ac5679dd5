"""The options of BAM, checked, and the per-layer lists they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from bam_fused.checks import check_combine
from bam_fused.modules.branches import AFTER


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, one of {choices}, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")


def _each(name: str, value: object, count: int, minimum: int | None) -> tuple[int, ...]:
    """One value for each of `count` layers; numbers of at least `minimum`, bools where that is None."""
    sequence = isinstance(value, Sequence) and not isinstance(value, str)
    values: tuple[Any, ...] = tuple(cast("Sequence[Any]", value)) if sequence else (value,) * count
    if len(values) != count:
        raise ValueError(f"{name} must be one value or {count}, one for each layer, got {len(values)}")
    for item in values:
        if minimum is None:
            _check_bool(name, item)
        elif isinstance(item, bool) or not isinstance(item, int):
            raise TypeError(f"{name} must be an int or a sequence of ints, got {type(item).__name__}")
        elif item < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {item}")
    return values


@dataclass(frozen=True)
class BAMOptions:
    """The arguments of `BAM`, in its order; see there. Raises TypeError or ValueError that names the argument."""

    channels: int
    reduction: int = 16
    dilation: int | Sequence[int] = 4
    combine: str = "sum"
    branches: str = "both"
    channel_layers: int = 1
    spatial_layers: int = 2
    channel_hidden: str = "relu"
    spatial_hidden: str = "relu"
    spatial_reduce: str | None = None
    final: str | Sequence[str] = "bn"
    channel_bias: bool | Sequence[bool] = True
    spatial_bias: bool | Sequence[bool] = True
    mlp: str = "linear"
    padding: int | Sequence[int] | None = None
    min_hidden: int | None = None
    legacy_pool: bool = False
    identity_start: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "reduction", "channel_layers", "spatial_layers"):
            _check_count(name, getattr(self, name))
        check_combine(self.combine)
        _check_choice("branches", self.branches, ("both", "channel", "spatial"))
        for name in ("channel_hidden", "spatial_hidden"):
            _check_choice(name, getattr(self, name), AFTER)
        for final in self.finals:
            _check_choice("final", final, AFTER)
        if self.spatial_reduce is not None:
            _check_choice("spatial_reduce", self.spatial_reduce, AFTER)
        _check_choice("mlp", self.mlp, ("linear", "conv"))
        _check_bool("legacy_pool", self.legacy_pool)
        _check_bool("identity_start", self.identity_start)
        if self.min_hidden is not None:
            _check_count("min_hidden", self.min_hidden)
        elif self.channels < self.reduction:
            raise ValueError(
                f"reduction must be at most channels, else no hidden channel is left: got reduction {self.reduction} for "
                f"{self.channels} channels (min_hidden sets a floor)"
            )
        _ = self.dilations, self.paddings, self.channel_biases, self.spatial_biases  # each checks itself

    @property
    def hidden(self) -> int:
        """The hidden width of both branches."""
        return max(self.min_hidden or 1, self.channels // self.reduction)

    @property
    def finals(self) -> tuple[str, str]:
        """What follows the last layer of the channel branch and of the spatial branch."""
        if isinstance(self.final, str) or not isinstance(self.final, Sequence):
            return self.final, self.final
        if len(self.final) != 2:
            raise ValueError(f"final must be one of {AFTER} or two, one for each branch, got {len(self.final)}")
        return self.final[0], self.final[1]

    @property
    def channel_widths(self) -> tuple[int, ...]:
        """The width before, between and after the layers of the channel branch."""
        return (self.channels, *[self.hidden] * self.channel_layers, self.channels)

    @property
    def channel_after(self) -> tuple[str, ...]:
        """What follows each layer of the channel branch."""
        return (*[self.channel_hidden] * self.channel_layers, self.finals[0])

    @property
    def spatial_after(self) -> tuple[str, ...]:
        """What follows each layer of the spatial branch."""
        return (
            self.spatial_reduce or self.spatial_hidden,
            *[self.spatial_hidden] * self.spatial_layers,
            self.finals[1],
        )

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of each 3x3 convolution."""
        return _each("dilation", self.dilation, self.spatial_layers, 1)

    @property
    def paddings(self) -> tuple[int, ...]:
        """The padding of each 3x3 convolution."""
        return self.dilations if self.padding is None else _each("padding", self.padding, self.spatial_layers, 0)

    @property
    def channel_biases(self) -> tuple[bool, ...]:
        """Whether each layer of the channel branch has a bias."""
        return tuple(map(bool, _each("channel_bias", self.channel_bias, self.channel_layers + 1, None)))

    @property
    def spatial_biases(self) -> tuple[bool, ...]:
        """Whether each layer of the spatial branch has a bias."""
        return tuple(map(bool, _each("spatial_bias", self.spatial_bias, self.spatial_layers + 2, None)))

    def describe(self) -> str:
        """The arguments that identify a BAM, then whichever others differ from their defaults."""
        shown = [
            str(self.channels),
            f"reduction={self.reduction}",
            f"dilation={self.dilation}",
            f"combine={self.combine!r}",
        ]
        shown += [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)[4:]
            if getattr(self, field.name) != field.default
        ]
        return ", ".join(shown)
