"""Between an implementation's state_dict and BAM's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from bam_fused.layouts import LAYOUTS
from bam_fused.layouts.layout import Fit, Row


def to_canonical(fit: Fit, entries: Mapping[str, Any]) -> dict[str, Tensor]:
    """The entries under BAM's own keys, 1x1-convolution MLPs as Linear.

    Raises:
        ValueError: a shape does not fit the channels and the hidden width that the 1x1 reduction shows.
    """
    channels, hidden = widths(fit, entries)
    canonical = {}
    for key, here, _ in fit.entries():
        if here in entries:
            value = _mlp_weight(key, torch.as_tensor(entries[here]), conv=False)
            shape = _shape(key, fit, channels, hidden)
            if value.shape != shape:
                raise ValueError(
                    f"{here} has shape {tuple(value.shape)}, where {shape} goes with the {channels} channels and hidden "
                    f"width {hidden} that {_first(fit).layer}.weight shows"
                )
            canonical[key] = value
    return canonical


class Structure(Protocol):
    """What of a BAM's options decides which layouts can hold it."""

    @property
    def combine(self) -> str: ...
    @property
    def branches(self) -> str: ...
    @property
    def identity_start(self) -> bool: ...
    @property
    def channel_after(self) -> tuple[str, ...]: ...
    @property
    def spatial_after(self) -> tuple[str, ...]: ...


def from_canonical(name: str, bam: Structure, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict of a BAM with these options under the keys of layout `name`.

    Raises:
        TypeError, ValueError: no such layout, or its implementation would compute something else from these weights.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, one of {tuple(LAYOUTS)}, got {type(name).__name__}")
    if name not in LAYOUTS:
        raise ValueError(f"name must be one of {tuple(LAYOUTS)}, got {name!r}")
    layout = LAYOUTS[name]
    if bam.identity_start or (bam.branches != "both" and not layout.partial):
        raise ValueError(f"name {name!r} does not fit: it has two branches and no residual_scale")
    if bam.branches == "both" and bam.combine != layout.combine and not layout.combine_is_open:
        raise ValueError(
            f"name {name!r} does not fit: it combines by {layout.combine!r}, this module by {bam.combine!r}"
        )
    fit = layout.rows(_repeats(layout.channel, bam.channel_after), _repeats(layout.spatial, bam.spatial_after))
    if layout.partial:
        fit = fit.present({here for key, here, _ in fit.entries() if key in state})
    for branch, rows, here in (
        ("channel", fit.channel, bam.channel_after),
        ("spatial", fit.spatial, bam.spatial_after),
    ):
        theirs = tuple(row.after for row in rows)
        if rows and theirs != here:
            raise ValueError(
                f"name {name!r} does not fit: its {branch} layers are followed by {theirs}, these by {here}"
            )
    conv = layout.mlp == "conv"
    return {here: _mlp_weight(key, state[key], conv) for key, here, _ in fit.entries() if key in state}


def _mlp_weight(key: str, value: Tensor, conv: bool) -> Tensor:
    """A weight of the channel branch as that of a 1x1 convolution, or of a Linear; anything else as it is."""
    if key.startswith("channel.linears.") and value.dim() in (2, 4) and value.shape[2:] in ((), (1, 1)):
        return value.reshape(*value.shape[:2], *((1, 1) if conv else ()))
    return value


def widths(fit: Fit, entries: Mapping[str, Any]) -> tuple[int, int]:
    """(channels, hidden width), from the weight of the 1x1 reduction, or of the first Linear where there is none.

    Raises:
        ValueError: that weight is not (hidden, channels, 1, 1), or (hidden, channels).
    """
    key = f"{_first(fit).layer}.weight"
    shape = tuple(entries[key].shape)
    if not (len(shape) == 4 and shape[2:] == (1, 1)) and not (len(shape) == 2 and not fit.spatial):
        raise ValueError(f"{key} must have shape (hidden, channels, 1, 1), got {shape}")
    return shape[1], shape[0]


def _first(fit: Fit) -> Row:
    """The layer that shows both widths."""
    return (fit.spatial or fit.channel)[0]


def options(fit: Fit, channels: int, hidden: int, keys: Any) -> dict[str, Any]:
    """The arguments of `BAM` that make these layers, but for combine, dilation and padding, which keys do not tell.

    Raises:
        ValueError: the hidden layers of a branch are followed by different things, which `BAM` does not have.
    """
    exact = channels // hidden > 0 and channels // (channels // hidden) == hidden
    given: dict[str, Any] = {
        "channels": channels,
        "reduction": channels // hidden if exact else channels,
        "min_hidden": None if exact else hidden,
        "branches": "both" if fit.channel and fit.spatial else "channel" if fit.channel else "spatial",
    }
    finals = {"channel": "none", "spatial": "none"}
    if fit.channel:
        given["channel_layers"] = len(fit.channel) - 1
        given["channel_hidden"] = _same(fit.channel[:-1])
        given["channel_bias"] = tuple(f"{row.layer}.bias" in keys for row in fit.channel)
        finals["channel"] = fit.channel[-1].after
    if fit.spatial:
        given["spatial_layers"] = len(fit.spatial) - 2
        given["spatial_reduce"] = fit.spatial[0].after
        given["spatial_hidden"] = _same(fit.spatial[1:-1])
        given["spatial_bias"] = tuple(f"{row.layer}.bias" in keys for row in fit.spatial)
        finals["spatial"] = fit.spatial[-1].after
    there = [final for branch, final in finals.items() if given["branches"] in ("both", branch)]
    return given | {"final": there[0] if len(set(there)) == 1 else tuple(finals.values())}


def _same(rows: tuple[Row, ...]) -> str:
    """What follows each of these layers."""
    after = {row.layer: row.after for row in rows}
    if len(set(after.values())) != 1:
        raise ValueError(f"no BAM has hidden layers of one branch that are followed by different things: {after}")
    return rows[0].after


def _shape(key: str, fit: Fit, channels: int, hidden: int) -> tuple[int, ...]:
    """The shape of an entry of BAM's own state_dict."""
    branch, kind, index, entry = key.split(".")
    if entry == "num_batches_tracked":
        return ()
    last = int(index) == len(getattr(fit, branch)) - 1
    out = (channels if branch == "channel" else 1) if last else hidden
    if kind == "norms" or entry == "bias":
        return (out,)
    into = channels if index == "0" else hidden
    return (out, into) if branch == "channel" else (out, into, *((1, 1) if last or index == "0" else (3, 3)))


def _repeats(rows: tuple[Row, ...], after: tuple[str, ...]) -> int:
    return max(0, len(after) - sum(not row.repeated for row in rows))
