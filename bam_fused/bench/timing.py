"""Timing competitors so that their ratios mean something: interleaved, in a new order every round, medians.

A round calls every competitor once. What changes on the machine meanwhile (clock, other load) meets all of them alike, and
the ratio of two is taken round by round. Every call makes fresh outputs, and they are released outside the timed part.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from bam_fused.bench.results import Spread

Call = Callable[[], object]

CYCLES_PER_SECOND = 2e9  # of a GPU's clock, about: a spin is rather too long than too short
LONGEST_SPIN = 0.02  # seconds: the host of a call that takes longer is not hidden, it is most of what anyone would see
SHORTEST_SAMPLE = 2e-4  # seconds: shorter calls are repeated within a sample, so that reading the clock costs nothing


@dataclass(frozen=True)
class Quantiles:
    """Median with the 20 and 80 % quantiles."""

    median: float
    low: float
    high: float

    def spread(self) -> Spread:
        """As it stands in a results file."""
        return {"median": self.median, "low": self.low, "high": self.high}

    @staticmethod
    def of(values: list[float]) -> Quantiles:
        if len(values) == 1:
            return Quantiles(values[0], values[0], values[0])
        fifths = statistics.quantiles(values, n=5, method="inclusive")
        return Quantiles(statistics.median(values), fifths[0], fifths[3])


@dataclass(frozen=True)
class Effort:
    """How long to measure one case."""

    seconds: float = 2.5
    """Time for all rounds together; at least `least` rounds are made, however long they take."""
    least: int = 7
    most: int = 60


def _time_on_cpu(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats - 1):
        call()
    kept = call()
    elapsed = time.perf_counter() - start
    del kept
    return elapsed / repeats


class _CudaTimer:
    """Device time of one call between two events, with a cold level-2 cache and without the host's time.

    The cache is flushed by reading: lines that a flush had written would be written back, and charged, during the call.
    A spinning kernel keeps the device busy while the host issues the call, so that no launch is waited for between the
    events. One call per flush: a second one would find its inputs in the cache.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        self.flush = torch.ones(max(2 * cache, 1 << 20) // 4, device=device)
        self.sink = torch.empty((), device=device)
        self.host: dict[Call, float] = {}

    def __call__(self, call: Call, repeats: int = 1) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(self.device)
        torch.sum(self.flush, 0, out=self.sink)
        torch.cuda._sleep(int(CYCLES_PER_SECOND * self._spin(call)))
        start.record(stream)
        issued = time.perf_counter()
        kept = call()
        self.host[call] = time.perf_counter() - issued
        end.record(stream)
        end.synchronize()
        del kept
        return start.elapsed_time(end) / 1e3

    def _spin(self, call: Call) -> float:
        """Seconds that cover what the host took for this call the last time, and the launches around it."""
        return min(LONGEST_SPIN, 2 * self.host.get(call, 0.0) + 5e-5)


def interleave(calls: Mapping[str, Call], device: torch.device, effort: Effort) -> dict[str, list[float]]:
    """Seconds per call of each competitor, one sample per round, in the same order for all: sample i is round i."""
    cuda = device.type == "cuda"
    timer: Callable[[Call, int], float] = _CudaTimer(device) if cuda else _time_on_cpu
    slowest, fastest = 0.0, float("inf")
    for call in calls.values():
        timer(call, 1)  # a first call may compile, plan or fill caches
        seconds = timer(call, 1)
        slowest, fastest = max(slowest, seconds), min(fastest, seconds)
    repeats = 1 if cuda else max(1, min(1000, round(SHORTEST_SAMPLE / fastest)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(0)
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for done in range(effort.most):
            if done >= effort.least and time.perf_counter() - start > effort.seconds:
                break
            shuffle.shuffle(order)
            for name in order:
                samples[name].append(timer(calls[name], repeats))
    finally:
        if collecting:
            gc.enable()
    return samples


def ratio(samples: list[float], over: list[float]) -> Quantiles:
    """How many times as long one competitor takes as the other, round by round."""
    return Quantiles.of([a / b for a, b in zip(samples, over, strict=True)])


def host_seconds(call: Call, device: torch.device, calls: int = 50) -> float:
    """What a call costs the host: the time until it returns, without waiting for the device."""
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    elapsed = time.perf_counter() - start
    torch.cuda.synchronize(device)
    return elapsed / calls
