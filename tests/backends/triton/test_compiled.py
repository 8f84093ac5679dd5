"""The kernels of a whole BAM as they are compiled ahead of time for an A100, an H100 and a B200."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

SHARED_MEMORY = 163 * 1024  # of a block on an A100, the least of these
KERNELS = {
    "squeeze_kernel",
    "dilated_conv_kernel",
    "dense_kernel",
    "moments_kernel",
    "vectors_kernel",
    "normalise_kernel",
    "gradient_sums_kernel",
    "gradient_kernel",
    "dilated_conv_weight_grad_kernel",
    "squeeze_weight_grad_kernel",
    "squeeze_input_grad_kernel",
    "gate_backward_kernel",
    "sum_partials_kernel",
    "gate_kernel",
}


def test_every_kernel_compiles_and_spills_nothing():
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compiled_layers.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = defaultdict(set)
    for line in done.stdout.splitlines():
        name, capability, stack, shared = line.split()
        found[capability].add(name)
        assert stack == "0" and int(shared) <= SHARED_MEMORY, line
    assert dict(found) == {"80": KERNELS, "90": KERNELS, "100": KERNELS}
