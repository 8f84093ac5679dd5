"""The worked cases of tests/data: what four public implementations gave, in float64, on drawn weights and inputs.

`state.*` are the weights, `x` and `g` the input and the output's gradient, `y_*` and `dx_*` what came out, `grad.*` and
`fgrad.*` the parameter gradients in training and in training with BatchNorm in eval, `after.*` the BatchNorm buffers
after the training step.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

NAMES = ("official", "fightingcv", "changzy00", "renovamen")
COMBINE = {"official": "product"}
_DATA = Path(__file__).parent / "data"


def worked_case(name):
    (path,) = _DATA.glob(f"{name}*.safetensors")
    return load_file(path)


def part(case, prefix):
    """The entries below a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in case.items() if key.startswith(prefix)}


def freeze_norms(module):
    """Train mode with every BatchNorm in eval, as detection backbones are trained."""
    module.train()
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def assert_worked_case(case, module, mode, to_names):
    """The module gives the case's output, gradients and running statistics in a mode: "eval", "train" or "frozen".

    to_names: from a dict under the module's own keys to one under the implementation's.
    """
    module.eval() if mode == "eval" else freeze_norms(module) if mode == "frozen" else module.train()
    x = case["x"].clone().requires_grad_()
    y = module(x)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(y, case[f"y_{mode}"], **close)
    if mode == "eval":
        return
    y.backward(case["g"])
    torch.testing.assert_close(x.grad, case[f"dx_{mode}"], **close)
    gradients = part(case, "grad." if mode == "train" else "fgrad.")
    ours = to_names({name: parameter.grad for name, parameter in module.named_parameters()})
    assert set(ours) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    buffers = part(case, "after." if mode == "train" else "state.")
    ours = to_names(dict(module.named_buffers()))
    assert ours
    for name, buffer in ours.items():
        torch.testing.assert_close(buffer, buffers[name], **close)
