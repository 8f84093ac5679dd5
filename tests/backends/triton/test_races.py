"""No kernel's result depends on the order in which its programs run: each element is stored once, none is loaded as well."""

from __future__ import annotations

import pytest
import torch
from drawing import feature_map, gradient
from implementations import randomise
from interpreter_accesses import checked_launches
from training_steps import path_taken

from bam_fused import BAM
from bam_fused.backends import triton as triton_backend
from bam_fused.bench.operations import DESCRIPTIONS

triton = pytest.importorskip("triton", reason="triton is not installed")
tl = triton.language

pytestmark = [
    pytest.mark.triton_interpret,
    pytest.mark.usefixtures("triton_backend"),
    pytest.mark.skipif(
        torch.cuda.is_available(), reason="watched in Triton's interpreter; a GPU runs compiled kernels"
    ),
]

SAMPLES = {
    name: samples
    for description in DESCRIPTIONS.values()
    for name, samples in description.operators.items()
    if name not in ("branches", "branches_backward")  # a training step has them
}


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", SAMPLES)
def test_operators(name, format):
    for shape in ((2, 40, 9, 15), (3, 17, 7, 7)):
        for dtype in (torch.float32, torch.bfloat16):
            for arguments in SAMPLES[name](feature_map(shape, dtype, format)):
                with checked_launches() as names:
                    triton_backend.kernel(name)(*arguments)
                assert names


@pytest.mark.parametrize("hidden", ["relu", "bn-relu"])
def test_a_training_step(hidden):
    shape = (3, 48, 7, 9)
    bam = randomise(BAM.official(48, 3, channel_hidden=hidden, spatial_hidden=hidden)).train()
    x = feature_map(shape).requires_grad_()
    assert path_taken(bam, x).name == "fused branches"
    with checked_launches() as names:
        bam(x).backward(gradient(shape))
    assert {"gradient_kernel", "dilated_conv_weight_grad_kernel", "squeeze_input_grad_kernel"} <= {*names}


@triton.jit
def _faulty_kernel(x_ptr, STORED: tl.constexpr, LOADED: tl.constexpr):
    at = tl.arange(0, 4)
    tl.store(x_ptr + tl.program_id(0) * STORED + at, tl.load(x_ptr + LOADED + at, at < 4, 0.0), at < 4)


@pytest.mark.parametrize(
    ("stored", "loaded", "fault"),
    [(2, 8, "stores an element twice"), (4, 4, "loads what it stores"), (4, 14, "beyond")],
)
def test_the_check_finds_faults(stored, loaded, fault):
    with pytest.raises(Exception, match=fault), checked_launches():
        _faulty_kernel[(2,)](torch.zeros(16), stored, loaded)
