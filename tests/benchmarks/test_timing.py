"""Interleaved timing: rounds in step, ratios round by round, quantiles."""

from __future__ import annotations

import time

import pytest
import torch

from bam_fused.bench.timing import Effort, Quantiles, interleave, ratio

CPU = torch.device("cpu")


def test_every_round_calls_every_competitor() -> None:
    calls: list[str] = []

    def competitor(name: str) -> None:
        calls.append(name)
        time.sleep(3e-4)  # longer than the shortest sample, so that a sample is one call

    samples = interleave(
        {name: (lambda name=name: competitor(name)) for name in "abc"}, CPU, Effort(seconds=0, least=5, most=5)
    )
    assert {name: len(times) for name, times in samples.items()} == {"a": 5, "b": 5, "c": 5}
    rounds = [calls[i : i + 3] for i in range(6, len(calls), 3)]  # the first six calls are the warm-up
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1, "the order must change from round to round"


def test_stops_when_the_time_is_up() -> None:
    samples = interleave({"sleep": lambda: time.sleep(0.01)}, CPU, Effort(seconds=0.05, least=2, most=1000))
    assert 2 <= len(samples["sleep"]) <= 10


def test_ratio_is_taken_round_by_round() -> None:
    drifting = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert ratio([3 * value for value in drifting], drifting) == Quantiles(3.0, 3.0, 3.0)


def test_quantiles() -> None:
    found = Quantiles.of([float(value) for value in range(11)])
    assert (found.median, found.low, found.high) == (5.0, 2.0, 8.0)
    assert Quantiles.of([7.0]) == Quantiles(7.0, 7.0, 7.0)


def test_short_calls_are_repeated_within_a_sample() -> None:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1

    samples = interleave({"short": call}, CPU, Effort(seconds=0, least=3, most=3))
    assert len(samples["short"]) == 3
    assert count > 100
    assert samples["short"][0] == pytest.approx(0, abs=1e-4)
