"""Competitors made from another one's arithmetic: torch.compile, ONNX Runtime and CUDA graphs.

Each raises `Absent` with the reason where it cannot take part; the reason goes into the results, never an empty cell.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bam_fused.bench.cases import Case
from bam_fused.bench.extras import MissingExtra, need
from bam_fused.bench.problem import Competitor

COMPILE_MODES = ("default", "max-autotune", "reduce-overhead")


class Absent(RuntimeError):
    """A competitor cannot take part in a case; the message says why."""


def compiled(competitor: Competitor, mode: str) -> Competitor:
    """The same arithmetic under torch.compile, specialised on the case's shapes as a first compilation is."""
    torch._dynamo.reset()  # a new shape would otherwise be compiled for dynamic shapes, or not at all
    function = torch.compile(competitor.function, dynamic=False, fullgraph=True, mode=mode)
    return Competitor(function, competitor.parameters)


class _Lambda(nn.Module):
    """A function as a module, which is what the exporter takes."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def onnx_runtime(case: Case, competitor: Competitor, inputs: tuple[Tensor, ...]) -> Competitor:
    """The same arithmetic exported to ONNX and run by ONNX Runtime on the CPU.

    Inputs and outputs are bound without a copy. Its memory arena is off, because an arena would hand the same warm memory
    out at every call, where the others write fresh memory.

    Raises:
        Absent: a package is missing, or the case is not one that ONNX Runtime takes.
    """
    if inputs[0].device.type != "cpu" or case.mode != "inference":
        raise Absent("ONNX Runtime is measured on the CPU, in inference")
    if (case.dtype, case.memory_format) != ("float32", "NCHW"):
        raise Absent("ONNX Runtime's CPU kernels are measured in float32, NCHW")
    try:
        onnxruntime = need("onnxruntime", "bench")
        for package in ("onnx", "onnxscript"):
            need(package, "bench")
    except MissingExtra as failure:
        raise Absent(str(failure)) from failure
    module = competitor.function if isinstance(competitor.function, nn.Module) else _Lambda(competitor.function)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.onnx"))
        _export(module, inputs, path)
        # its threads would go on spinning after a call, on the cores of whoever is called next
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Competitor(_runner(onnxruntime, session))


def _export(module: nn.Module, inputs: tuple[Tensor, ...], path: str) -> None:
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it reports every optional package that it would like to have
    training = module.training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module.eval(), inputs, path, dynamo=True, verbose=False)
    finally:
        module.train(training)
        exporter.setLevel(level)


def _runner(onnxruntime: Any, session: Any) -> Callable[..., Tensor]:
    names = [value.name for value in session.get_inputs()]
    output = session.get_outputs()[0].name

    def run(*inputs: Tensor) -> Tensor:
        binding = session.io_binding()
        for name, tensor in zip(names, inputs, strict=True):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy()))
        binding.bind_output(output, "cpu")
        session.run_with_iobinding(binding)
        result: Tensor = torch.utils.dlpack.from_dlpack(binding.get_outputs()[0])
        return result

    return run


def graphed(call: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
    """A call captured in a CUDA graph: every replay writes the same outputs.

    Raises:
        Absent: it cannot be captured.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            outputs = call()
    except RuntimeError as failure:
        raise Absent(f"it cannot be captured in a CUDA graph: {failure}") from failure

    def replay() -> tuple[Any, ...]:
        graph.replay()
        return outputs

    return replay
