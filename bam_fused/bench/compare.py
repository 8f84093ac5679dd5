"""The regression guard: a run against an earlier one of the same device, by the ratios and not by the milliseconds.

Ratios of one run, taken round by round on the same inputs, carry from one day to the next what milliseconds do not. A
ratio has moved when the two runs' 20-80 % intervals do not meet and their medians differ by more than `LEAST`.
"""

from __future__ import annotations

from dataclasses import dataclass

from bam_fused.bench.results import Results, identity, label, over_fused, row

LEAST = 0.05
AGAINST = ("eager", "compile", "clone")


@dataclass(frozen=True)
class Move:
    """A ratio (competitor's time over the fused one's) that is not what it was."""

    case: str
    competitor: str
    before: float
    now: float

    @property
    def worse(self) -> bool:
        return self.now < self.before

    def __str__(self) -> str:
        word = "slower" if self.worse else "faster"
        change = abs(self.now / self.before - 1)
        return f"{word:6} {self.case}: {self.before:.2f}x {self.competitor} before, {self.now:.2f}x now ({change:.0%})"


@dataclass(frozen=True)
class Comparison:
    """What moved beyond noise, what is missing now, and how many ratios were compared."""

    moves: list[Move]
    missing: list[str]
    compared: int

    @property
    def worse(self) -> bool:
        return bool(self.missing) or any(move.worse for move in self.moves)


def compare(now: Results, before: Results) -> Comparison:
    """Compare the ratios of two runs, case by case.

    Raises:
        ValueError: the runs are of two devices, or have no case in common.
    """
    devices = [results["machine"]["device"] for results in (before, now)]
    if devices[0] != devices[1]:
        raise ValueError(f"the baseline is of another device: {devices[0]!r}, and this run is of {devices[1]!r}")
    earlier = {identity(case): case for case in before["cases"]}
    moves: list[Move] = []
    missing: list[str] = []
    compared = 0
    for case in now["cases"]:
        old = earlier.get(identity(case))
        if old is None:
            continue
        if row(old, "fused") and not row(case, "fused"):
            missing.append(f"{label(case)}: the fused one has no figure: {case['absent'].get('fused', case['absent'])}")
        for competitor in AGAINST:
            was, is_now = over_fused(old, competitor), over_fused(case, competitor)
            if was is None or is_now is None:
                continue
            compared += 1
            apart = is_now["low"] > was["high"] or is_now["high"] < was["low"]
            if apart and abs(is_now["median"] / was["median"] - 1) > LEAST:
                moves.append(Move(label(case), competitor, was["median"], is_now["median"]))
    if not compared and not missing:
        raise ValueError("the two runs have no case in common")
    return Comparison(moves, missing, compared)
