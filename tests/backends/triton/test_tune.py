"""The tuning command with a timer that makes times up: what is measured, written, read back, and kept."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from checking import check_gate
from drawing import feature_map, gradient, logits

pytestmark = [pytest.mark.triton_interpret, pytest.mark.usefixtures("triton_backend")]

SHAPE = (2, 8, 6, 6)


@pytest.fixture
def table(tmp_path, monkeypatch, device):
    """A table of this test's own, and Triton's modules with nothing prepared or read before it."""
    from bam_fused.backends.triton import tuned
    from bam_fused.bench import triton_operations

    file = tmp_path / "new" / "table.json"
    monkeypatch.setenv("BAM_FUSED_TRITON_TABLE", str(file))
    tuned.forget()
    yield file
    tuned.forget()
    triton_operations.forget()


def _view(device):
    from bam_fused.backends.triton.rows import extent_of

    return extent_of(SHAPE, True)


def test_the_fastest_config_is_written_and_used(table, device):
    from bam_fused.backends.triton import heuristics, tuned
    from bam_fused.bench import triton_operations, tune_triton

    calls = []

    def timer(call):
        """The heuristic's config takes 100, the next ones less and less, the one after the fifth is never faster."""
        if not calls:
            call()
        calls.append(call)
        return 100.0 - min(len(calls) % 50, 5)

    before = heuristics.gate(_view(device), torch.float32, device, 4, 1)
    tune_triton.run([SHAPE], [torch.float32], ["nchw"], device, timer)
    entries = json.loads(table.read_text())[tuned.device_name(device)]
    assert set(entries) == {f"{name} float32 nchw 8x36 2" for name in triton_operations.MODULES}
    after = heuristics.gate(_view(device), torch.float32, device, 4, 1)
    assert after == heuristics.PointwiseConfig(**entries["gate float32 nchw 8x36 2"])
    assert after != before
    check_gate(device, feature_map(SHAPE), *logits(SHAPE), gradient(SHAPE), "sum")


def test_the_rules_win_unless_something_is_faster(table, device):
    from dataclasses import asdict

    from bam_fused.backends.triton import heuristics
    from bam_fused.bench import tune_triton

    default = heuristics.gate(_view(device), torch.float32, device, 4, 1)
    key, entry, before, best = tune_triton.tune("gate", feature_map(SHAPE).to(device), lambda call: 1.0)
    assert (key, entry, before, best) == ("gate float32 nchw 8x36 2", asdict(default), 1.0, 1.0)


def test_every_candidate_runs(table, device):
    """The neighbours of every rule are configs that the kernels take."""
    from bam_fused.bench import triton_operations, tune_triton

    x = feature_map((1, 8, 4, 4)).to(device)
    for operation in triton_operations.MODULES:
        measured = []

        def timer(call, measured=measured):
            if len(measured) % 9 == 0:
                call()
            measured.append(call)
            return 1.0

        tune_triton.tune(operation, x, timer)
        assert len(measured) >= 9


def test_a_config_that_cannot_run_is_passed_over(table, device):
    from bam_fused.backends import BackendUnavailable
    from bam_fused.bench import tune_triton

    measured = []

    def timer(call):
        measured.append(call)
        if len(measured) == 2:
            raise BackendUnavailable("too much shared memory: for this test")
        return 2.0 if len(measured) == 3 else 3.0

    assert tune_triton.tune("gate", feature_map(SHAPE).to(device), timer)[2:] == (3.0, 2.0)


def test_entries_of_other_devices_are_kept(table):
    from bam_fused.backends.triton import tuned

    tuned.write(table, "one", {"a": {"warps": 1}, "b": {"warps": 1}})
    tuned.write(table, "another", {"a": {"warps": 2}})
    tuned.write(table, "one", {"b": {"warps": 4}})
    assert tuned.read(table) == {"one": {"a": {"warps": 1}, "b": {"warps": 4}}, "another": {"a": {"warps": 2}}}


@pytest.mark.parametrize(
    "entry",
    [{"elements": 100, "warps": 4}, {"elements": 1024}, {"tile_rows": 4, "warps": 4}, {"elements": 0, "warps": 4}],
)
def test_an_entry_that_is_no_config_is_left_out(table, device, entry, caplog):
    from bam_fused.backends.triton import heuristics, tuned

    usual = heuristics.gate(_view(device), torch.float32, device, 4, 1)
    tuned.write(table, tuned.device_name(device), {"gate float32 nchw 8x36 2": entry})
    tuned.forget()
    with caplog.at_level(logging.WARNING, "bam_fused"):
        assert heuristics.gate(_view(device), torch.float32, device, 4, 1) == usual
    assert "is left out" in caplog.text


def test_a_table_that_cannot_be_read_is_left_out(table, device, caplog):
    from bam_fused.backends.triton import tuned

    assert tuned.read(table) == {}
    table.parent.mkdir()
    table.write_text("{")
    with caplog.at_level(logging.WARNING, "bam_fused"):
        assert tuned.read(table) == {}
    assert str(table) in caplog.text


def test_the_table_lies_in_the_user_cache(monkeypatch, tmp_path):
    from bam_fused.backends.triton import tuned

    monkeypatch.delenv("BAM_FUSED_TRITON_TABLE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tuned.path() == tmp_path / "bam_fused" / "triton.json"
