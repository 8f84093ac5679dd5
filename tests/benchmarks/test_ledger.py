"""The traffic ledger: the counters on calls whose traffic is known, and this package's operations held to their floors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ledger import main
from torch import Tensor
from traffic import pages
from traffic.counter import DispatchCounter, Traffic, touched_bytes
from traffic.entries import COLUMNS, Entry, count, entries, table
from traffic.inductor import arrays_of, loop_nests

from bam_fused import backends
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.problem import Competitor

X = torch.randn(4, 8, 5, 5)
BYTES = 4 * X.numel()
needs_library = pytest.mark.skipif(
    backends.REGISTRY["cpu"].why_not(torch.device("cpu")) is not None,
    reason=f"the CPU library does not run: {backends.REGISTRY['cpu'].why_not(torch.device('cpu'))}",
)


def test_a_broadcast_dimension_costs_nothing() -> None:
    assert touched_bytes(torch.zeros(3, 1).expand(3, 100)) == 12
    assert touched_bytes(torch.zeros(0, 7)) == 0
    assert touched_bytes(torch.zeros(5, 7).t()) == 140


def test_operators_are_counted_and_views_are_not() -> None:
    traffic = Traffic()
    with DispatchCounter(traffic):
        X.view(-1).unsqueeze(0).expand(3, -1)
        torch.empty_like(X)
    assert (traffic.bytes, traffic.launches) == (0, 0)
    with DispatchCounter(traffic):
        X + 1
    assert (traffic.bytes, traffic.launches) == (2 * BYTES, 1)
    copy = X.clone()
    with DispatchCounter(traffic):
        copy.mul_(2)  # reads and writes
        copy.copy_(X)  # reads one, writes the other
    assert (traffic.bytes, traffic.launches) == (6 * BYTES, 3)


def test_autograd_is_counted_by_direction() -> None:
    traffic = count(Competitor(torch.sigmoid), (X,), compiled=False)
    assert traffic["forward"] == Traffic(2 * BYTES, 1)
    assert traffic["backward"] == Traffic(3 * BYTES, 1)  # the gradient and the saved output, and x's gradient


CODE = """
for(int x0=0; x0<8; x0+=1)
{
    {
        for(int x1=0; x1<4; x1+=1) { auto tmp0 = loadu(in_ptr0 + x1); tmp0.store(out_ptr0 + static_cast<long>(x1)); }
    }
}
int between = 0;
for(int x0=0; x0<8; x0+=1)
{
    out_ptr1[static_cast<long>(x0)] = in_ptr1[x0] + out_ptr0[x0];
    in_out_ptr0[x0] = in_out_ptr0[x0] + 1;
}
"""


def test_loop_nests_and_their_arrays() -> None:
    first, second = loop_nests(CODE)
    assert arrays_of(first) == ({"in_ptr0"}, {"out_ptr0"})
    assert arrays_of(second) == ({"in_ptr1", "out_ptr0", "in_out_ptr0"}, {"out_ptr1", "in_out_ptr0"})


def test_what_torch_compile_generates_is_counted() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.sigmoid(x) * x + 1

    traffic = count(Competitor(function), (X,), compiled=True)
    assert traffic["forward"] == Traffic(2 * BYTES, 1)
    assert traffic["backward"].bytes == 3 * BYTES


@pytest.mark.parametrize("memory_format", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operation", [name for name, one in DESCRIPTIONS.items() if one.floor])
@needs_library
def test_our_column_is_the_floor(operation: str, memory_format: str) -> None:
    ours = [entry for entry in entries(operation, memory_format, compile_too=False) if entry.competitor == "fused"]
    assert {entry.direction for entry in ours} == {"forward", "backward"}
    for entry in ours:
        assert entry.floor == DESCRIPTIONS[operation].floor[entry.direction]
        assert entry.floor <= entry.passes + 1e-9
        assert entry.passes < entry.floor + 0.03, entry  # the logits and their gradients are what is beyond it
        assert entry.launches == 1, entry


def test_eager_moves_more_than_the_floor() -> None:
    found = {(e.competitor, e.direction): e.passes for e in entries("gate", compile_too=False)}
    assert found["eager", "forward"] == pytest.approx(8, abs=0.05)
    assert found["eager", "backward"] == pytest.approx(11, abs=0.05)


def test_the_table_puts_the_floor_last() -> None:
    found = [Entry("gate", "forward", name, 2.0, 1, 2) for name in ("fused", "eager")]
    head, rows = table(found)
    assert head[1:] == [name for name in COLUMNS if name in ("eager", "fused")] + ["floor"]
    assert rows == [["gate forward", "2.00 (1)", "2.00 (1)", "2"]]


def test_ledger_prints_passes_and_floor(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--operation", "gate", "--no-compile"])
    head, _, forward, backward = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head[-2:] == ["fused", "floor"]
    assert (forward[:4], forward[-1]) == (["gate", "forward", "8.01", "(4)"], "2")
    assert (backward[:4], backward[-1]) == (["gate", "backward", "11.01", "(5)"], "3")


def test_ledger_writes_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "ledger.md"
    monkeypatch.setattr(pages, "why_not", lambda: None)
    monkeypatch.setattr(pages, "counted", lambda: [pages.Counted("gate", "NHWC", 1.0, 1.25, 0.5)])
    main(["--operation", "gate", "--no-compile", "--output", str(page)])
    text = page.read_text()
    assert text.index("## NCHW") < text.index("## NHWC")
    assert text.count("| gate backward | 11.01 (5) |") == 2
    assert "| gate | NHWC | 1.00 | 1.25 | 2.25 | 0.50 |" in text.partition("## What memory sees")[2]
