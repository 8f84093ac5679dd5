"""Which layout the keys of a BAM follow, and where a checkpoint's BAMs are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from bam_fused.layouts import LAYOUTS
from bam_fused.layouts.layout import Fit, fit
from bam_fused.wrappers import unwrapped_name, unwrapped_names

_NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights


def recognise(keys: Collection[str], children: Collection[str] | None = None) -> Fit | None:
    """The layout whose entries these are, all of them and no others; None if there is none.

    Args:
        keys: names of parameters and buffers.
        children: the names of all children, of a live module.
    """
    for layout in LAYOUTS.values():
        candidate = fit(layout, keys, children)
        if candidate.misfit(keys, children) == ([], []):
            return candidate
    return None


def closest(keys: Collection[str], children: Collection[str] | None = None) -> tuple[Fit, list[str], list[str]] | None:
    """The layout that shares at least half of its entries with keys, what it misses and what it does not know."""
    best, best_share = None, 0.5
    for layout in LAYOUTS.values():
        candidate = fit(layout, keys, children)
        needed = [key for _, key, needed in candidate.entries() if needed]
        share = sum(key in keys for key in needed) / len(needed)
        if share > best_share or (share == best_share and best is None):
            best, best_share = (candidate, *candidate.misfit(keys, children)), share
    return best


def why_not(keys: Collection[str], children: Collection[str] | None = None, most: int = 30) -> str:
    """Why keys fit no layout; of those that half match, at most so many are named."""
    near = closest(keys, children)
    if near is None:
        return f"its entries ({_few(sorted(keys), min(most, 6))}) fit no known layout"
    candidate, missing, unexpected = near
    parts = [*_missing(candidate, missing, most), *[f"also has {_few(unexpected, most)}"] * bool(unexpected)]
    return f"its entries are nearly those of layout {candidate.layout.name!r}, but it {' and '.join(parts)}"


def _missing(candidate: Fit, missing: list[str], most: int) -> list[str]:
    """What is missing, in words: a branch, the norms of layers that are there, single entries."""
    parts, named = [], set()
    for branch, rows in (("channel", candidate.channel), ("spatial", candidate.spatial)):
        if rows and all(f"{row.layer}.weight" in missing for row in rows):
            parts.append(f"has no {branch} branch ({rows[0].layer} and so on)")
            named |= {key for key in missing for row in rows if key.startswith((f"{row.layer}.", f"{row.norm}."))}
    bare = []
    for _, _, row in candidate.layers():
        norm = {key for _, key, needed in candidate.entries() if needed and key.startswith(f"{row.norm}.")}
        if norm and norm.isdisjoint(named) and norm.issubset(missing):
            bare.append(row.layer)
            named |= norm
    rest = [key for key in missing if key not in named]
    parts += [f"has no BatchNorm after {_few(bare, most)}"] * bool(bare)
    return parts + [f"lacks {_few(rest, most)}"] * bool(rest)


def _few(keys: list[str], most: int) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "") or "none"


def bam_entries(state: Mapping[str, Any], prefix: str = "") -> tuple[Fit, dict[str, Any]]:
    """The entries of one BAM in a checkpoint, with their layout; see `BAM.from_state_dict`.

    Raises:
        TypeError: state is not a mapping of names to arrays, prefix not a string.
        ValueError: nothing there, more than one BAM there, or entries that fit no layout.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, got {type(prefix).__name__}")
    entries = _entries(state)
    prefix = unwrapped_name(prefix)
    prefix = prefix and prefix.rstrip(".") + "."
    below = _below(entries, prefix)
    if not below:
        raise ValueError(f"prefix must be the path of a BAM in state, got {prefix!r}; BAMs are at {_where(entries)}")
    whole = recognise(below)
    if whole is not None:
        return whole, below
    found = find_bams(below)
    if len(found) == 1:
        ((path, inner),) = found.items()
        return inner, _below(below, path)
    if found:
        raise ValueError(f"state holds {len(found)} BAMs; choose one with prefix: {_where(below)}")
    near = next(iter(_candidates(below)), "")  # the rest of a network would drown what is missing
    at = f"at {near!r} " if near else ""
    raise ValueError(
        f"state can not be read as a BAM: {at}{why_not(_below(below, near))} (known: {', '.join(LAYOUTS)})"
    )


def find_bams(entries: Mapping[str, Any]) -> dict[str, Fit]:
    """The prefix of every BAM in a state_dict, with its layout."""
    fits = {prefix: recognise(_below(entries, prefix)) for prefix in _candidates(entries)}
    return {prefix: fit for prefix, fit in fits.items() if fit is not None}


def _candidates(entries: Mapping[str, Any]) -> dict[str, None]:
    """The prefixes at which the first layer of a layout stands, in the state_dict's order."""
    firsts = {
        rows[0].at(0, 0).layer + ".weight"
        for layout in LAYOUTS.values()
        for rows in ((layout.channel, layout.spatial) if layout.partial else (layout.channel,))
    }
    return {
        key.removesuffix(first): None
        for key in entries
        for first in firsts
        if key == first or key.endswith("." + first)
    }


def _below(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)}


def _where(entries: Mapping[str, Any]) -> str:
    return ", ".join(repr(prefix) for prefix in find_bams(entries)) or "no prefix"


def _entries(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries alone: out of a training script's dict, without DataParallel's and torch.compile's prefixes."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a mapping of names to tensors, as torch.load gives, got {type(state).__name__}")
    for name in _NESTED:
        if isinstance(state.get(name), Mapping):
            return _entries(state[name])
    entries = dict(state)
    for key, value in entries.items():
        if not isinstance(key, str) or not (isinstance(value, Tensor) or hasattr(value, "__array__")):
            raise TypeError(f"state must map names to tensors, got {key!r}: {type(value).__name__}")
    return unwrapped_names(entries)
