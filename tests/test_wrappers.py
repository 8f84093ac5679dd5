"""What DataParallel and torch.compile put around a model and in front of names."""

import pytest
import torch
from torch import nn

from bam_fused.wrappers import unwrapped, unwrapped_name, unwrapped_names

WRAPPED = {
    "DataParallel": nn.DataParallel,
    "compile": torch.compile,
    "both": lambda model: nn.DataParallel(torch.compile(model)),
    "both, the other way": lambda model: torch.compile(nn.DataParallel(model)),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=list(WRAPPED))
def test_wrapped_models_and_their_names(wrap):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    wrapped = wrap(model)
    assert unwrapped(wrapped) is model
    assert list(unwrapped_names(wrapped.state_dict())) == list(model.state_dict())
    assert [unwrapped_name(name) for name in wrapped.state_dict()] == list(model.state_dict())


def test_what_is_no_wrapper_stays():
    model = nn.Sequential()
    model.module = nn.Linear(2, 2)
    assert unwrapped(model) is model
    names = {"module.weight": 1, "head.weight": 2}
    assert unwrapped_names(names) == names and unwrapped_names({}) == {}
