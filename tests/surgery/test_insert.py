"""insert_bam: a BAM acts where it was put and nowhere else, and the network lives on as before."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from attachable import ATTACHABLE, Growing, Residual, small, state
from torch import nn

from bam_fused import BAM, insert_bam, models
from bam_fused.surgery import InsertReport


def randomised(model: nn.Module) -> nn.Module:
    """The model with BAMs that do something: every parameter and running statistic drawn."""
    for module in model.modules():
        if isinstance(module, BAM):
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():
                    tensor.data.uniform_(0.2, 1.0)
    return model


PLACES = [(name, position) for name in ATTACHABLE for position in ("after", "before")]


@pytest.mark.parametrize(("name", "position"), [place for place in PLACES if place != ("walker", "before")])
def test_a_bam_acts_on_the_output_or_input_of_its_module_alone(name: str, position: str) -> None:
    plain, attended = small().eval(), small().eval()
    report = insert_bam(attended, at=[name], position=position, reduction=2, dilation=2)
    randomised(attended)
    bam = attended.get_submodule(f"{name}.bam")
    assert isinstance(bam, BAM) and [entry.name for entry in report] == [f"{name}.bam"]
    module = plain.get_submodule(name)
    if position == "after":
        module.register_forward_hook(lambda _, inputs, output: bam(output))
    else:
        module.register_forward_pre_hook(lambda _, inputs: (bam(inputs[0]),))
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(attended(x), plain(x), rtol=0, atol=0)


def test_nothing_that_existed_changes() -> None:
    model = small()
    model.stage.eval()
    before, tensors = state(model), {key: tensor.clone() for key, tensor in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    insert_bam(model, at=list(ATTACHABLE), reduction=4)
    after = state(model)
    assert {key: value for key, value in after[1].items() if ".bam." not in key} == before[1]
    assert [name for name, _ in model.named_parameters() if ".bam." not in name] == names
    assert [entry[2] for entry in after[0] if ".bam" not in entry[0]] == [entry[2] for entry in before[0]]
    assert not model.stage.bam.training and model.walker.bam.training
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in tensors.items())
    assert isinstance(model.growing, Growing) and isinstance(model.down, Residual)
    assert list(model.growing) == ["a", "b"] and len(model.growing) == 2 and len(model.reversed) == 2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


def test_identity_start_leaves_outputs_and_trains() -> None:
    plain, attended = small(), small()
    insert_bam(attended, at=list(ATTACHABLE), reduction=4, identity_start=True)
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    assert torch.equal(attended(x), plain(x))
    attended(x).square().sum().backward()
    scales = [module.residual_scale for module in attended.modules() if isinstance(module, BAM)]
    assert len(scales) == len(ATTACHABLE) and all(scale.grad.abs() > 0 for scale in scales)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "data_parallel", "compile", "export", "trace", "fx"])
def test_an_attended_network_survives(way: str) -> None:
    model = small().eval()
    insert_bam(model, at=list(ATTACHABLE), reduction=4)
    insert_bam(model, at=["reversed.0", "stage.1"], position="before", reduction=4)
    randomised(model)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    expected = model(x)
    torch.compiler.reset()
    other: Any = {
        "deepcopy": lambda: copy.deepcopy(model),
        "pickle": lambda: pickle.loads(pickle.dumps(model)),
        "data_parallel": lambda: nn.DataParallel(model),
        "compile": lambda: torch.compile(model, backend="aot_eager", fullgraph=True),
        "fx": lambda: torch.fx.symbolic_trace(model),
        "trace": lambda: torch.jit.trace(model, x),
        "export": lambda: torch.export.export(model, (x,)).module(),
    }[way]()
    torch.testing.assert_close(other(x), expected)
    if way in ("deepcopy", "pickle"):
        assert all(a is not b for a, b in zip(other.parameters(), model.parameters(), strict=True))
        other.stem.weight.data.zero_()
        assert torch.equal(model(x), expected) and not torch.equal(other(x), expected)


def test_wrapped_models_are_seen_through() -> None:
    """A model that has been compiled and run follows the insertion."""
    torch.compiler.reset()
    inner = small().eval()
    compiled, x = torch.compile(inner, backend="eager"), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    plain = compiled(x)
    report = insert_bam(nn.DataParallel(compiled), at=list(ATTACHABLE), reduction=4)
    assert [entry.name for entry in report] == [f"{name}.bam" for name in ATTACHABLE]
    randomised(inner)
    assert not torch.allclose(compiled(x), plain)
    torch.testing.assert_close(compiled(x), inner(x))


def test_bams_of_a_synchronised_network_are_synchronised() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(small())
    insert_bam(model, at="every-block", reduction=4)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 3 and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_the_report_prints_as_a_table() -> None:
    with torch.device("meta"):
        report = insert_bam(models.resnet50())
    assert isinstance(report, InsertReport) and report.parameters == 360_761
    lines = str(report).splitlines()
    assert lines[2].split() == ["layer1.bam", "after", "256", "56", "x", "56", "17,747"]
    assert lines[-1].split() == ["3", "modules", "360,761"]
