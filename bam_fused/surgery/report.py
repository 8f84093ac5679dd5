"""What `replace_bam` did, and what it left alone and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from bam_fused.composition.explain import Paths
from bam_fused.text_table import text_table


@dataclass(frozen=True)
class Entry:
    """One BAM, or one module that looks like a BAM."""

    name: str
    """Its path in the model; "" for the model itself."""
    class_name: str
    layout: str | None = None
    combine: str | None = None
    """"sum", "product" or "max"; "channel alone" or "spatial alone" where it has, or uses, one branch."""
    channels: int | None = None
    difference: float | None = None
    """Largest absolute difference to the original on the drawn inputs; None where nothing was run."""
    replaced: bool = False
    """Whether it now has the fused forward (since this call or an earlier one)."""
    reason: str = ""
    """Why it was left alone, or what to know about the replacement."""
    paths: Paths | None = None
    """Which paths it takes in inference and in training, and why not the fastest; None where it was left alone."""

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of its line in the printed table."""
        return (
            self.name or "(the model)",
            self.class_name,
            self.layout or "-",
            self.combine or "-",
            str(self.channels or "-"),
            "-" if self.difference is None else f"{self.difference:.1e}",
            "replaced" if self.replaced else "left alone",
            "-" if self.paths is None else self.paths.inference.described(),
            "-" if self.paths is None else self.paths.training.described(),
            self.reason,
        )


_HEADER = (
    "module",
    "class",
    "layout",
    "combine",
    "channels",
    "max difference",
    "result",
    "inference",
    "training",
    "note",
)


class Report(Sequence[Entry]):
    """The entries in the model's order; prints as a table."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)

    @property
    def replaced(self) -> tuple[Entry, ...]:
        """The BAMs that have the fused forward."""
        return tuple(entry for entry in self if entry.replaced)

    @property
    def left_alone(self) -> tuple[Entry, ...]:
        """The modules that were not touched, each with its reason."""
        return tuple(entry for entry in self if not entry.replaced)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __str__(self) -> str:
        if not self._entries:
            return "no BAM found"
        return text_table(_HEADER, [entry.row for entry in self])

    __repr__ = __str__
