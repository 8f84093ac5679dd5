"""The authors' checkpoints in `bam_fused.models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bam_fused.models.resnet import Bottleneck, ResNet
from bam_fused.modules import BAM
from bam_fused.wrappers import unwrapped_names


def load_official(network: ResNet, checkpoint: Mapping[str, Any]) -> None:
    """Load a checkpoint of the authors' ResNets (Jongchan/attention-module), strictly.

    Args:
        network: built with ``attention="bam", official=True``, those with bottleneck blocks also with ``stride_on="3x3"``,
            for as many classes as the checkpoint has.
        checkpoint: what `torch.load` returns: a state_dict, or a dict with one under "state_dict".

    Raises:
        ValueError: the network has no BAM between its stages, has them in another form or its strides elsewhere; entries are
            missing, too many or of another shape. The network is then as it was.
    """
    state = unwrapped_names(checkpoint.get("state_dict", checkpoint))
    names = [name for name, module in network.named_children() if isinstance(module, BAM)]
    if not names:
        raise ValueError('network must have BAMs: build it with attention="bam", official=True')
    if any(isinstance(block, Bottleneck) and block.conv1.stride != (1, 1) for block in network.modules()):
        raise ValueError('network must have its strides on the 3x3 convolutions: build it with stride_on="3x3"')
    for name in names:
        entries = BAM.from_state_dict(state, combine="product", prefix=name).state_dict()
        if network.get_submodule(name).state_dict().keys() != entries.keys():
            raise ValueError(
                f"network's {name} is another form of BAM than the checkpoint's: build it with official=True"
            )
        state = {key: tensor for key, tensor in state.items() if not key.startswith(f"{name}.")}
        state |= {f"{name}.{key}": tensor for key, tensor in entries.items()}
    shapes, own = ({key: tensor.shape for key, tensor in one.items()} for one in (state, network.state_dict()))
    wrong = sorted(key for key in own.keys() | shapes.keys() if own.get(key) != shapes.get(key))
    if wrong:
        raise ValueError(f"checkpoint does not fit the network in {len(wrong)} entries, such as {wrong[:3]}")
    network.load_state_dict(state)
