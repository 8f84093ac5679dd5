"""Launching: what reaches the driver, when Triton steps aside, and what is said then."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from checking import compiling_process
from drawing import feature_map, logits
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import bam_fused
from bam_fused import backends
from bam_fused.backends import triton as triton_backend

HERE = Path(__file__).parent
SHAPE = (2, 4, 3, 3)


@pytest.fixture(scope="module")
def on_fake_driver(tmp_path_factory):
    pytest.importorskip("triton", reason="triton is not installed")
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc to build the stand-in for the CUDA driver, or Triton's launcher, with")
    folder = tmp_path_factory.mktemp("driver")
    source = HERE / "fake_libcuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", folder / "libcuda.so.1", source], check=True)

    def run(**environment: str):
        where = {"LD_LIBRARY_PATH": str(folder), "TRITON_LIBCUDA_PATH": str(folder)}
        settings = {**where, "TRITON_CACHE_DIR": str(folder / "cache"), **environment}
        done = compiling_process(str(HERE / "on_fake_driver.py"), **settings)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])  # Triton itself prints what an assembler refuses

    return run


def test_what_reaches_the_driver_is_what_triton_itself_would_send(on_fake_driver):
    said = on_fake_driver()
    assert said["first"] == said["again"] == said["by Triton itself"]
    assert said["first"]["stream"] == 7
    assert said["first"]["grid"][0] > 1
    assert said["variants"] == 2, "an unaligned tensor needs a kernel of its own"
    assert said["launches"] == 4
    assert (said["entered"], said["entered from another device"]) == ([], [0])


def test_a_kernel_that_does_not_compile_says_so(on_fake_driver, tmp_path):
    assembler = tmp_path / "ptxas"
    assembler.write_text(
        """#!/bin/sh
        [ "$1" = --version ] && echo "Cuda compilation tools, release 13.0, V13.0.88" && exit 0
        echo "out of order" >&2
        exit 1
        """
    )
    assembler.chmod(0o755)
    assemblers = dict.fromkeys(("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"), str(assembler))
    said = on_fake_driver(TRITON_CACHE_DIR=str(tmp_path / "cache"), **assemblers)
    assert said["unavailable"].startswith("Triton cannot compile gate_backward_kernel for cuda:0: ")


def test_a_failure_to_compile_is_crossed_off_under_auto_and_logged_once(monkeypatch, caplog):
    def broken(*arguments):
        raise bam_fused.BackendUnavailable("Triton cannot compile gate_kernel: for this test")

    monkeypatch.setattr(triton_backend, "_load", lambda operation: broken)
    works = dataclasses.replace(backends.REGISTRY["triton"], why_not=lambda device: None)
    monkeypatch.setitem(backends.REGISTRY, "triton", works)
    monkeypatch.setattr(backends, "auto_order", lambda operator, device: ("triton", "eager"))
    for choice in backends.CHOICES.values():
        monkeypatch.setattr(choice, "kernels", {})
    monkeypatch.setattr(backends, "_failed", {})
    monkeypatch.setattr(backends, "_logged", set())
    x, channel, spatial = feature_map(SHAPE), *logits(SHAPE)
    with bam_fused.use_backend("auto"), caplog.at_level(logging.WARNING, "bam_fused"):
        for _ in range(2):
            torch.testing.assert_close(
                bam_fused.gate(x, channel, spatial), bam_fused.reference.gate(x, channel, spatial)
            )
    assert [record.getMessage() for record in caplog.records] == [
        "gate runs in eager PyTorch on cpu (triton: Triton cannot compile gate_kernel: for this test)"
    ]
    monkeypatch.setattr(backends, "_failed", {})
    with bam_fused.use_backend("triton"), pytest.raises(bam_fused.BackendUnavailable, match="for this test"):
        bam_fused.gate(x, channel, spatial)


def test_why_not(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(triton_backend.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert "TRITON_INTERPRET=1" in triton_backend.why_not(cpu)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_backend.why_not(cpu) is None
    assert "does not serve mps" in triton_backend.why_not(torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in triton_backend.why_not(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GeForce GTX 1080")
    assert "GeForce GTX 1080 has compute capability (6, 1)" in triton_backend.why_not(torch.device("cuda", 0))
    monkeypatch.setattr(triton_backend.importlib.util, "find_spec", lambda name: None)
    assert triton_backend.why_not(cpu) == "triton is not installed"


def test_products_need_tensor_cores(monkeypatch):
    device = torch.device("cuda", 0)
    runs_there = dataclasses.replace(backends.REGISTRY["triton"], why_not=lambda device: None)
    monkeypatch.setitem(backends.REGISTRY, "triton", runs_there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    products = {name for name, served in backends.SERVED.items() if "triton" in served and "cuda" not in served}
    assert products == triton_backend.PRODUCTS
    for capability, runs in (((7, 5), False), ((8, 0), True), ((12, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert backends.why_not("triton", "gate", device) is None
        assert all((backends.why_not("triton", name, device) is None) == runs for name in products)
        if not runs:
            assert "Tesla T4 has compute capability (7, 5)" in backends.why_not("triton", "bam", device)


def test_the_interpreter_asked_for_too_late_says_so(device):
    """With compiled kernels, which a process without TRITON_INTERPRET=1 has, a CPU tensor is refused with the reason."""
    code = (
        "import os, torch, bam_fused\n"
        "import bam_fused.backends.triton.gate as gate\n"
        "os.environ['TRITON_INTERPRET'] = '1'\n"
        "gate.gate(torch.ones(1, 1, 1, 1), torch.ones(1, 1), torch.ones(1, 1, 1), 'sum')\n"
    )
    done = compiling_process("-c", code)
    assert "TRITON_INTERPRET=1 came too late" in done.stderr


def test_what_listens_to_operators_hears_them(device):
    tensors = [t.to(device) for t in (feature_map(SHAPE), *logits(SHAPE))]
    with bam_fused.use_backend("triton"):
        bam_fused.gate(*tensors)
        with torch.profiler.profile() as profile:
            bam_fused.gate(*tensors)
        with FakeTensorMode() as mode:
            fake = bam_fused.gate(*map(mode.from_tensor, tensors))
        outside = bam_fused.gate(*map(mode.from_tensor, tensors))
    assert "bam_fused::gate" in {event.key for event in profile.key_averages()}
    assert isinstance(fake, FakeTensor) and isinstance(outside, FakeTensor)
