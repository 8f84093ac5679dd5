"""Copies that leave something out, and what no checkpoint of them tells."""

import re
from pathlib import Path

import pytest
from implementations import (
    PARTIAL,
    PUBLIC,
    Ee898BAM,
    GazaphrenologyBAM,
    OfficialBAM,
    OneBranch,
    WithoutNorms,
    feature_map,
    randomise,
)
from torch import nn
from torch.testing import assert_close

from bam_fused import BAM
from bam_fused.layouts import LAYOUTS


def assert_same_output(bam, module):
    x = feature_map(3, 32, 9, 9)
    assert_close(bam.eval()(x), module.eval()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", PARTIAL)
def test_copies_that_leave_something_out(case):
    layout, make = PARTIAL[case]
    module = randomise(make(32)).double()
    state = module.state_dict()
    dilation = LAYOUTS[layout].dilation
    inside = {f"bam2.{key}": value for key, value in state.items()}
    bam = BAM.from_state_dict(inside, combine=LAYOUTS[layout].combine, dilation=dilation)
    assert_same_output(bam, module)
    assert list(bam.to_layout(layout)) == list(state)
    adopted = BAM.from_module(module)
    assert {id(p) for p in adopted.parameters()} == {id(p) for p in module.parameters()}
    assert_same_output(adopted, module)


def test_norms_that_are_there_for_some_hidden_layers_only():
    module = WithoutNorms(32, "all")
    module.spatial_att.gate_s.gate_s_bn_di_1 = nn.BatchNorm2d(2)
    with pytest.raises(ValueError, match="followed by different things"):
        BAM.from_state_dict(module.state_dict(), combine="product")


GUESSED = {
    "fightingcv": (PUBLIC["fightingcv"], "takes several, 2 by default"),
    "gazaphrenology": (GazaphrenologyBAM, r"takes several, \(1, 2, 4\) by default"),
    "official, one branch": (OneBranch, "takes several, 4 by default"),
}


@pytest.mark.parametrize("case", GUESSED)
def test_a_guessed_dilation_is_warned_of(case):
    make, message = GUESSED[case]
    with pytest.warns(UserWarning, match=f"dilation is a guess: .*{message}"):
        BAM.from_state_dict(make(32).state_dict())


@pytest.mark.filterwarnings("error")
def test_a_dilation_that_is_told_or_never_another_is_no_guess():
    module = randomise(OneBranch(32, "spatial", (1, 2))).double()
    assert_same_output(BAM.from_state_dict(module.state_dict(), dilation=[1, 2]), module)
    BAM.from_state_dict(OfficialBAM(32).state_dict(), combine="product")
    BAM.from_state_dict(OneBranch(32, "channel").state_dict())


def test_names_that_are_in_use_with_both():
    module = randomise(Ee898BAM(32, "product")).double()
    with pytest.raises(ValueError, match=r"combine must be given for layout 'ee898'.* it is 'sum' in vipingautam1906"):
        BAM.from_state_dict(module.state_dict())
    assert_same_output(BAM.from_state_dict(module.state_dict(), combine="product"), module)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_readme_lists_every_layout_with_its_source(name):
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    (line,) = [line for line in readme.splitlines() if line.startswith(f"| `{name}` |")]
    repository = re.match(r"[\w.-]+/[\w.-]+", LAYOUTS[name].source)
    assert repository is None or repository[0] in line
