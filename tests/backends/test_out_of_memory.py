"""Where memory is short, the error of PyTorch's own operators, and nothing on stderr."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import bam_fused
from bam_fused.backends import cpu, out_of_memory
from bam_fused.ops import OPERATORS

SHORT = """
import json, resource, sys, torch
from torch import nn
import bam_fused
from bam_fused.backends import run

x = torch.ones(()).expand(64, 1024, 512, 512)  # 64 GiB, were they there
channel, spatial, weight = torch.ones(()).expand(64, 1024), torch.ones(()).expand(64, 512, 512), torch.ones(16, 1024)

module = bam_fused.BAM(1024).eval()
torch.set_grad_enabled(False)
calls = {
    "PyTorch": lambda: torch.empty_like(x),
    "gate": lambda: bam_fused.gate(x, channel, spatial),
    "gate_backward": lambda: run("gate_backward", x, x, channel, spatial, "sum"),
    "bam": lambda: module(x),
    "squeeze_input_grad": lambda: run(
        "squeeze_input_grad", x, weight, channel, x[:, :16], None, None, None, "sum"
    ),
}
module(torch.ones(1, 1024, 2, 2))
limit = 8 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
said = {}
for name, call in calls.items():
    try:
        call()
    except Exception as failure:
        said[name] = [type(failure).__name__, str(failure)]
print(json.dumps(said))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of address space")
@pytest.mark.skipif(cpu.library is None, reason="no CPU library")
def test_the_error_is_pytorchs_own():
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert "you tried to allocate 68719476736 bytes" in said["PyTorch"][1]
    assert all(one == said["PyTorch"] for one in said.values()), said
    assert len(said) == 5


TEXT = "CUDA out of memory. Tried to allocate 64.00 GiB."


def test_its_class_under_cuda():
    def operator(failure: Exception) -> None:
        raise failure

    run = out_of_memory.typed(operator, lambda failure: None)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=TEXT):
        run(RuntimeError(TEXT))
    for other in (RuntimeError("CUDA error: an illegal memory access"), torch.OutOfMemoryError(TEXT), KeyError(TEXT)):
        with pytest.raises(type(other)) as caught:
            run(other)
        assert caught.value is other


def test_its_class_where_pytorch_does_not_tell(monkeypatch):
    monkeypatch.setattr(out_of_memory, "TOLD", False)

    def operator(short: bool) -> None:
        raise RuntimeError("API call failed")

    def results(short: bool) -> None:
        if short:
            raise torch.OutOfMemoryError(TEXT)

    run = out_of_memory.typed(operator, results)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=TEXT):
        run(True)
    with pytest.raises(RuntimeError, match="API call failed"):
        run(False)


@pytest.mark.skipif(torch.version.cuda is None, reason="this PyTorch was built without CUDA")
@pytest.mark.skipif(cpu.library is None, reason="no CPU library, so that the graph holds no operator")
def test_its_class_in_a_compiled_graph(monkeypatch):
    overload = torch.ops.bam_fused.gate.compiled
    arguments = torch.randn(2, 8, 4, 4), torch.randn(2, 8), torch.randn(2, 4, 4)
    compiled = torch.compile(bam_fused.gate, backend="aot_eager")
    assert torch.equal(compiled(*arguments), bam_fused.gate(*arguments))

    def short(*arguments: object) -> None:
        raise RuntimeError(TEXT)

    monkeypatch.setattr(overload, "_op", short)
    out_of_memory.type_in_graphs(overload, lambda *arguments: None)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=TEXT):
        compiled(*arguments)


def test_an_overload_has_it_from_the_start():
    for operator in OPERATORS:
        overload = getattr(torch.ops.bam_fused, operator).compiled
        assert (out_of_memory.bare(overload) is not overload._op) == (torch.version.cuda is not None)


def test_tried_first_where_pytorch_does_not_tell():
    calls = []
    run = out_of_memory.tried_first(
        lambda x: calls.append(("operator", x)) or 1, lambda x: calls.append(("results", x))
    )
    assert run(3) == 1
    assert calls == [("results", 3), ("operator", 3)]
