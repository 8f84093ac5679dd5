"""Every operation has all that CONTRIBUTING asks for: this test walks through the operators and their descriptions."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

import bam_fused
from bam_fused import backends, functional
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.bench.sets import SETS, cases_of
from bam_fused.ops import OPERATORS

ROOT = Path(__file__).parents[1]
DESCRIBED = {name: samples for one in DESCRIPTIONS.values() for name, samples in one.operators.items()}
# A library that is not built is known to the dispatcher by no kernel of it.
KEYS = {name: key for name, key in (("cpu", "CPU"), ("cuda", "CUDA")) if getattr(backends, name).library is not None}

OF_KERNELS = {
    "bam_fused/backends/triton/": {"triton"},
    "csrc/cpu/": {"cpu"},
    "csrc/cuda/": {"cuda"},
    "csrc/operations/": {"cpu", "cuda"},  # what both libraries share
}
"""The folders whose files an operation has where these backends have a kernel for it."""


def _files_of_an_operation() -> list[str]:
    """The paths that CONTRIBUTING lists in its section on adding an operation, `<operation>` standing for the name."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## To add an operation")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


def test_every_operator_is_described_once():
    known = {
        name.partition("::")[2] for name in torch._C._dispatch_get_all_op_names() if name.startswith("bam_fused::")
    }
    assert {name.partition(".")[0] for name in known} == set(OPERATORS)
    listed = [name for one in DESCRIPTIONS.values() for name in one.operators]
    assert sorted(listed) == sorted(OPERATORS)


def test_every_public_operation_is_described_and_exported():
    for name in functional.__all__:
        assert getattr(bam_fused, name) is getattr(functional, name)
        assert name in bam_fused.__all__
        assert next(iter(DESCRIPTIONS[name].operators)) == name, "the forward operator comes first"


def test_contributing_names_at_most_ten_files():
    assert 5 <= len(_files_of_an_operation()) <= 10


@pytest.mark.parametrize("operation", functional.__all__)
def test_every_file_that_contributing_names_is_there(operation):
    for path in _files_of_an_operation():
        needed = next((names for folder, names in OF_KERNELS.items() if path.startswith(folder)), set())
        if needed <= set(OPERATORS[operation].backends):
            assert (ROOT / path.replace("<operation>", operation)).exists(), path


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_backend_has_the_kernels_it_is_said_to_have(operator):
    served = OPERATORS[operator].backends
    for name, key in KEYS.items():
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"bam_fused::{operator}.compiled", key) == (
            name in served
        )
    module = importlib.util.find_spec(f"bam_fused.backends.triton.{operator}")
    assert (module is not None) == ("triton" in served)
    assert backends.SERVED[operator] == (*served, "eager")


@pytest.mark.parametrize("operator", DESCRIBED)
def test_samples_follow_x(operator):
    for x in (
        torch.randn(2, 32, 5, 4, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last),
        torch.empty(1, 16, 7, 7, device="meta"),
    ):
        calls = list(DESCRIBED[operator](x))
        assert calls
        for arguments in calls:
            assert {t.device for t in tree_leaves(arguments) if isinstance(t, torch.Tensor)} == {x.device}
            OPERATORS[operator].check(*arguments)


def test_every_description_is_measured():
    for name, one in DESCRIPTIONS.items():
        assert "eager" in one.competitors and one.competitors[-1] == "fused"
        assert not one.floor or set(one.floor) == {"forward", "backward"}
        assert any(case.operation == name for case in cases_of("readme")), name
        assert {case.operation for cases in one.cases.values() for case in cases} <= {name}
        assert set(one.cases) <= set(SETS)
