"""What a layout is: a table of the names that one public implementation gives to the layers of BAM.

A branch is a row for each of its layers. `{i}` in a row stands for 0, 1, ... and `{j}` for i + 1, in a row that is
repeated for as many layers as there are; `{n}` is how many there were.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

NORM_ENTRIES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Row:
    """One layer of a branch."""

    layer: str
    """Path of the Linear or Conv2d."""
    norm: str | None = None
    """Path of the BatchNorm on its output; None where there is none."""
    relu: str | bool = False
    """Path of the ReLU module that follows; True where it is a function, False where there is none."""

    @property
    def repeated(self) -> bool:
        return "{i}" in self.layer or "{j}" in self.layer

    @property
    def after(self) -> str:
        """What follows the layer, as `BAM`'s options say it."""
        return "-".join(("bn",) * (self.norm is not None) + ("relu",) * bool(self.relu)) or "none"

    def at(self, i: int, n: int) -> Row:
        """The row with its placeholders filled in."""

        def fill(path: str) -> str:
            return path.format(i=i, j=i + 1, n=n)

        norm, relu = self.norm, self.relu
        return Row(fill(self.layer), norm and fill(norm), fill(relu) if isinstance(relu, str) else relu)


@dataclass(frozen=True)
class Layout:
    """One public implementation's names, and what its own code does where the names do not tell."""

    name: str
    source: str
    """The repository it was read in."""
    channel: tuple[Row, ...]
    """The channel branch: hidden layers, then the last one."""
    spatial: tuple[Row, ...]
    """The spatial branch: reduction, dilated convolutions, then the last one."""
    combine: str
    """How its own code combines the branches."""
    combine_is_open: bool = False
    """Whether code with these very names is in use that combines them otherwise."""
    dilation: int | tuple[int, ...] = 4
    """The dilation its own code takes by default; a tuple where each convolution has another."""
    dilation_is_open: bool = False
    """Whether its own code takes it as an argument, so that a checkpoint may be of another."""
    mlp: str = "linear"
    """"linear" or "conv": what the layers of its channel branch are."""
    crops: bool = False
    """Whether its own code pools only the left H x H crop of a wider map."""
    norm_entries: tuple[str, ...] = NORM_ENTRIES
    """What it calls the entries of a BatchNorm, in the order of `NORM_ENTRIES`."""
    partial: bool = False
    """Whether code with these names is in use that leaves out norms or a whole branch."""

    def may_be(self, children: Collection[str]) -> bool:
        """Whether a module with these direct children may follow this layout: a cheap first look."""
        branches = [
            {row.layer.split(".")[0] for row in rows if not row.repeated} for rows in (self.channel, self.spatial)
        ]
        there = [roots.issubset(children) for roots in branches]
        return any(there) if self.partial else all(there)

    def rows(self, channel_repeats: int, spatial_repeats: int) -> Fit:
        """The rows written out for so many repeated layers."""
        return Fit(self, _written_out(self.channel, channel_repeats), _written_out(self.spatial, spatial_repeats))


@dataclass(frozen=True)
class Fit:
    """A layout with its rows written out, one for each layer that is there."""

    layout: Layout
    channel: tuple[Row, ...]
    spatial: tuple[Row, ...]

    @property
    def dilation_is_a_guess(self) -> bool:
        """Whether a checkpoint may be of code that took another dilation than the layout's."""
        return bool(self.spatial) and (self.layout.dilation_is_open or not self.channel)

    def layers(self) -> Iterator[tuple[str, str, Row]]:
        """For each layer: its canonical path in `BAM`, that of its norm, and its row."""
        for i, row in enumerate(self.channel):
            yield f"channel.linears.{i}", f"channel.norms.{i}", row
        for i, row in enumerate(self.spatial):
            yield f"spatial.convs.{i}", f"spatial.norms.{i}", row

    def entries(self) -> Iterator[tuple[str, str, bool]]:
        """For each state_dict entry: its canonical key, its key here, and whether it can not be absent."""
        for layer, norm, row in self.layers():
            yield f"{layer}.weight", f"{row.layer}.weight", True
            yield f"{layer}.bias", f"{row.layer}.bias", False
            if row.norm is not None:
                for canonical, here in zip(NORM_ENTRIES, self.layout.norm_entries, strict=False):
                    yield f"{norm}.{canonical}", f"{row.norm}.{here}", canonical != "num_batches_tracked"

    def misfit(self, keys: Collection[str], children: Collection[str] | None = None) -> tuple[list[str], list[str]]:
        """The entries that are missing from keys and those that are none of this layout's.

        A live module, of which all children are named, may have norms of another kind (GroupNorm under the same name)
        that lack any of the entries.
        """
        norms = tuple(f"{row.norm}." for _, _, row in self.layers() if row.norm in (children or ()))
        entries = list(self.entries())
        missing = [key for _, key, needed in entries if needed and key not in keys and not key.startswith(norms)]
        known = {key for _, key, _ in entries}
        return missing, [key for key in keys if key not in known]

    def present(self, keys: Collection[str], children: Collection[str] | None = None) -> Fit:
        """Without the branches that have no layer there, unless neither has, and without the norms that are not there."""

        def there(norm: str) -> bool:
            return norm in children if children is not None else any(key.startswith(f"{norm}.") for key in keys)

        branches = [
            tuple(replace(row, norm=row.norm if row.norm and there(row.norm) else None) for row in rows)
            if any(f"{row.layer}.weight" in keys for row in rows)
            else ()
            for rows in (self.channel, self.spatial)
        ]
        return Fit(self.layout, *branches) if any(branches) else self


def fit(layout: Layout, keys: Collection[str], children: Collection[str] | None = None) -> Fit:
    """The layout with as many repeated layers as the keys hold; see `Fit.misfit` for whether it fits.

    Args:
        layout: the layout.
        keys: names of parameters and buffers.
        children: the names of all children, of a live module.
    """

    def written_out(counts: list[int]) -> Fit:
        rows = layout.rows(*counts)
        return rows.present(keys, children) if layout.partial else rows

    counts = [_count(branch, keys) for branch in (layout.channel, layout.spatial)]
    best = written_out(counts)
    for number in range(2):  # a last layer numbered like the hidden ones counts as one too many
        fewer = [count - (index == number) for index, count in enumerate(counts)]
        if min(fewer) >= 0:
            other = written_out(fewer)
            if _misfits(other, keys, children) < _misfits(best, keys, children):
                best, counts = other, fewer
    return best


def _misfits(candidate: Fit, keys: Collection[str], children: Collection[str] | None) -> int:
    missing, unexpected = candidate.misfit(keys, children)
    return len(missing) + len(unexpected)


def _count(branch: tuple[Row, ...], keys: Collection[str]) -> int:
    for row in branch:
        if row.repeated:
            count = 0
            while f"{row.at(count, 0).layer}.weight" in keys:
                count += 1
            return count
    return 0


def _written_out(branch: tuple[Row, ...], repeats: int) -> tuple[Row, ...]:
    rows: list[Row] = []
    for row in branch:
        rows += [row.at(i, repeats) for i in range(repeats if row.repeated else 1)]
    return tuple(rows)


def numbered(path: str, hidden: int, start: int = 0) -> tuple[Row, ...]:
    """A branch in one Sequential: `hidden` layers, each with BatchNorm and ReLU, then the last layer alone."""
    rows = tuple(Row(f"{path}{i}", f"{path}{i + 1}", f"{path}{i + 2}") for i in range(start, start + 3 * hidden, 3))
    return (*rows, Row(f"{path}{start + 3 * hidden}"))


def variant(layout: Layout, name: str, **changes: object) -> Layout:
    """A layout that differs from another in a few entries."""
    return replace(layout, name=name, **changes)  # type: ignore[arg-type]
