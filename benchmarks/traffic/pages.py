"""What a BAM and its operators really read and write, counted by the pages of memory that they touch (pages.cpp).

Nothing is taken from what a kernel says of itself, nor timed: the same library as always runs, on one thread, with a cache
of `CACHE` bytes in front of memory. `counted` starts a process of its own, which has the counter loaded, for that.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bam_fused
from bam_fused.backends import run
from bam_fused.bench.cases import FORMATS
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.operations.bam import AuthorsBAM

COUNTER = Path(__file__).with_name("pages.cpp")
SHAPE = (4, 256, 56, 56)
REDUCED = (32, 16, 56, 56)
"""Of the reduction that the branches are given."""
CACHE = 6 << 20
"""Bytes: more than x and the output of one sample need, less than half of the whole x, and less than the reduction."""
SMALLEST = 1 << 16
"""Bytes of the smallest block that is counted: everything but vectors and weights."""


@dataclass(frozen=True)
class Counted:
    """What one call moved between the simulated cache and memory, in passes over x, or over the reduction."""

    name: str
    memory_format: str
    read: float
    written: float
    small: float
    """Read and written of what is smaller than half of x: reduced maps."""

    @property
    def passes(self) -> float:
        """Over x and what has its size."""
        return self.read + self.written


def why_not() -> str | None:
    """Why pages cannot be counted on this machine; None where they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        return "pages are counted on Linux with glibc, on x86-64"
    return None if shutil.which("g++") else "g++ is not installed"


def counted(*names: str) -> list[Counted]:
    """Counts an operator ("gate"), or a module ("fused", "eager") in inference, forward and backward; by default all.

    Raises:
        RuntimeError: it was not possible; the message says what went wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder, "pages.so"))
        subprocess.run(["g++", "-std=c++17", "-O2", "-fPIC", "-shared", str(COUNTER), "-o", library], check=True)
        path = os.pathsep.join(str(part) for part in (COUNTER.parents[2], COUNTER.parents[1]))
        done = subprocess.run(
            [sys.executable, "-m", "traffic.pages", *names],
            env={**os.environ, "LD_PRELOAD": library, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"counting pages failed ({done.returncode}): {done.stderr[-2000:]}")
    return [Counted(**line) for line in json.loads(done.stdout)]


def _operator_calls(x: Tensor, reduced: Tensor) -> Iterator[tuple[str, Tensor, Callable[[], Any]]]:
    """The CPU library's operators on feature maps, as many of them as each takes, or on a reduced one; and on which."""
    for operation, description in DESCRIPTIONS.items():
        for name, samples in description.operators.items():
            if name.startswith("branches"):
                *_, arguments = samples(reduced)  # norms over the batch
                yield name, reduced, partial(run, name, *arguments)
            elif operation != "dilated_conv":  # part of those
                yield name, x, partial(run, name, *max(samples(x), key=partial(_maps, x.shape)))


def _maps(shape: torch.Size, arguments: tuple[Any, ...]) -> int:
    return sum(isinstance(one, Tensor) and one.shape == shape for one in arguments)


def _module_calls(name: str, x: Tensor) -> Iterator[tuple[str, Tensor, Callable[[], Any]]]:
    """A module's inference, and the halves of its training step, of which the second waits for the first to be done.

    In training its norms take the statistics of the batch.
    """
    fused = bam_fused.BAM.official(x.shape[1])
    module = (fused if name == "fused" else AuthorsBAM(fused, mean=True)).to(x.dtype)
    dtype = "" if x.dtype == torch.float32 else f" {str(x.dtype)[6:]}"
    yield f"{name} inference{dtype}", x, torch.no_grad()(partial(module.eval(), x))
    module.train()
    leaf, grad, outputs = x.detach().requires_grad_(), torch.randn_like(x), []
    yield f"{name} forward{dtype}", x, lambda: outputs.append(module(leaf))
    yield f"{name} backward{dtype}", x, lambda: outputs.pop().backward(grad)


def _count(call: Callable[[], Any], x_bytes: int) -> tuple[float, ...]:
    bytes = (ctypes.c_uint64 * 3)()
    counter = ctypes.CDLL(None)
    counter.start_counting(ctypes.c_size_t(CACHE), ctypes.c_size_t(x_bytes // 2))
    try:
        kept = call()
    finally:
        counter.stop_counting(bytes)
    del kept
    return tuple(number / x_bytes for number in bytes)


def main(names: list[str]) -> None:
    """In the process that has the counter: counts, and prints what it counted."""
    torch.set_num_threads(1)
    ctypes.CDLL(None).watch_from(ctypes.c_size_t(SMALLEST))
    found = []
    for memory_format, layout in FORMATS.items():
        x = torch.randn(SHAPE).contiguous(memory_format=layout)
        halves = torch.cat([x, x]).bfloat16().contiguous(memory_format=layout)  # of as many bytes
        reduced = torch.randn(REDUCED).contiguous(memory_format=torch.channels_last)  # as the squeeze hands it over
        calls = chain(
            _operator_calls(x, reduced),
            _module_calls("fused", x),
            _module_calls("fused", halves),
            _module_calls("eager", x),
        )
        for name, of, call in calls:
            if not names or name.partition(" ")[0] in names:
                read, written, small = _count(call, of.nbytes)
                found.append(asdict(Counted(name, memory_format, read, written, small)))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
