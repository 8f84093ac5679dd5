"""A clock for pytest-benchmark that replays samples already taken: a replayed call takes as long as its sample did."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_now = 0.0


def clock() -> float:
    """The time that the replayed calls have reached, in seconds."""
    return _now


def advance_by(samples: Iterable[float]) -> Callable[[], None]:
    """A call that takes, by `clock`, as long as the next sample each time it is made."""
    remaining = iter(samples)

    def advance() -> None:
        global _now
        _now += next(remaining)

    return advance
