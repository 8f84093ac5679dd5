"""Four public implementations, on their own drawn weights: as a BAM from their checkpoint, and as live modules replaced."""

import pytest
import torch
from implementations import PUBLIC
from worked_cases import COMBINE, NAMES, assert_worked_case, part, worked_case

from bam_fused import BAM, replace_bam
from bam_fused.layouts import LAYOUTS
from bam_fused.layouts.recognise import recognise

MODES = ("eval", "train", "frozen")


def _renamed(name, bam):
    """From BAM's own keys to the implementation's, its 1x1-convolution weights included."""
    names = {key: there for key, there, _ in recognise(bam.to_layout(name)).entries()}
    shapes = {key: value.shape for key, value in bam.to_layout(name).items()}
    return lambda entries: {names[key]: value.reshape(shapes[names[key]]) for key, value in entries.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_bam_from_checkpoint(name, mode):
    case = worked_case(name)
    bam = BAM.from_state_dict(part(case, "state."), combine=COMBINE.get(name), dilation=LAYOUTS[name].dilation)
    assert_worked_case(case, bam, mode, _renamed(name, bam))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["written anew", "replaced", "from_module"])
def test_live_module(name, mode, how):
    case = worked_case(name)
    module = PUBLIC[name](32).double()
    module.load_state_dict(part(case, "state."))
    if how == "replaced":
        (entry,) = replace_bam(module)
        assert entry.replaced and entry.layout == name and entry.combine == COMBINE.get(name, "sum")
        assert entry.difference < 1e-12
    if how == "from_module":
        bam = BAM.from_module(module)
        assert_worked_case(case, bam, mode, _renamed(name, bam))
        (parameter, *_), (mine, *_) = module.parameters(), bam.parameters()
        assert mine is parameter and torch.equal(parameter.grad, mine.grad) if mode != "eval" else mine is parameter
    else:
        assert_worked_case(case, module, mode, lambda entries: entries)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_gives_back_keys_and_values(name):
    state = part(worked_case(name), "state.")
    back = BAM.from_state_dict(state, combine=COMBINE.get(name), dilation=LAYOUTS[name].dilation).to_layout(name)
    assert set(back) == set(state)
    for key, value in state.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value), key
    PUBLIC[name](32).double().load_state_dict(back)
