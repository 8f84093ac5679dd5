"""The kernels compiled ahead of time, without a GPU: full-width loads and stores, nothing spilled, the committed table."""

from __future__ import annotations

import json

import pytest
from checking import compiling_process
from scripts import ROOT, load

triton = pytest.importorskip("triton", reason="triton is not installed")

COMMAND = "benchmarks/static/triton_kernels.py"
TABLE = (ROOT / COMMAND).with_suffix(".md")
FEATURE_MAPS = {"gate": 2, "gate_backward": 3, "global_avg_pool": 1}  # those a kernel loads and stores


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Every kernel for every architecture, from the command, in a process where Triton compiles instead of interpreting."""
    cache = str(tmp_path_factory.mktemp("triton"))
    done = compiling_process(str(ROOT / COMMAND), "--json", TRITON_CACHE_DIR=cache)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _name(record) -> str:
    return " ".join(str(record[key]) for key in ("kernel", "shape", "dtype", "layout", "capability"))


@pytest.mark.parametrize("capability", [80, 90, 100, 120])
def test_every_kernel_compiles(records, capability):
    kernels = {record["kernel"] for record in records if record["capability"] == capability}
    assert kernels == {*FEATURE_MAPS, "sum_partials"}


def test_nothing_spills(records):
    assert [_name(record) for record in records if record["stack"]] == []


def test_feature_maps_are_loaded_16_bytes_at_a_time(records):
    """Among the shapes are rows of 49, 196 and 323 elements."""
    for record in records:
        if record["kernel"] in FEATURE_MAPS:
            assert set(record["loads"]) == {"16"}, _name(record)


def test_feature_maps_are_stored_16_bytes_at_a_time(records):
    for record in records:
        if record["kernel"] == "gate":
            assert record["stores"] == record["loads"], _name(record)
        if record["kernel"] == "gate_backward":  # besides dx it stores sums, some of them narrow
            assert record["stores"]["16"] >= record["loads"]["16"] // 2, _name(record)


@pytest.mark.parametrize("capability", [80, 90, 120])
def test_enough_is_in_flight(records, capability):
    """Five sixths of what keeps the GPU's memory busy, as up to an eighth of the lanes is idle; or half of all it reads.

    Left out are rows of 323 elements: eight of them, the fewest that begin at a multiple of a vector, are 63 % of a tile.
    """
    busy = load(COMMAND).DEVICES[capability].in_flight
    few = {
        _name(record): record["in_flight"]
        for record in records
        if record["kernel"] in FEATURE_MAPS and record["capability"] == capability and record["shape"][-2:] != [17, 19]
        if record["in_flight"] < min(busy * 5 / 6, record["reads"] / 2)
    }
    assert few == {}


def test_the_committed_table_is_what_the_command_writes(records):
    committed = TABLE.read_text()
    if f"Triton {triton.__version__}" not in committed:
        pytest.skip(f"the table was made by another Triton than {triton.__version__}")
    assert committed == load(COMMAND).table(records), f"make it again: python {COMMAND}"
