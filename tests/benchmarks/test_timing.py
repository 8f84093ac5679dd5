"""Interleaved timing: rounds in step, ratios round by round, quantiles."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from bam_fused.bench import timing
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


class FakeCuda:
    """Stands in for `torch.cuda`: writes down what is asked of the device, in order."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.spins: list[int] = []

    def get_device_properties(self, device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(L2_cache_size=1 << 20)

    def current_stream(self, device: torch.device) -> str:
        return "stream"

    def _sleep(self, cycles: int) -> None:
        self.spins.append(cycles)
        self.log.append("spin")

    def Event(self, enable_timing: bool) -> SimpleNamespace:
        return SimpleNamespace(
            record=lambda stream: self.log.append("event"),
            synchronize=lambda: self.log.append("wait"),
            elapsed_time=lambda end: 1.0,
        )


def test_on_cuda_every_call_meets_a_flushed_cache_and_a_busy_device(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    cuda = FakeCuda(log)
    monkeypatch.setattr(timing.torch, "cuda", cuda)
    plain = timing._CudaTimer(CPU)  # its tensors are the CPU's
    monkeypatch.setattr(timing, "_CudaTimer", lambda device: plain)
    flush = torch.sum
    monkeypatch.setattr(timing.torch, "sum", lambda *rest, **more: (log.append("flush"), flush(*rest, **more)))

    def call() -> None:
        log.append("call")
        time.sleep(1e-3)

    samples = interleave({"one": call}, torch.device("cuda"), Effort(seconds=0, least=3, most=3))
    assert samples == {"one": [1e-3] * 3}
    assert log == ["flush", "spin", "event", "call", "event", "wait"] * 5, "two warm-up calls, then one per sample"
    assert min(cuda.spins[1:]) >= timing.CYCLES_PER_SECOND * 1e-3, "the spin covers the host's time"
