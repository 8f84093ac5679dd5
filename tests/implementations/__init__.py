"""Public implementations of BAM, written anew from their descriptions: same names, same arithmetic, same faults."""

import torch

from implementations.authors import (
    AttentionAlone,
    DayelianxishengBAM,
    EHaNetBAM,
    MaXuBAM,
    OfficialBAM,
    OneBranch,
    UsesOneBranch,
    WithItsAttention,
    WithItsSpatialMap,
    WithoutNorms,
)
from implementations.fightingcv import FightingcvBAM, ResizedFightingcvBAM, WithoutChannelNorms
from implementations.flat import Asdf2krBAM, NguyenvietanBAM, STANetBAM
from implementations.libraries import BobMcDearBAM, PytorchcvBAM, RenovamenBAM
from implementations.numbered import AlbertterBAM, DscBAM, Ee898BAM, IndexedBAM, SharedMlpBAM, SimpleResearchBAM
from implementations.paper import BarkinadiguzelBAM, Changzy00BAM, GazaphrenologyBAM

__all__ = [
    "PARTIAL", "PUBLIC", "AlbertterBAM", "Asdf2krBAM", "AttentionAlone", "BarkinadiguzelBAM", "BobMcDearBAM",
    "Changzy00BAM", "DayelianxishengBAM", "DscBAM", "EHaNetBAM", "Ee898BAM", "FightingcvBAM", "GazaphrenologyBAM",
    "IndexedBAM", "MaXuBAM", "NguyenvietanBAM", "OfficialBAM", "OneBranch", "PytorchcvBAM", "RenovamenBAM",
    "ResizedFightingcvBAM", "STANetBAM", "SharedMlpBAM", "SimpleResearchBAM", "UsesOneBranch", "WithItsAttention",
    "WithItsSpatialMap", "WithoutChannelNorms", "WithoutNorms", "feature_map", "randomise",
]  # fmt: skip

PUBLIC = {
    "official": OfficialBAM,
    "pytorchcv": PytorchcvBAM,
    "fightingcv": FightingcvBAM,
    "changzy00": Changzy00BAM,
    "renovamen": RenovamenBAM,
    "bobmcdear": BobMcDearBAM,
    "indexed": IndexedBAM,
    "asdf2kr": Asdf2krBAM,
    "ee898": Ee898BAM,
    "simpleresearch": SimpleResearchBAM,
    "gazaphrenology": GazaphrenologyBAM,
    "albertter": AlbertterBAM,
    "shared-mlp": SharedMlpBAM,
    "barkinadiguzel": BarkinadiguzelBAM,
    "nguyenvietan": NguyenvietanBAM,
    "ma-xu": MaXuBAM,
    "dayelianxisheng": DayelianxishengBAM,
    "dsc-bam": DscBAM,
}
"""By layout; each takes the number of channels."""

PARTIAL = {
    "no channel norms": ("official", WithoutNorms),
    "no norms": ("official", lambda channels: WithoutNorms(channels, "all")),
    "spatial": ("official", lambda channels: OneBranch(channels, "spatial", (4, 4))),
    "channel": ("official", lambda channels: OneBranch(channels, "channel")),
    "fightingcv": ("fightingcv", WithoutChannelNorms),
    "nguyenvietan, channel": ("nguyenvietan", lambda channels: NguyenvietanBAM(channels, "c")),
    "nguyenvietan, spatial": ("nguyenvietan", lambda channels: NguyenvietanBAM(channels, "s")),
}
"""Copies that leave something out, with the layout whose names they have."""


def randomise(module, seed=0):
    """Weights, running statistics and all, at which every way of combining the branches gives something else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                value.copy_(0.5 + noise.abs() if name.endswith("running_var") else 0.5 * noise)
    return module


def feature_map(*shape, dtype=torch.float64, seed=1):
    """A map whose channel means differ from sample to sample."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (x + torch.randn(*shape[:2], 1, 1, generator=generator, dtype=torch.float64)).to(dtype)
