"""A case from building to rows: checked before it is timed, absent with the reason, never a figure from a wrong result."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
import torch

from bam_fused.bench import run
from bam_fused.bench.cases import MODES, TINY, Case
from bam_fused.bench.check import Wrong, error, error_of_norms, tolerance, verify
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.problem import Competitor, Problem
from bam_fused.bench.run import CEILINGS, Plan, measure
from bam_fused.bench.sets import AT_FEATURE_MAPS, SETS, cases_of
from bam_fused.bench.timing import Effort

CPU = torch.device("cpu")
NOBODY = Competitor(lambda: torch.empty(0))
PLAN = Plan(Effort(seconds=0, least=2, most=2), compile_modes=(), onnx=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", AT_FEATURE_MAPS)
def test_every_operation_and_mode(operation: str, mode: str) -> None:
    measured = measure(Case(operation, TINY, mode=mode), CPU, PLAN)
    assert measured.absent == {}
    names = [row["competitor"] for row in measured.rows]
    assert names == [*DESCRIPTIONS[operation].competitors, *CEILINGS]
    rows = {row["competitor"]: row for row in measured.rows}
    for name, row in rows.items():
        assert row["rounds"] == len(measured.samples[name]) == 2
        assert row["seconds"]["median"] == statistics.median(measured.samples[name])
        ratios = [a / b for a, b in zip(measured.samples[name], measured.samples["fused"], strict=True)]
        assert row.get("over_fused", {"median": 1})["median"] == pytest.approx(statistics.median(ratios))
    for name in DESCRIPTIONS[operation].competitors:
        assert rows[name]["error"] < 1e-3
        assert ("saved_bytes" in rows[name]) == (mode != "inference")
        assert rows[name]["peak_bytes"] > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("memory_format", ["NCHW", "NHWC"])
def test_every_dtype_and_format(dtype: str, memory_format: str) -> None:
    measured = measure(Case("gate", TINY, dtype, memory_format, "forward+backward"), CPU, PLAN)
    assert measured.absent == {}
    unit = torch.finfo(getattr(torch, dtype)).eps
    assert all(row["error"] < 30 * unit for row in measured.rows if row["competitor"] not in CEILINGS)


def test_a_wrong_competitor_gets_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    build = DESCRIPTIONS["gate"].problem

    def with_a_wrong_one(case: Case, device: torch.device) -> object:
        problem = build(case, device)
        problem.competitors["wrong"] = Competitor(lambda x, c, s: x * 1.01)
        problem.competitors["broken"] = Competitor(lambda x, c, s: x @ c)
        return problem

    monkeypatch.setitem(DESCRIPTIONS, "gate", replace(DESCRIPTIONS["gate"], problem=with_a_wrong_one))
    measured = measure(Case("gate", TINY), CPU, PLAN)
    assert measured.row("wrong") is None
    assert "off by" in measured.absent["wrong"]
    assert measured.row("broken") is None
    assert measured.absent["broken"].startswith("RuntimeError")
    assert not {"wrong", "broken"} & set(measured.samples), "a wrong one is not even timed"
    assert [row["competitor"] for row in measured.rows] == [*DESCRIPTIONS["gate"].competitors, *CEILINGS]


def test_a_case_that_cannot_be_built_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(case: Case, device: torch.device) -> object:
        raise MemoryError("too much")

    monkeypatch.setitem(DESCRIPTIONS, "gate", replace(DESCRIPTIONS["gate"], problem=cannot))
    told: list[str] = []
    first, second = run.run([Case("gate", TINY), Case("global_avg_pool", TINY)], CPU, PLAN, told.append)
    assert first.rows == []
    assert first.absent == {"everybody": "MemoryError: too much"}
    assert second.rows
    assert len(told) == 2


def test_only_keeps_the_named_ones() -> None:
    measured = measure(Case("gate", TINY), CPU, replace(PLAN, only=("fused", "eager"), memory=False))
    assert [row["competitor"] for row in measured.rows] == ["eager", "fused", *CEILINGS]
    assert "peak_bytes" not in measured.rows[0]


def test_compile_and_onnx_runtime_compete_on_the_same_inputs() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    measured = measure(Case("global_avg_pool", TINY), CPU, replace(PLAN, onnx=True, compile_modes=("default",)))
    assert measured.absent == {}
    rows = {row["competitor"]: row for row in measured.rows}
    for name in ("compile", "onnxruntime"):
        assert rows[name]["error"] < 1e-6 and rows[name]["over_fused"]["median"] > 0


def test_error_is_relative_and_sees_nan() -> None:
    true = (torch.tensor([0.0, 2.0], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64))
    assert error((torch.tensor([0.0, 2.0]), torch.tensor([5.0])), true) == pytest.approx(0.25)
    with pytest.raises(Wrong, match="off by"):
        verify(
            (torch.tensor([0.0, float("nan")]), torch.tensor([4.0])), true, torch.float32, Problem((), NOBODY, {}, None)
        )
    with pytest.raises(Wrong, match="shape"):
        error((torch.tensor([0.0]), torch.tensor([4.0])), true)
    with pytest.raises(Wrong, match="1 results"):
        error((torch.tensor([0.0, 2.0]),), true)


def test_a_network_is_judged_by_norms() -> None:
    true = tuple(torch.tensor(values, dtype=torch.float64) for values in ([3.0, 4.0], [1e-9], [0.0, 10.0]))
    results = (torch.tensor([3.0, 4.5]), torch.tensor([1.0]), torch.tensor([0.0, 10.0]))
    assert error_of_norms(results, true) == pytest.approx(0.1)
    assert error_of_norms((results[0], *true[1:]), true) == pytest.approx(0.1)
    problem = Problem((), NOBODY, {}, None, by_norm=True)
    with pytest.raises(Wrong, match="of its norm"):
        verify(results, true, torch.float32, problem)
    with pytest.raises(Wrong, match="off by inf"):
        verify((torch.tensor([3.0, float("nan")]), *true[1:]), true, torch.float32, problem)


def test_neither_tf32_nor_a_flipped_relu_is_an_error() -> None:
    module, operation = (Problem((), NOBODY, {}, None, by_norm=by_norm) for by_norm in (True, False))
    gpu = torch.device("cuda")
    assert tolerance(torch.float32, gpu, module) == tolerance(torch.float16, gpu, module)
    assert tolerance(torch.float32, gpu, operation) == tolerance(torch.float32, CPU, operation)
    assert tolerance(torch.float32, CPU, module) == 10 * tolerance(torch.float32, CPU, operation)


@pytest.mark.parametrize("name", SETS)
def test_sets_hold_known_cases_once(name: str) -> None:
    cases = cases_of(name)
    assert len(cases) == len(set(cases)) > 0
    assert {case.operation for case in cases} <= set(DESCRIPTIONS)
    assert all(case.torch_dtype.is_floating_point and case.mode in MODES for case in cases)


def test_the_readme_set_shows_the_module_where_a_resnet50_has_it() -> None:
    found = {
        (case.shape, case.dtype, case.memory_format, case.mode)
        for case in cases_of("readme")
        if case.operation == "bam"
    }
    for shape in ((8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14)):
        assert {(shape, "float32", "NCHW", mode) for mode in ("inference", "forward+backward")} <= found, shape
    first = (8, 256, 56, 56)
    assert {(first, "float32", "NHWC", "inference"), (first, "bfloat16", "NCHW", "inference")} <= found
    assert ((1, 256, 56, 56), "float32", "NCHW", "inference") in found
